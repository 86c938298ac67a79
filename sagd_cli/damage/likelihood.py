"""How strong the in-band noise is: maximum likelihood on the power spectrum (MATH: 6., gamma unknown).

The power of an image is averaged over groups of frequencies: annuli, split where the band cuts them. Noise of
amplitude gamma adds gamma^2 times its own spectrum to the mean of each group, so gamma^2 is a regression
coefficient. By the central limit theorem its likelihood is the normal one of generalised least squares
(Aitken, Proc. R. Soc. Edinburgh 1936), whose covariance is that of images as they are: heavy-tailed, and
correlated between frequencies. The groups outside the band tell how these images differ from the average
image, which sharpens what is expected inside; what they cannot explain widens the interval.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

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
ROWS = 4096


def strength_from_reference(
    damaged: Array,
    reference: Array,
    groups: Groups,
    count: int | None = None,
    reference_count: int | None = None,
) -> Strength:
    """Strength of the noise in images whose `damaged` powers (N, G) exceed those of clean images, `reference` (M, G).

    `count` and `reference_count` say how many of them share no sample, if not all. Raises DataError on constant
    images, and when the band holds much less than the clean images do, though not nothing.
    """
    _check_content(damaged)
    count = count or len(damaged)
    expected = _Expected.from_images(reference, reference_count or len(reference), count)
    (found,) = _solve(damaged.mean(axis=0, keepdims=True), expected, groups, count)
    inside, bins = groups.inside, groups.bins[groups.inside]
    power, clean = (float(p[:, inside].mean(axis=0) @ bins) for p in (damaged, reference))
    if found.high == 0 and power < ATTENUATED * clean:
        raise DataError(
            f"the band holds {power / clean:.0%} of the power it has in the reference: it was attenuated",
            "That is neither noise nor a lost band. If the reference is like the images, --estimate notch "
            "removes what is left.",
        )
    return found


def strengths_from_reference(
    damaged: Array, reference: Array, groups: Groups, reference_count: int | None = None
) -> list[Strength]:
    """Strength of the noise in each image; arguments as in `strength_from_reference`.

    An image without content has the strength 0.
    """
    expected = _Expected.from_images(reference, reference_count or len(reference), 1)
    return [found for rows in _chunks(damaged) for found in _solve(rows, expected, groups, 1)]


def strength_from_power_law(power: Array, count: int, groups: Groups) -> Strength:
    """Strength of what `power`, the mean powers (G,) of `count` images, has in the band above a power law.

    The law S = c r^-beta is that of the groups outside the band; how far those depart from it widens the interval.
    Raises DataError on constant images, and when too few groups are outside.
    """
    _check_content(power)
    return strengths_from_power_law(power[None], groups, count)[0]


def strengths_from_power_law(powers: Array, groups: Groups, count: int = 1) -> list[Strength]:
    """Strength of the noise in each row of `powers` (N, G), the mean of `count` images, above its own power law."""
    if np.count_nonzero(~groups.inside) < FEWEST_OUTSIDE:
        raise DataError(
            "the band leaves too few frequencies to tell its noise from the images",
            "Give the strength with --strength, or clean images with --reference.",
        )
    return [
        found
        for rows in _chunks(powers)
        for found in _solve(rows, _Expected.from_power_law(rows, groups, count), groups, count)
    ]


@dataclass(frozen=True, eq=False)
class _Expected:
    """Power (R or 1, K) that images have without noise, and the covariance (R or 1, K, K) of its mean's error.

    `used` (G,) says which K of the groups that is.
    """

    power: Array
    covariance: Array
    used: NDArray[np.bool_]

    @classmethod
    def from_images(cls, reference: Array, reference_count: int, count: int) -> "_Expected":
        """What `count` images like those of `reference` (M, G) are expected to have."""
        sample, groups = reference.shape
        covariance = np.cov(reference.T.reshape(groups, sample), ddof=min(1, sample - 1)).reshape(
            groups, groups
        )
        # Few images do not tell all correlations: those that chance makes are shrunk, and what is left is uncertain.
        trusted = reference_count / (reference_count + groups)
        covariance = trusted * covariance + (1 - trusted) * np.diag(np.diag(covariance))
        covariance *= (1 / count + 1 / reference_count) / trusted
        return cls(reference.mean(axis=0)[None], covariance[None], np.ones(groups, dtype=bool))

    @classmethod
    def from_power_law(cls, power: Array, groups: Groups, count: int) -> "_Expected":
        """What a power law through the groups outside the band makes of those inside, for each row (R, G).

        log S = a - b log r + u, u a Gaussian process in log r: what the images have besides a power law, as large
        as it is outside (universal kriging; Cressie, Statistics for Spatial Data, 1993, section 3.4; variance by
        restricted maximum likelihood).
        """
        inside, log_radius = groups.inside, np.log(groups.radius)
        design = np.stack([np.ones_like(log_radius), log_radius], axis=1)
        departure = np.exp(-np.abs(log_radius[:, None] - log_radius) / DEPARTURE)
        shape = groups.bins[~inside] * count
        observed = np.log(np.maximum(power[:, ~inside], TINY)) - (digamma(shape) - np.log(shape))
        fits = [
            _kriging(observed, scale**2 * departure + np.diag(1 / (groups.bins * count)), design, inside)
            for scale in DEPARTURES
        ]
        best = np.argmax([fit[0] for fit in fits], axis=0)
        rows = np.arange(len(power))
        level = np.exp(np.stack([fit[1] for fit in fits])[best, rows])
        covariance = np.stack([fit[2] for fit in fits])[best]
        return cls(level, covariance * level[:, :, None] * level[:, None, :], inside)


def _kriging(
    observed: Array, covariance: Array, design: Array, inside: NDArray[np.bool_]
) -> tuple[Array, Array, Array]:
    """Likelihood (R,), prediction (R, G) and its covariance (G, G), G those inside, given `observed` outside."""
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
    likelihood = (determinant - np.sum((residual @ precision) * residual, axis=1)) / 2
    return likelihood, predicted, uncertainty


def _check_content(powers: Array) -> None:
    if not np.any(powers > TINY):
        raise DataError(
            "the images are constant: nothing can be told about noise in them",
            "Leave out the images without content.",
        )


def _chunks(rows: Array) -> Iterator[Array]:
    return (rows[first : first + ROWS] for first in range(0, len(rows), ROWS))


def _solve(power: Array, expected: _Expected, groups: Groups, count: int) -> list[Strength]:
    """Strength of each row of `power` (R, G), the mean of `count` images: power - expected = variance noise.

    Generalised least squares, whose covariance depends on the variance.
    """
    noise, bins, clean = groups.noise[expected.used], groups.bins[expected.used] * count, expected.power
    excess = power[:, expected.used] - clean
    square, product = noise**2 / bins, 2 * noise * clean / bins
    rounding = (1e-9 * (np.max(power, axis=1) + np.max(clean)) + TINY) ** 2
    identity = np.eye(len(noise))
    variance = excess @ noise / (noise @ noise)
    for _ in range(ITERATIONS):
        v = np.maximum(variance, 0)[:, None]
        own = v**2 * square + v * product + rounding[:, None]
        covariance = expected.covariance + own[..., None] * identity
        precise = np.linalg.solve(covariance, np.stack(np.broadcast_arrays(noise, excess), axis=-1))
        information = precise[..., 0] @ noise
        weights = precise[..., 0] / information[:, None]
        variance = np.sum(weights * excess, axis=1)
    residual = excess - variance[:, None] * noise
    misfit = np.sum(residual * (precise[..., 1] - variance[:, None] * precise[..., 0]), axis=1)
    widening = np.maximum(1, misfit / max(len(noise) - 1, 1)) * NORMAL_95**2
    constant = np.einsum(
        "rg,rgh,rh->r", weights, np.broadcast_to(expected.covariance, covariance.shape), weights
    )
    low, high = variance_interval(
        variance,
        widening * constant,
        widening * np.sum(weights**2 * product, axis=1),
        widening * np.sum(weights**2 * square, axis=1),
    )
    most, empty = noise > 0.5 * noise.max(), np.max(power, axis=1) <= TINY
    return _strengths(variance, low, high, power[:, expected.used][:, most], clean[:, most], empty)


def _strengths(
    variance: Array, low: Array, high: Array, observed: Array, clean: Array, empty: NDArray[np.bool_]
) -> list[Strength]:
    """The strengths of the rows; infinite where the band was erased, 0 for images without content."""
    drowned = np.all(clean < DROWNED * observed, axis=1) & ~empty
    erased = np.all(observed < ERASED * clean, axis=1) & ~empty
    columns = np.sqrt(np.maximum([variance, low, high], 0))
    columns[:, erased] = math.inf
    columns[:, empty] = 0.0
    lost = drowned | erased
    return list(map(Strength, *columns.tolist(), lost.tolist()))
