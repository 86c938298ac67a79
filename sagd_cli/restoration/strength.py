"""How strong the in-band noise is: maximum likelihood on the power spectrum (MATH: 6., gamma unknown)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from sagd_cli.errors import DataError
from sagd_cli.spectral.grid import Array, FrequencyGrid

CHI2_95 = 3.841  # 95 % point of chi-squared with one degree of freedom
SMALLEST = 1e-12
TOUCHED = 0.01  # share of the noise's power above which a bin counts as inside the band


@dataclass(frozen=True)
class Strength:
    """The noise amplitude gamma on the [-1, 1] range with its 95 % interval."""

    value: float
    low: float
    high: float


def strength_from_reference(
    power: Array, count: int, reference: Array, reference_count: int, grid: FrequencyGrid, band: Array
) -> Strength:
    """Strength of the excess of `power` in the band over `reference`, the spectrum of clean images.

    Both are means over their count of independent fields of |F x|^2 / N (half spectrum); `band` is that spectrum
    of the noise at gamma = 1. By Whittle's likelihood a bin of one field is exponential with mean
    S + gamma^2 band, or S in the reference; S of each bin is profiled out, so that the reference's own sampling
    error counts.
    """
    inside = band > TOUCHED
    weight, weight_clean = (grid.multiplicity[inside] * n / 2 for n in (count, reference_count))
    observed, clean = (np.maximum(p[inside], SMALLEST) for p in (power, reference))

    def fit(variance: float) -> tuple[float, Array]:
        spectrum = _shared_spectrum(observed, weight, clean, weight_clean, variance * band[inside])
        total = spectrum + variance * band[inside]
        return _deviance(observed, total, weight) + _deviance(clean, spectrum, weight_clean), total

    return _profile(fit, observed, weight, observed, parameters=1)


def _shared_spectrum(
    observed: Array, weight: Array, clean: Array, weight_clean: Array, variance: Array
) -> Array:
    """The most likely S of each bin, given S in `clean` and S + variance in `observed`: bisection in log S."""
    alone = np.maximum(observed - variance, SMALLEST)
    low, high = np.log(np.minimum(clean, alone)), np.log(np.maximum(clean, alone))
    for _ in range(40):
        middle = (low + high) / 2
        spectrum = np.exp(middle)
        total = spectrum + variance
        slope = weight_clean * (1 / spectrum - clean / spectrum**2) + weight * (
            1 / total - observed / total**2
        )
        low, high = np.where(slope < 0, middle, low), np.where(slope < 0, high, middle)
    return np.asarray(np.exp((low + high) / 2))


def strength_from_power_law(
    power: Array, count: int, grid: FrequencyGrid, band: Array, lowest: float = 0.0
) -> Strength:
    """Strength of the excess in the band over a power law S = c r^-beta fitted together with it.

    Arguments as in `strength_from_reference`; frequencies up to the radius `lowest` (cycles/sample) are left out.
    Those outside the band carry the law, and its shape inside helps. Raises DataError when too few are outside.
    """
    used = grid.radius > lowest
    if np.count_nonzero(used & (band <= TOUCHED)) < 3:
        raise DataError(
            "the band leaves too few frequencies to tell its noise from the images",
            "Give the strength with --strength, or clean images with --reference.",
        )
    weight = (grid.multiplicity * count / 2)[used]
    log_radius, observed, shape = np.log(grid.radius[used]), power[used], band[used]
    inside = shape > TOUCHED
    law = np.polyfit(log_radius[~inside], np.log(np.maximum(observed[~inside], SMALLEST)), 1)[::-1]

    def total(parameters: NDArray[np.float64], variance: float) -> Array:
        return np.asarray(np.exp(parameters[0] + parameters[1] * log_radius) + variance * shape + SMALLEST)

    def fit(variance: float) -> tuple[float, Array]:
        best = minimize(lambda p: _deviance(observed, total(p, variance), weight), law, method="Nelder-Mead")
        return float(best.fun), total(best.x, variance)

    return _profile(fit, observed[inside], weight, observed, parameters=3)


def _deviance(observed: Array, expected: Array, weight: Array) -> float:
    """Twice the negative Whittle log-likelihood, up to a constant."""
    return float(2 * np.sum(weight * (np.log(expected) + observed / expected)))


def _profile(
    fit: Callable[[float], tuple[float, Array]],
    in_band: Array,
    weight: Array,
    observed: Array,
    parameters: int,
) -> Strength:
    """Minimise the profile deviance over gamma; the interval is widened by the misfit of the spectrum's model."""
    top = float(np.sqrt(in_band.max())) * 1.5 + SMALLEST
    gammas = np.linspace(0.0, top, 61)
    best = int(np.argmin([fit(g**2)[0] for g in gammas]))
    fine = np.linspace(gammas[max(best - 1, 0)], gammas[min(best + 1, 60)], 41)
    deviances = [fit(g**2)[0] for g in fine]
    value, lowest = float(fine[int(np.argmin(deviances))]), min(deviances)
    ratio = observed / fit(value**2)[1]
    misfit = float(np.sum(weight * (ratio - 1) ** 2)) / max(len(observed) - parameters, 1)
    bound = lowest + CHI2_95 * max(1.0, misfit)
    low = _crossing(fit, bound, value, 0.0)
    return Strength(value, low, _crossing(fit, bound, value, 2 * top))


def _crossing(
    fit: Callable[[float], tuple[float, Array]], bound: float, inside: float, outside: float
) -> float:
    """The gamma between `inside` and `outside` where the deviance reaches `bound`, by bisection."""
    if fit(outside**2)[0] <= bound:
        return outside
    for _ in range(24):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if fit(middle**2)[0] <= bound else (inside, middle)
    return inside
