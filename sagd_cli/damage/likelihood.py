"""How strong the in-band noise is: maximum likelihood on the power spectrum (docs/theory.md, section 6).

The power of images is averaged over groups of frequencies: annuli, split where the band cuts them. Noise of amplitude
gamma adds gamma^2 times its own spectrum to the mean of each group, so gamma^2 is a regression coefficient. By the
central limit theorem its likelihood is the normal one of generalised least squares (Aitken, Proc. R. Soc. Edinburgh
1936). The covariance is that of images as they are: heavy-tailed, and correlated between frequencies. The groups
outside the band tell how these images differ from the average image, which sharpens what is expected inside. What they
cannot explain widens the interval.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy
from numpy.typing import NDArray

from sagd_cli.damage.groups import Groups
from sagd_cli.damage.strength import ITERATIONS, NORMAL_95, TINY, Strength, variance_interval
from sagd_cli.errors import DataError
from sagd_cli.spectral.grid import Array

ERASED = 0.01  # share of the clean images' power in the band below which nothing is left of them
DROWNED = 0.005  # share that clean images have in the power of the band below which they do not show
ATTENUATED = 0.25  # share of the clean images' power below which a band was tampered with
FEWEST_OUTSIDE = 3
# Departures from a power law: correlation length in log r (an octave), and the standard deviations of log S tried.
# The least is that of photographs whose spectra roll off: none follows a law more closely than 0.9 dB.
DEPARTURE = math.log(2)
DEPARTURES = (0.2, 0.4, 0.8, 1.6)


@dataclass(frozen=True, eq=False)
class _Expected:
    """What images have without noise: the mean `power` (K,) and the `covariance` (K, K) of its error.

    `used` (G,) says which K of the G groups that is.
    """

    power: Array
    covariance: Array
    used: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Reference:
    """The `powers` (M, G) of clean images; `count` is how many of the M share no sample."""

    powers: Array
    count: int

    @cached_property
    def mean(self) -> Array:
        """Mean power (G,) of the images."""
        return np.asarray(self.powers.mean(axis=0))

    @property
    def _trusted(self) -> float:
        # Few images do not tell all correlations: those that chance makes are shrunk, and what is left is uncertain.
        return self.count / (self.count + len(self.mean))

    @cached_property
    def _covariance(self) -> Array:
        """Covariance (G, G) of the powers of one image."""
        sample, groups = self.powers.shape
        covariance = np.cov(self.powers.T, ddof=min(1, sample - 1)).reshape(groups, groups)
        return np.asarray(self._trusted * covariance + (1 - self._trusted) * np.diag(np.diag(covariance)))

    def expected(self, count: int) -> _Expected:
        """Return what the mean of `count` images of this kind is expected to have, in all groups."""
        covariance = self._covariance * ((1 / count + 1 / self.count) / self._trusted)
        return _Expected(self.mean, covariance, np.ones(len(self.mean), dtype=bool))


def strength_from_reference(power: Array, count: int, groups: Groups, reference: Reference) -> Strength:
    """Return the strength of what `power`, the mean powers (G,) of images, has in the band above clean images.

    `count` is how many of the images share no sample. Raises DataError when the images are constant, and when the band
    holds much less than that of clean images, though not nothing.
    """
    _check_content(power)
    found = _solve(power, reference.expected(count), groups, count)
    inside, bins = groups.inside, groups.bins[groups.inside]
    damaged, clean = (float(p[inside] @ bins) for p in (power, reference.mean))
    if found.high == 0 and damaged < ATTENUATED * clean:
        raise DataError(
            f"the band holds {damaged / clean:.0%} of the power it has in the reference: it was attenuated",
            "That is neither noise nor a lost band. If the reference is like the images, --estimate notch "
            "removes what is left.",
        )
    return found


def strength_from_power_law(power: Array, count: int, groups: Groups) -> Strength:
    """Return the strength of what `power`, the mean powers (G,) of images, has in the band above a power law.

    `count` is how many of the images share no sample. The law S = c r^-beta is that of the groups outside the band; how
    far those depart from it widens the interval. Raises DataError when the images are constant, and when too few groups
    are outside.
    """
    _check_content(power)
    if np.count_nonzero(~groups.inside) < FEWEST_OUTSIDE:
        raise DataError(
            "the band leaves too few frequencies to tell its noise from the images",
            "Give the strength with --strength, or clean images with --reference.",
        )
    return _solve(power, _expected_of_law(power, count, groups), groups, count)


def _check_content(power: Array) -> None:
    if not np.any(power > TINY):
        raise DataError(
            "the images are constant: nothing can be told about noise in them",
            "Leave out the images without content.",
        )


def _expected_of_law(power: Array, count: int, groups: Groups) -> _Expected:
    """Return what a power law through the groups outside the band makes of those inside.

    log S = a - b log r + u. The Gaussian process u in log r is what the images have besides a power law. It is as
    large inside the band as it is outside (universal kriging; Cressie, Statistics for Spatial Data, 1993, section 3.4;
    variance by restricted maximum likelihood).
    """
    inside, log_radius = groups.inside, np.log(groups.radius)
    design = np.stack([np.ones_like(log_radius), log_radius], axis=1)
    departure = np.exp(-np.abs(log_radius[:, None] - log_radius) / DEPARTURE)
    shape = groups.bins[~inside] * count
    observed = np.log(np.maximum(power[~inside], TINY)) - (scipy.special.digamma(shape) - np.log(shape))
    fits = [
        _kriging(observed, scale**2 * departure + np.diag(1 / (groups.bins * count)), design, inside)
        for scale in DEPARTURES
    ]
    _, predicted, covariance = max(fits, key=lambda fit: fit[0])
    level = np.exp(predicted)
    return _Expected(level, covariance * level[:, None] * level, inside)


def _kriging(
    observed: Array, covariance: Array, design: Array, inside: NDArray[np.bool_]
) -> tuple[float, Array, Array]:
    """Return the likelihood of the values `observed` outside, and the prediction (K,) inside with its covariance."""
    precision = np.linalg.inv(covariance[np.ix_(~inside, ~inside)])
    trend = np.linalg.inv(design[~inside].T @ precision @ design[~inside])
    project = trend @ design[~inside].T @ precision
    smooth = covariance[np.ix_(inside, ~inside)] @ precision
    rest = design[inside] - smooth @ design[~inside]
    coefficients = observed @ project.T
    residual = observed - coefficients @ design[~inside].T
    predicted = observed @ smooth.T + coefficients @ rest.T
    uncertainty = (
        covariance[np.ix_(inside, inside)]
        - smooth @ covariance[np.ix_(~inside, inside)]
        + rest @ trend @ rest.T
    )
    determinant = np.linalg.slogdet(precision)[1] + np.linalg.slogdet(trend)[1]
    likelihood = (determinant - np.sum((residual @ precision) * residual)) / 2
    return float(likelihood), predicted, uncertainty


def _solve(power: Array, expected: _Expected, groups: Groups, count: int) -> Strength:
    """Return the strength of noise in the mean `power` (G,) of `count` images: power - expected = variance noise.

    Generalised least squares, whose covariance depends on the variance.
    """
    noise, bins, clean = groups.noise[expected.used], groups.bins[expected.used] * count, expected.power
    observed = power[expected.used]
    excess = observed - clean
    square, product = noise**2 / bins, 2 * noise * clean / bins
    rounding = np.square(1e-9 * (np.max(power) + np.max(clean)) + TINY)
    variance = float(excess @ noise / (noise @ noise))
    for _ in range(ITERATIONS):
        v = max(variance, 0.0)
        covariance = expected.covariance + np.diag(v * v * square + v * product + rounding)
        precise = np.linalg.solve(covariance, np.stack([noise, excess], axis=-1))
        weights = precise[:, 0] / (precise[:, 0] @ noise)
        variance = float(np.sum(weights * excess))
    misfit = np.sum((excess - variance * noise) * (precise[:, 1] - variance * precise[:, 0]))
    widening = float(np.maximum(1, misfit / max(len(noise) - 1, 1)) * NORMAL_95**2)
    low, high = variance_interval(
        variance,
        widening * float(np.einsum("g,gh,h->", weights, expected.covariance, weights)),
        widening * float(np.sum(weights**2 * product)),
        widening * float(np.sum(weights**2 * square)),
    )
    most = noise > 0.5 * noise.max()
    return _strength((variance, low, high), observed[most], clean[most])


def _strength(variances: tuple[float, float, float], observed: Array, clean: Array) -> Strength:
    """Return the strength of a variance and its interval; it is infinite where the band was erased."""
    if np.all(observed < ERASED * clean):
        return Strength(math.inf, math.inf, math.inf, lost=True)
    value, low, high = (math.sqrt(max(variance, 0.0)) for variance in variances)
    return Strength(value, low, high, lost=bool(np.all(clean < DROWNED * observed)))
