"""The shape and strength of short lines: white noise through a Gaussian line (docs/theory.md, section 7).

Lines that are alike all over an image have a floor: where the image itself has least, a block holds little else. Which
blocks these are, some frequencies tell for the others; so chance does not make what is measured small.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import exp, inf, log, pi, sqrt

import numpy as np
import scipy
from numpy.typing import NDArray

from sagd_cli.config.noise_spectrum import NoisePart
from sagd_cli.damage.strength import TINY
from sagd_cli.spectral.band import Band, Stripe
from sagd_cli.spectral.grid import Array
from sagd_cli.spectral.power_law import OFFSET
from sagd_cli.spectral.spectrum import hann_taper

RING = 4.0  # bins: every other ring about DC tells which blocks have least in the others
LOWEST = 0.12  # share of the blocks
STRIP_ASIDE = 2.0  # bins off the middle of a strip up to which it tells how much a block has
FITTED_FROM, FITTED_ASIDE = 3.0, 12.0  # bins from DC, and off the middle of a strip, of what is fitted
STRIP_TO = 0.35  # cycles/pixel up to which a strip tells how much a block has
TURNS = (-8.0, 0.0, 8.0)  # degrees about the angle that was seen, from which a fit begins
STARTED = np.arange(-4.0, 4.1, 1.0)  # degrees about these
FIRST_SIZES = ((20.0, 1.2), (20.0, 4.0), (30.0, 1.2))  # lengths and widths in pixels
STRIDES = (1.5, 0.5, 0.4, 0.7, 0.5, 0.3)  # of the search, in degrees and logarithms
LOBE_VARIANCE = 1 / 3  # in bins, of the power of a Hann taper's main lobe, which is nearly a Gaussian
SHORTEST_LINE, LONGEST_LINE = 1.0, 0.5  # pixels, and of a block's side, which does not tell longer ones apart
THINNEST_LINE, BROADEST_LINE = 0.4, 8.0  # pixels
STRIPS, STEP_DB = 8, 4.0  # of the strips that together fall off as the spectrum does
GUARD, LEAST_END = 0.01, 0.05  # rho: a strip from DC on would be whole lines, and small images have few bins


@dataclass(frozen=True)
class ShortLines:
    """White noise through a Gaussian line at `angle` degrees, counter-clockwise from horizontal ones.

    `length` and `width` are the Gaussian's standard deviations in pixels, along the line and across it. The noise has
    the standard deviation `deviation`.
    """

    angle: float
    length: float
    width: float
    deviation: float

    @property
    def stripe(self) -> Stripe:
        """The strip that holds nearly all of their power."""
        return self._strip(STRIPS - 0.5)

    @property
    def parts(self) -> list[NoisePart]:
        """Their noise: strips within strips, whose powers add up to a Gaussian along and across the strip."""
        # The power is the square of the deviation in the mean over the spectrum, which ends at 1/2.
        sides = [scipy.special.erf(pi * size) / (2 * sqrt(pi) * size) for size in (self.length, self.width)]
        powers = self.deviation**2 / (sides[0] * sides[1]) * 10 ** (-STEP_DB / 10 * np.arange(STRIPS + 1))
        powers[-1] = 0.0
        levels = [float(f"{level:.4g}") for level in np.sqrt(-np.diff(powers))]
        return [NoisePart(Band((self._strip(k + 0.5),)), level) for k, level in enumerate(levels)]

    def _strip(self, steps: float) -> Stripe:
        """Return the strip of the area of the ellipse on which the power is `steps` steps below its top."""
        radius = sqrt(log(10) * STEP_DB / 10 * steps) / (2 * pi) * sqrt(pi) / 2
        width, end = (
            min(2 * radius / self.length, 0.5),
            np.clip(sqrt(2) * radius / self.width, LEAST_END, 1.0),
        )
        return Stripe(f"{round(self.angle % 180, 2):g}", float(f"{width:.3g}"), GUARD, float(f"{end:.3g}"))


def fitted_lines(powers: Array, angle: float) -> Iterator[ShortLines]:
    """Yield the lines near an angle that explain the blocks of images that have least at their frequencies.

    `powers` (blocks, side, side) are Hann-tapered power spectra, DC first. The fit is by Whittle's likelihood, beside a
    power law for the images. It is begun at several angles; what explains most comes first.
    """
    near = _Near.of(powers.shape[-1], angle)
    power = _least(powers, angle)
    fits = sorted((near.fitted(power, angle + turn) for turn in TURNS), key=lambda fit: fit[0])
    for _, lines in fits:  # once more, as what is near the right angle is known only now
        near = _Near.of(near.side, lines.angle)
        yield near.fitted(_least(powers, lines.angle), lines.angle)[1]


def is_worth_it(powers: Array, lines: ShortLines) -> bool:
    """Tell whether a Wiener filter takes more from the lines than from the image, in blocks of the usual power.

    `powers` are as in `fitted_lines`. The filter knows the lines, and the image from beside their strip; but an image
    may have more in the strip, which the filter takes, too.
    """
    near = _Near.of(powers.shape[-1], lines.angle)
    power = np.median(powers, axis=0)[near.mask] / log(2)  # the mean of an exponential
    noise = near.expected(lines.angle, lines.length, lines.width) * lines.deviation**2 * near.taper
    kept = 1 / (1 + noise / np.exp(near.design @ near.law(power)))
    gain, loss = (1 - kept**2) @ noise, (1 - kept) ** 2 @ np.maximum(power - noise, 0.0)
    return bool(loss < gain)


@dataclass(frozen=True)
class _Near:
    """The frequencies near a strip, one of f and -f, in blocks of `side` pixels; power laws are of `design`."""

    side: int
    mask: NDArray[np.bool_]
    f_y: Array
    f_x: Array
    beside: NDArray[np.bool_]
    design: Array

    @classmethod
    def of(cls, side: int, angle: float) -> "_Near":
        f_y, f_x = np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side), indexing="ij")
        radius, (along, _) = np.hypot(f_y, f_x), _turned(f_y, f_x, angle)
        mask = (np.abs(along) < FITTED_ASIDE / side) & (radius > FITTED_FROM / side) & (radius < 0.5)
        mask &= np.arange(side) <= side // 2
        design = np.stack([np.ones(mask.sum()), np.log(radius[mask] + OFFSET)], axis=1)
        return cls(side, mask, f_y[mask], f_x[mask], np.abs(along[mask]) > 2 * STRIP_ASIDE / side, design)

    @property
    def taper(self) -> float:
        """The sum of the squares of the taper."""
        return float(np.sum(np.outer(hann_taper(self.side), hann_taper(self.side)) ** 2))

    def law(self, power: Array) -> Array:
        """Return the coefficients of the power law of what is beside the strip."""
        found = np.linalg.lstsq(self.design[self.beside], np.log(power[self.beside]), rcond=None)[0]
        return found.astype(np.float64)

    def expected(self, angle: float, length: float, width: float) -> Array:
        """Return the power of lines of variance 1 in tapered blocks, but for that of the taper."""
        power = np.ones_like(self.f_y)
        for frequency, size in zip(_turned(self.f_y, self.f_x, angle), (length, width), strict=True):
            variance = 1 / (8 * pi**2 * size**2) + LOBE_VARIANCE / self.side**2
            power = power * np.exp(-(frequency**2) / (2 * variance)) / sqrt(2 * pi * variance)
        return power

    def fitted(self, power: Array, angle: float) -> tuple[float, ShortLines]:
        """Return how badly lines at about an angle explain the power (side, side) of blocks, and these lines."""
        power = power[self.mask]
        law = self.law(power)
        most = np.log([LONGEST_LINE * self.side, BROADEST_LINE])

        def misfit(shape: Array) -> float:
            turn, length, width, level, *image = shape
            if not (log(SHORTEST_LINE) <= length <= most[0] and log(THINNEST_LINE) <= width <= most[1]):
                return inf
            lines = exp(level) * self.expected(turn, exp(length), exp(width))
            expected = lines + np.exp(self.design @ image)
            return float(np.sum(np.log(expected) + power / expected))

        above = power - np.exp(self.design @ law)
        starts = []
        for turn in angle + STARTED:
            for length, width in FIRST_SIZES:
                unit = self.expected(turn, length, width)
                level = log(max(float(unit @ above) / float(unit @ unit), TINY))
                starts.append(np.array([turn, log(length), log(width), level, *law]))
        best = min(starts, key=misfit)
        simplex = best + np.vstack([np.zeros(6), np.diag(STRIDES)])
        options = {"initial_simplex": simplex, "xatol": 0.01, "fatol": 0.05}
        found = scipy.optimize.minimize(misfit, best, method="Nelder-Mead", options=options)
        turn, length, width, level = found.x[:4]
        deviation = sqrt(exp(level) / self.taper)
        return float(found.fun), ShortLines(float(turn % 180), exp(length), exp(width), deviation)


def _turned(f_y: Array, f_x: Array, angle: float) -> tuple[Array, Array]:
    """Return frequencies along lines at an angle and across them."""
    sine, cosine = np.sin(np.radians(angle)), np.cos(np.radians(angle))
    return f_x * cosine - f_y * sine, f_x * sine + f_y * cosine


def _least(powers: Array, angle: float) -> Array:
    """Return the mean power of the blocks that have least in the strip of lines at an angle."""
    side = powers.shape[-1]
    f_x: Array = np.fft.fftfreq(side).astype(np.float64)
    f_y = f_x[:, None]
    radius, (along, _) = np.hypot(f_y, f_x), _turned(f_y, f_x, angle)
    strip = (np.abs(along) <= STRIP_ASIDE / side) & (radius > FITTED_FROM / side) & (radius < STRIP_TO)
    rings = ring_numbers(radius * side)
    least = np.empty((side, side))
    for own, other in ((rings, 1 - rings), (1 - rings, rings)):
        lowest = least_of(np.log(powers[:, strip & (other == 1)]).mean(axis=1), LOWEST)
        least[own == 1] = powers[lowest].mean(axis=0)[own == 1]
    return least


def ring_numbers(bins: Array) -> NDArray[np.int64]:
    """Return 0 and 1 for every other ring about DC; `bins` are distances from it."""
    return (bins // RING).astype(np.int64) % 2


def least_of(values: Array, share: float) -> NDArray[np.int64]:
    """Return the places of a share of the least values along the first axis, four at least."""
    return np.argsort(values, axis=0)[: max(4, round(share * len(values)))]
