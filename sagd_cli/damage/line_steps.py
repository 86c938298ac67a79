"""By how much the lines of an image differ from the ones before them, robustly (docs/theory.md, section 7)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt

import numpy as np
import scipy
from numpy.typing import NDArray

from sagd_cli.damage.strength import NORMAL_95, TINY, Strength
from sagd_cli.spectral.grid import Array

Plane = NDArray[np.float32]

FREEDOM = 3.0  # degrees of freedom of the Student law that differences of pixels follow
REWEIGHTED = 4
NEIGHBOURS = (3, 9)  # pixels, across and along the lines, that tell how much a pixel differs from the next
CURVATURE = 1.5  # by how much the weights overstate how well normal noise lets a shift be known
LEAST_SCALE = 1e-6  # of a signal on [-1, 1], far below a step of 16 bits: no power of it is beyond float32
COMMON_SCALE = 0.3  # of the mean difference, which is added to that
LINE_BLOCKS = 12  # of a line, which are taken to be independent
DARKEST = 0.02  # brightness, where white has 2: what is darker tells nothing of gains
SEGMENTS = 8  # of an image, which tell how certain a strength is
CLIP = 2.0  # standard deviations from which on a step counts no more
LEFT_OF_NORMAL = 0.9205  # of the variance of a normal law after that


@dataclass(frozen=True, eq=False)
class LineSteps:
    """What each line of a plane has more than the one before it, `values` (H - 1, K), in K windows along the lines.

    The values are differences of the signal, or of its logarithm. `variances` (H - 1, K) are those of their errors.
    `windows` (K, W) add up to 1 at each pixel. `size` is by how much the signal changes for a value of 1, `misfit` the
    mean absolute difference of pixels that the values do not explain.
    """

    values: Array
    variances: Array
    windows: Plane
    size: float
    misfit: float


def line_windows(width: int, length: float) -> Plane:
    """Return overlapping windows (K, width) that are `length` pixels long; one over all if that is the `width`."""
    if length >= width:
        return np.ones((1, width), np.float32)
    centres = np.linspace(0, width - 1, max(3, round(2 * width / length) + 1))
    distance = np.abs(np.arange(width) - centres[:, None]) / centres[1]
    weights: Plane = np.clip(1 - distance, 0, 1).astype(np.float32)
    return weights


def line_steps(plane: Plane, windows: Plane, is_gain: bool, every: int = 1) -> LineSteps:
    """Measure the steps from line to line of a plane (H, W), of `every` so many lines one.

    With `is_gain` they are steps of the logarithm of the brightness above black, -1. Each step is the likeliest shift
    of a Student law whose scale is that of the differences nearby. So edges, objects and texture count little beside
    smooth areas. Pixels of the darkest and of the brightest value, which may be cut off or no data, do not count.
    """
    low, high = plane.min(), plane.max()
    inside = (plane > low) & (plane < high)
    counted = (inside[:-1] & inside[1:])[::every].astype(np.float32)
    above, below = plane[:-1][::every], plane[1:][::every]
    changes = below - above
    unit = np.maximum((above + below) / 2 + 1, DARKEST) if is_gain else np.ones((1, 1), np.float32)
    values, across = _medians(changes / unit if is_gain else changes, windows), windows.T.copy()
    for _ in range(REWEIGHTED):
        rest = changes - (values @ windows if len(windows) > 1 else values) * unit
        scale = scipy.ndimage.uniform_filter(np.abs(rest), NEIGHBOURS, mode="nearest")
        scale += COMMON_SCALE * scale.mean() + LEAST_SCALE
        weights = counted * (FREEDOM + 1) / (FREEDOM * scale * scale + rest * rest)
        weights *= unit
        pull = weights * rest
        information = (weights * unit) @ across
        known = information > 1e-6 * np.median(information)
        values += np.where(known, pull @ across / np.maximum(information, TINY), 0)
    # Pixels are no independent witnesses: the sums over blocks of a line vary by more than theirs would.
    starts = np.arange(LINE_BLOCKS) * plane.shape[1] // LINE_BLOCKS
    single = np.einsum("ij,ij->i", pull, pull)
    together = np.square(np.add.reduceat(pull, starts, axis=1)).sum(axis=1)
    correlated = max(1.0, float(np.median(together / np.maximum(single, TINY))))
    variances = (
        CURVATURE**2 * correlated * (np.square(pull) @ np.square(across)) / np.maximum(information, TINY) ** 2
    )
    unknown = 1e3 * float(np.square(values).max() + TINY)
    misfit = float(np.sum(np.abs(rest) * counted) / max(counted.sum(), 1))
    return LineSteps(
        values.astype(float),
        np.where(known, variances, unknown).astype(float),
        windows,
        float(np.sqrt(np.mean(np.square(unit)))),
        misfit,
    )


def _medians(changes: Plane, windows: Plane) -> Plane:
    count, width = windows.shape
    ends = np.arange(count + 1) * width // count
    medians = [np.median(changes[:, low:high], axis=1) for low, high in pairwise(ends.tolist())]
    return np.stack(medians, axis=1).astype(np.float32)


def step_strength(steps: Sequence[LineSteps]) -> Strength:
    """Return the standard deviation of the effects of lines that make such steps, of all planes together.

    Independent effects of variance v make steps of which two in a row add up to one of the variance 2 v, and differ by
    one of 6 v: a line that is lifted falls again. Steps of images go on as often as they turn. So v is a quarter of
    the difference. Segments of the images tell how certain it is.
    """
    wholes = [one.size**2 * _turning(one.values) for one in steps]
    parts = [one.size**2 * _turning(part) for one in steps for part in np.array_split(one.values, SEGMENTS)]
    variance = float(np.mean(wholes))
    error = NORMAL_95 * float(np.std(parts, ddof=1)) / sqrt(len(parts))
    value, low, high = (sqrt(max(v, 0.0)) for v in (variance, variance - error, variance + error))
    return Strength(value, low, high)


def _turning(values: Array) -> float:
    first, second = values[:-1], values[1:]
    return (_variance(second - first) - _variance(second + first)) / 4


def _variance(values: Array) -> float:
    """Return the variance of normal values among which some are much larger."""
    squares = np.square(values)
    variance = 2.198 * float(np.median(squares))
    for _ in range(3):
        variance = float(np.mean(np.minimum(squares, CLIP**2 * variance))) / LEFT_OF_NORMAL
    return variance
