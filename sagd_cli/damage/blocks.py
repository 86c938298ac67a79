"""The strength of one kind of noise, from how the power of blocks of images differs (docs/theory.md, section 6).

Noise is alike all over an image, and images are not: the power of their blocks differs by orders of magnitude. So what
the faintest blocks have in common is noise. A block of a clean image has a power law, whose level and slope differ from
block to block (a scale mixture; Wainwright & Simoncelli, NIPS 1999), and the noise adds the same to each.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np
import scipy
from numpy.typing import NDArray

from sagd_cli.damage.fields import Fields
from sagd_cli.damage.strength import TINY, Strength
from sagd_cli.spectral.grid import Array, FrequencyGrid
from sagd_cli.spectral.peaks import CORRELATED_BINS
from sagd_cli.spectral.power_law import SLOPE, SLOPE_DEVIATION
from sagd_cli.spectral.spectrum import crop_spectrum, periodograms

BLOCK_GRID = FrequencyGrid((32, 32))
FEWEST_BLOCKS, MOST_SAMPLED = 49, 256
CLIPPED = 0.05  # share of black and white pixels from which on a block is left out: its noise was clipped
# Blocks are like those beside them, and follow no law exactly: so many of them tell as much as one should.
BLOCKS_ALIKE = 10
HALF_OCTAVES = 2 / 32 * 2 ** (np.arange(7) / 2)  # cycles/sample: they begin beyond the lobe of the taper
LEVEL_AT = 0.2  # cycles/sample, where the level of a block is given
DEPARTURE = 0.5  # standard deviation by which the power in half an octave departs from the law of its block
BLOCK_SLOPES, SLOPE_SPREAD = np.arange(0.4, 5.6, 0.5), 0.6  # and how they differ within an image
LEVEL_STEP, FAINTEST_LEVEL = 0.15, -16.0  # of the logarithms of levels, relative to the mean power
SPREADS = 0.12 * 2 ** (np.arange(21) / 4)  # standard deviations of those logarithms in an image
SPREAD_PRIOR = -np.log1p(
    np.square(np.log(SPREADS / 1.6) / 0.6)
)  # of photographs; few textures are alike all over
HIGHEST = 2.0  # the largest variance that is tried, relative to the faintest third of the blocks
COARSE, FINE, DEPTH = (
    0.6,
    0.15,
    9.0,
)  # steps of the logarithm of the variance that is tried, and how far it goes down
ITERATIONS = 8
DROP = 1.92  # of the logarithm of the likelihood, at the ends of a 95 % interval


def surer(found: Strength, fields: Fields, power: Array) -> Strength:
    """Return `found`, the strength of noise in `fields`, or what their blocks tell where that is not certain.

    `power` is the power spectrum of the noise at strength 1 on the grid of `fields.extent`. Fields with fewer than 49
    blocks of 32x32 pixels tell nothing, and blocks that tell of more noise than the interval of `found` allows are of a
    texture that is alike all over.
    """
    if found.certain or found.lost or found.high == 0:
        return found
    blocks = _blocks(fields)
    if len(blocks) < FEWEST_BLOCKS or np.ptp(blocks, axis=(1, 2)).max() <= TINY:
        return found
    disjoint = fields.independent * fields.values[0].size / BLOCK_GRID.size
    share = min(1.0, disjoint / len(blocks)) / BLOCKS_ALIKE
    told = _strength(blocks, crop_spectrum(power, FrequencyGrid(fields.extent), BLOCK_GRID), share)
    return told if told.value <= found.high else found


def _blocks(fields: Fields) -> NDArray[np.float32]:
    """Return blocks (M, 32, 32) of fields, half-overlapping, 256 at most."""
    height, width = fields.shape
    side = BLOCK_GRID.shape[0]
    if min(height, width) < side:
        return np.zeros((0, *BLOCK_GRID.shape), np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(fields.values, BLOCK_GRID.shape, axis=(2, 3))
    blocks: NDArray[np.float32] = windows[:, :, :: side // 2, :: side // 2].reshape(-1, *BLOCK_GRID.shape)
    kept = np.mean(np.abs(blocks) >= 1, axis=(1, 2)) <= CLIPPED
    if np.count_nonzero(kept) >= FEWEST_BLOCKS:
        blocks = blocks[kept]
    chosen: NDArray[np.float32] = blocks[np.unique(np.linspace(0, len(blocks) - 1, MOST_SAMPLED).astype(int))]
    return chosen


def _groups(noise: Array) -> Array:
    """Return the weights (bins, J) of J groups of frequencies: half octaves, split where the noise has its edges."""
    octave = np.digitize(BLOCK_GRID.radius, HALF_OCTAVES)
    keys = 2 * octave
    for value in np.unique(octave):
        here = octave == value
        keys[here] += noise[here] > 0.5 * noise[here].max()
    used = octave > 0
    index = np.unique(keys[used], return_inverse=True)[1]
    weights = np.zeros((noise.size, index.max() + 1))
    weights[np.flatnonzero(used), index] = np.broadcast_to(BLOCK_GRID.multiplicity, noise.shape)[used]
    return weights


def _strength(blocks: NDArray[np.float32], noise: Array, share: float) -> Strength:
    weights = _groups(noise)
    count = weights.sum(axis=0)
    average = weights / count
    blocks = blocks - blocks.mean(axis=(1, 2), keepdims=True)
    energies = periodograms(blocks, BLOCK_GRID, hann=True).reshape(len(blocks), -1) @ average
    scale = float(energies.mean())
    energies = energies / scale + 1e-9
    mixture = _Mixture(
        energies,
        noise.ravel() @ average,
        np.log(np.maximum(BLOCK_GRID.radius.ravel(), 1e-9) @ average / LEVEL_AT),
        count / 2 / CORRELATED_BINS**BLOCK_GRID.ndim,
        share,
    )
    law, tried = _Law(), {}

    def attempt(variances: Array, law: _Law) -> _Law:
        for variance in variances:
            tried[float(variance)], law = mixture.fitted(float(variance), law)
        return law

    law = attempt(mixture.highest * np.exp(-np.arange(0, DEPTH, COARSE)), law)
    attempt(np.zeros(1), law)
    best = max([variance for variance in tried if variance], key=tried.__getitem__)
    _, law = mixture.fitted(best, law)
    for direction in (FINE, -FINE):
        attempt(best * np.exp(direction * np.arange(1, 4)), law)
    variances = np.array(sorted(tried))
    likelihood = np.array([tried[variance] for variance in variances])
    place = np.log(np.maximum(variances, variances[1] / 2))
    fine = np.linspace(place[0], place[-1], 2000)
    curve = scipy.interpolate.PchipInterpolator(place, likelihood)(fine)
    inside = np.exp(fine[curve > curve.max() - DROP] / 2) * sqrt(scale)
    low = 0.0 if curve[0] > curve.max() - DROP else float(inside[0])
    return Strength(float(np.exp(fine[curve.argmax()] / 2)) * sqrt(scale), low, float(inside[-1]))


@dataclass(frozen=True)
class _Law:
    """The means of the levels (None: not known yet) and slopes of the blocks of an image; the spread of the levels."""

    level: float | None = None
    slope: float = SLOPE
    spread: float = 1.6


class _Mixture:
    """The likelihood of the power of blocks, whose laws are latent, given the variance of the noise."""

    def __init__(self, energies: Array, noise: Array, places: Array, freedom: Array, share: float) -> None:
        """Take the power (M, J) of blocks in groups of frequencies, and the noise's (J,).

        The groups lie at the `places` (J,), logarithms of frequencies relative to LEVEL_AT, and have `freedom` (J,)
        independent exponentials each. A block counts as `share` of an observation.
        """
        self._energies, self._noise, self._freedom, self._share = energies, noise, freedom, share
        self._levels = np.arange(
            max(np.log(energies.min()) - 2, FAINTEST_LEVEL), np.log(energies.max()) + 1, LEVEL_STEP
        )
        self._images = np.exp(self._levels[:, None, None] - BLOCK_SLOPES[:, None] * places)
        self._images = self._images.reshape(-1, len(places))

    @property
    def highest(self) -> float:
        """The largest variance that the noise may have."""
        carried = self._noise > self._noise.max() / 20
        faint = np.quantile(self._energies[:, carried] / self._noise[carried], 0.3, axis=0)
        return HIGHEST * float(faint.min())

    def _fits(self, variance: float) -> Array:
        """Return the logarithms (M, L) of the likelihood of each block given each law.

        The power in a group has a gamma distribution. The noise's part has its exact variance; the image's departs
        from its law besides.
        """
        noise = variance * self._noise
        mean = noise + self._images
        own = 1 / self._freedom
        shape = mean**2 / (noise**2 * own + self._images**2 * (own + DEPARTURE**2))
        constant = np.sum(shape * np.log(shape / mean) - scipy.special.gammaln(shape), axis=1)
        rates, shapes, energies = (x.astype(np.float32) for x in (shape / mean, shape, self._energies))
        fits: Array = constant.astype(np.float32) + np.log(energies) @ shapes.T - energies @ rates.T
        return fits

    def fitted(self, variance: float, law: _Law) -> tuple[float, _Law]:
        """Return the logarithm of the posterior at the likeliest law of the image, and that law.

        The law is found by expectation maximisation, from `law` on (Dempster, Laird & Rubin, J. R. Stat. Soc. B 1977).
        """
        fits = self._fits(variance)
        best = fits.max(axis=1, keepdims=True)
        fits = np.exp(fits - best)
        levels, count = self._levels, self._share * len(fits)
        level, slope, spread = law.level, law.slope, law.spread
        level = float(np.median(levels)) if level is None else level
        for _ in range(ITERATIONS):
            prior = np.outer(
                _normal(levels, level, spread), _normal(BLOCK_SLOPES, slope, SLOPE_SPREAD)
            ).astype(np.float32)
            total = fits @ prior.ravel()
            laws = prior * (fits.T @ (1 / total)).reshape(prior.shape) / len(fits)
            of_levels, of_slopes = laws.sum(axis=1), laws.sum(axis=0)
            level = float(of_levels @ levels)
            precision = count * (SLOPE_DEVIATION / SLOPE_SPREAD) ** 2
            slope = float((precision * (of_slopes @ BLOCK_SLOPES) + SLOPE) / (precision + 1))
            square = float(of_levels @ (levels - level) ** 2)
            of_spreads = SPREAD_PRIOR - count * (np.log(SPREADS) + square / (2 * SPREADS**2))
            spread = float(SPREADS[of_spreads.argmax()])
        likelihood = self._share * float(np.sum(np.log(total)) + best.sum())
        prior_of_law = float(np.interp(spread, SPREADS, SPREAD_PRIOR))
        prior_of_law -= ((slope - SLOPE) / SLOPE_DEVIATION) ** 2 / 2
        return likelihood + prior_of_law, _Law(level, slope, spread)


def _normal(values: Array, mean: float, deviation: float) -> Array:
    density = np.exp(-(((values - mean) / deviation) ** 2) / 2)
    return np.asarray(density / max(density.sum(), TINY))
