"""Rings of the spectrum that hold more power than images put there (docs/theory.md, section 7)."""

from math import log

import numpy as np
import scipy
from numpy.typing import NDArray

from sagd_cli.damage.groups import Groups
from sagd_cli.damage.likelihood import FEWEST_OUTSIDE, strength_from_power_law
from sagd_cli.damage.strength import TINY, Strength
from sagd_cli.errors import DataError
from sagd_cli.spectral.band import Ring
from sagd_cli.spectral.grid import Array, FrequencyGrid
from sagd_cli.spectral.peaks import CORRELATED_BINS

EDGE = 0.01  # rho: how finely the edges of rings are told
BELOW, BEYOND = 12, 4  # edges on either side of an edge that are compared
RING_STEP = log(1.8)  # the least step of the power at the edges; the spectra of images are smooth
CERTAIN = 5.0  # standard errors of a step
LOWEST_EDGE = 0.1  # rho


def find_rings(
    power: Array, count: int, grid: FrequencyGrid, spared: NDArray[np.bool_]
) -> list[tuple[Ring, Strength]]:
    """Return the rings of excess power in the Hann-tapered spectrum `power`, with the strengths of their noise.

    `power` is the mean over `count` independent fields. `spared` are bins that have noise of another kind. A ring
    begins where the power rises with the frequency at once, and ends where it falls as suddenly, or at the corner. Of
    the bins of equal radius it is the median that rises. What begins with a fall was filtered, and has no rings.
    """
    profile, error = _profile(power, count, grid, spared)
    places = np.log((np.arange(len(profile)) + 0.5) * EDGE)
    first = max(round(LOWEST_EDGE / EDGE), BELOW)
    rings, start = [], None
    steps = [_step(profile, error, places, edge) for edge in range(len(profile) + 1)]
    for edge in range(first, len(profile) - BEYOND):
        near = [abs(step) for step in steps[max(edge - BEYOND, 0) : edge + BEYOND + 1]]
        if abs(steps[edge]) < max(near) or steps[edge] == 0:
            continue
        if steps[edge] > 0 and start is None:
            start = edge
        elif steps[edge] < 0:
            if start is None:
                break
            rings.append(Ring(round(start * EDGE, 2), round(edge * EDGE, 2)))
            start = None
    if start is not None:
        rings.append(Ring(round(start * EDGE, 2), 1.0))
    measured = [(ring, _strength(power, count, grid, ring, spared)) for ring in rings]
    return [(ring, strength) for ring, strength in measured if strength.certain]


def _profile(power: Array, count: int, grid: FrequencyGrid, spared: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Return the logarithm of the power in each hundredth of rho, and its standard error; infinite without bins."""
    index = np.where(spared, -1, (grid.rho / EDGE).astype(int).clip(max=round(1 / EDGE) - 1))
    values, errors = [], []
    for ring in range(round(1 / EDGE)):
        chosen = np.log(np.maximum(power[index == ring], TINY))
        bins = len(chosen) / CORRELATED_BINS**grid.ndim
        values.append(np.median(chosen) if len(chosen) else 0.0)
        errors.append(1.25 * chosen.std() / np.sqrt(bins) if bins >= 1 else np.inf)
    return np.array(values), np.array(errors)


def _step(profile: Array, error: Array, places: Array, edge: int) -> float:
    """Return the step of the profile at an edge, 0 where none is certain.

    Above it are as many places as a step is sharp; what is below is a straight line in the logarithm of the frequency.
    """
    if edge < BEYOND + 1 or edge + BEYOND + 1 > len(profile):
        return 0.0
    sides = [slice(max(edge - BELOW, 0), edge - 1), slice(edge + 1, edge + BELOW)]
    ends, spread = [], 0.0
    for side in sides:
        kept = np.isfinite(error[side])
        if np.count_nonzero(kept) < BEYOND:
            return 0.0
        x, y, e = (part[side][kept] for part in (places, profile, np.maximum(error, 1e-3)))
        line, covariance = np.polyfit(x - log(edge * EDGE), y, 1, w=1 / e, cov="unscaled")
        misfit = max(1.0, float(np.mean(((y - np.polyval(line, x - log(edge * EDGE))) / e) ** 2)))
        ends.append(line[1])
        spread += covariance[1, 1] * misfit
    step = float(ends[1] - ends[0])
    return step if abs(step) > max(RING_STEP, CERTAIN * np.sqrt(spread)) else 0.0


def _strength(
    power: Array, count: int, grid: FrequencyGrid, ring: Ring, spared: NDArray[np.bool_]
) -> Strength:
    """Return the strength of the noise in a ring, against a power law through the medians at the other radii."""
    groups = Groups(grid, ring.mask(grid).astype(np.float64), hann=True, lowest=3 / min(grid.shape))
    if np.count_nonzero(~groups.inside) < FEWEST_OUTSIDE:
        return Strength(0.0, 0.0, 0.0)
    index = np.where(spared, -1, groups.index)
    medians = [
        np.median(power[index == group]) if np.any(index == group) else 0.0
        for group in range(len(groups.noise))
    ]
    bias = count / float(scipy.special.gammaincinv(count, 0.5))
    try:
        return strength_from_power_law(bias * np.array(medians), count, groups)
    except DataError:
        return Strength(0.0, 0.0, 0.0)
