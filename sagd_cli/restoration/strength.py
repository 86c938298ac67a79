"""How strong the in-band noise is, by maximum likelihood on the power spectrum (MATH: 6., gamma unknown)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar

from sagd_cli.errors import DataError
from sagd_cli.spectral.grid import Array, FrequencyGrid

Mask = NDArray[np.bool_]
# Twice the drop of the profile log-likelihood at the ends of a 95 % interval (chi-squared, 1 degree).
CHI2_95 = 3.841


@dataclass(frozen=True)
class Strength:
    """The noise amplitude gamma on the [-1, 1] range with its 95 % interval."""

    value: float
    low: float
    high: float


def from_reference(power: Array, count: int, reference: Array, grid: FrequencyGrid, mask: Mask) -> Strength:
    """Excess of `power` in the band over the `reference` power spectrum of clean images.

    `power` is the mean spectrum of `count` images (half spectrum, |F x|^2 / N); by Whittle's likelihood each bin
    of an image is exponential with mean S + gamma^2.
    """
    weight = grid.multiplicity[mask] * count / 2
    observed, clean = power[mask], np.maximum(reference[mask], 1e-12)

    def negative_log_likelihood(variance: float) -> float:
        total = clean + variance
        return float(np.sum(weight * (np.log(total) + observed / total)))

    return _profile(negative_log_likelihood, float(observed.max()))


def from_power_law(power: Array, count: int, grid: FrequencyGrid, mask: Mask) -> Strength:
    """Excess in the band over a power law S = c (r + r_0)^-beta that is fitted together with it.

    The law is carried by the frequencies outside the band and by the shape inside it, DC left out. Raises
    DataError when too few frequencies are left to fit it.
    """
    used = grid.radius > 0
    if np.count_nonzero(used & ~mask) < 4:
        raise DataError(
            "the band leaves too few frequencies to tell its noise from the images",
            "Give the strength with --strength, or clean images with --reference.",
        )
    weight = (grid.multiplicity * count / 2)[used]
    log_radius, observed, inside = np.log(grid.radius[used]), power[used], mask[used].astype(float)

    def negative_log_likelihood(law: NDArray[np.float64], variance: float) -> float:
        total = np.exp(law[0] - law[1] * log_radius - law[2] * log_radius**2) + variance * inside
        total = np.maximum(total, 1e-12)
        return float(np.sum(weight * (np.log(total) + observed / total)))

    start = np.append(np.polyfit(log_radius, np.log(np.maximum(observed, 1e-12)), 1)[::-1] * [1, -1], 0.0)

    def profiled(variance: float) -> float:
        return float(minimize(negative_log_likelihood, start, args=(variance,), method="Nelder-Mead").fun)

    return _profile(profiled, float(observed[mask[used]].max()))
