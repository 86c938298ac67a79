"""By how much the lines of an image differ from the ones before them, robustly (docs/theory.md, section 7)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log2, sqrt

import numpy as np
import scipy
from numpy.typing import NDArray

from sagd_cli.damage.strength import NORMAL_95, TINY, Strength
from sagd_cli.spectral.grid import Array

Plane = NDArray[np.float32]

FREEDOM = 3.0  # degrees of freedom of the Student law that differences of pixels follow
REWEIGHTED = 4
MEDIAN_OF = 64  # pixels of a line from which its step is first guessed
NEARBY = (
    8  # pixels along a line that together tell how much each differs from the next line, with its neighbours
)
CURVATURE = 1.5  # by how much the weights overstate how well normal noise lets a shift be known
LEAST_SCALE = 1e-6  # of a signal on [-1, 1], far below a step of 16 bits: no power of it is beyond float32
COMMON_SCALE = 0.3  # of the mean difference, which is added to that
LINE_BLOCKS = 12  # of a line, which are taken to be independent
DARKEST = 0.02  # brightness, where white has 2: what is darker tells nothing of gains
BELOW_BLACK = 1e-3  # share of the pixels up to which an image counts as positive
SAMPLED = 4  # of so many lines, one tells offsets from gains
PROVEN = 2.5  # standard errors
SEGMENTS = 8  # of an image, which tell how certain a strength is
CLIP = 2.0  # standard deviations from which on a step counts no more
LEFT_OF_NORMAL = 0.9205  # of the variance of a normal law after that

COMMON = 2.7  # the image's own steps from line to line, in variances of their errors
EXACT = 1e-3  # of the variance of the offsets: no step is known better
FREEDOM_OF_STEPS, FREEDOM_OF_SLOPES = 2.0, 3.0  # degrees of freedom: horizons are rare and large
SLOPES = 0.01  # cycles/sample, below which what images have from line to line is a slope, not a step
ITERATIONS, SHARPER = 14, 0.6  # each iteration trusts the steps more


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


def halved(plane: Plane) -> Plane:
    """Return the means of blocks of 2 x 2 pixels; what is left over at the ends does not count."""
    height, width = (side // 2 * 2 for side in plane.shape)
    pairs = plane[:height:2, :width] + plane[1:height:2, :width]
    means: Plane = (pairs[:, ::2] + pairs[:, 1::2]) * np.float32(0.25)
    return means


def line_steps(plane: Plane, inside: Plane, windows: Plane, is_gain: bool, every: int = 1) -> LineSteps:
    """Measure the steps from line to line of a plane (H, W), of `every` so many lines one.

    With `is_gain` they are steps of the logarithm of the brightness above black, -1. Each step is the likeliest shift
    of a Student law whose scale is that of the differences nearby. So edges, objects and texture count little beside
    smooth areas. Only pixels count of which all is `inside`, 1.
    """
    above, below = plane[:-1:every], plane[1::every]
    counted = (inside[:-1:every] + inside[1::every] == 2).astype(np.float32)
    changes = below - above
    unit = np.maximum((above + below) / 2 + 1, DARKEST) if is_gain else None
    relative = changes if unit is None else (changes / unit).astype(np.float32, copy=False)
    values, across = _medians(relative, windows), windows.T.copy()
    numerator = (FREEDOM + 1) * counted
    if unit is not None:
        numerator *= unit
    rest, weights, pull = (np.empty_like(changes) for _ in range(3))
    for _ in range(REWEIGHTED):
        shifts = values @ windows if len(windows) > 1 else values
        np.subtract(changes, shifts if unit is None else shifts * unit, out=rest)
        scale = _scale(np.abs(rest, out=pull))
        np.square(rest, out=weights)
        weights += scale
        np.divide(numerator, weights, out=weights)
        np.multiply(weights, rest, out=pull)
        if unit is not None:
            weights *= unit
        information = weights @ across
        known = information > 1e-6 * np.median(information)
        values += np.where(known, pull @ across / np.maximum(information, TINY), 0)
    # Pixels are no independent witnesses: the sums over blocks of a line vary by more than theirs would.
    starts = np.arange(LINE_BLOCKS) * plane.shape[1] // LINE_BLOCKS
    single = np.einsum("ij,ij->i", pull, pull)
    together = np.square(np.add.reduceat(pull, starts, axis=1)).sum(axis=1)
    correlated = max(1.0, float(np.median(together / np.maximum(single, TINY))))
    np.square(pull, out=pull)
    variances = CURVATURE**2 * correlated * (pull @ np.square(across)) / np.maximum(information, TINY) ** 2
    unknown = 1e3 * float(np.square(values).max() + TINY)
    misfit = float(np.vdot(np.abs(rest), counted) / max(counted.sum(), 1))
    return LineSteps(
        values.astype(float),
        np.where(known, variances, unknown).astype(float),
        windows,
        1.0 if unit is None else float(np.sqrt(np.mean(np.square(unit)))),
        misfit,
    )


def _scale(sizes: Plane) -> Plane:
    """Return the squares of the scales that pixels, whose differences have these sizes, share with those near them."""
    width = sizes.shape[1]
    sums = np.pad(sizes, ((0, 0), (0, -width % NEARBY)), mode="edge") if width % NEARBY else sizes
    for _ in range(int(log2(NEARBY))):
        sums = sums[:, ::2] + sums[:, 1::2]
    near = np.empty_like(sums)  # with the lines before and after
    np.add(sums[:-1], sums[1:], out=near[:-1])
    near[-1] = 2 * sums[-1]
    near[0] += sums[0]
    near[1:] += sums[:-1]
    near /= 3 * NEARBY
    squares = FREEDOM * np.square(near + (COMMON_SCALE * near.mean() + LEAST_SCALE))
    scale: Plane = np.repeat(squares, NEARBY, axis=1)[:, :width]
    return scale


def _medians(changes: Plane, windows: Plane) -> Plane:
    """Return roughly the medians of each line in each window."""
    count, width = windows.shape
    ends = np.arange(count + 1) * width // count
    medians = []
    for low, high in pairwise(ends.tolist()):
        some = np.sort(changes[:, low : high : 1 + (high - low) // MEDIAN_OF], axis=1)
        medians.append((some[:, (some.shape[1] - 1) // 2] + some[:, some.shape[1] // 2]) / 2)
    return np.stack(medians, axis=1).astype(np.float32)


def gains_fit_better(planes: Sequence[tuple[Plane, Plane]]) -> bool:
    """Tell whether gains explain better than offsets how the rows of the planes of one image differ.

    Each plane comes with what is `inside`, as `line_steps` takes it.
    """
    if any(np.mean(plane < -1) > BELOW_BLACK for plane, _ in planes):
        return False
    better = 0.0
    for plane, inside in planes:
        whole = line_windows(plane.shape[1], plane.shape[1])
        offsets, gains = (line_steps(plane, inside, whole, g, SAMPLED).misfit for g in (False, True))
        better += offsets - gains
    return better > 0


def gain_ceiling(plane: Plane, inside: Plane, steps: LineSteps) -> float:
    """Return the brightness above black up to which pixels agree that these steps are those of gains.

    What is brighter changes by as much as a pixel of this brightness does. The gain may come from dark pixels only, be
    an offset in truth, and turn bright objects dark. So the ceiling begins with the median, and is doubled as long as
    that explains better, for certain, how the pixels beyond it differ from line to line.
    """
    above, below = plane[:-1], plane[1:]
    brightness, changes = (above + below) / 2 + 1, below - above
    relative = np.asarray(steps.values, np.float32) @ steps.windows
    counted = inside[:-1] + inside[1:] == 2
    ceiling = float(np.median(brightness[counted])) if counted.any() else 0.0
    highest = float(brightness.max())
    while 0 < ceiling < highest:
        lower, higher = (
            np.abs(changes - relative * np.minimum(brightness, top)) for top in (ceiling, 2 * ceiling)
        )
        gained = np.sum((lower - higher) * counted, axis=1)
        if gained.sum() <= PROVEN * sqrt(np.square(gained).sum()):
            return ceiling
        ceiling *= 2
    return ceiling


def step_strength(steps: Sequence[LineSteps], owners: Sequence[int]) -> Strength:
    """Return the standard deviation of the effects of lines that make such steps, of all planes together.

    Independent effects of variance v make steps of which two in a row add up to one of the variance 2 v, and differ by
    one of 6 v: a line that is lifted falls again. Steps of images go on as often as they turn. So v is a quarter of
    the difference. Segments of the images tell how certain it is. `owners` tells which planes are from one image: they
    are one witness.
    """
    wholes, parts = [], []
    for one in steps:
        length = -(-len(one.values) // SEGMENTS)
        starts = np.linspace(0, len(one.values) - length, SEGMENTS).astype(int)
        wholes.append(one.size**2 * _turning(one.values[None]))
        parts.append(one.size**2 * _turning(one.values[starts[:, None] + np.arange(length)]))
    variance = float(np.mean(wholes))
    together = [
        np.mean([p for p, o in zip(parts, owners, strict=True) if o == owner], axis=0)
        for owner in set(owners)
    ]
    error = NORMAL_95 * float(np.std(together, ddof=1)) / sqrt(np.size(together))
    value, low, high = (sqrt(max(v, 0.0)) for v in (variance, variance - error, variance + error))
    return Strength(value, low, high)


def _turning(values: Array) -> Array:
    """Return how much more steps (S, H, K) turn than go on, in each of S segments."""
    first, second = values[:, :-1], values[:, 1:]
    turns, goes_on = np.split(_variances(np.concatenate([second - first, second + first])), 2)
    return (turns - goes_on) / 4


def _variances(values: Array) -> Array:
    """Return the variance of normal values in each segment, among which some are much larger."""
    squares = np.square(values).reshape(len(values), -1)
    variances: Array = 2.198 * np.median(squares, axis=1)
    for _ in range(3):
        variances = np.minimum(squares, CLIP**2 * variances[:, None]).mean(axis=1) / LEFT_OF_NORMAL
    return variances


def line_effects(steps: LineSteps, variance: float) -> Array:
    """Return the effect of each line (H, K) in each window: independent, of the given variance, with these steps.

    The image's own steps add to those of the effects. They follow a Student law about a slope that itself makes such
    steps: smooth trends and horizons are the image's. The estimate is the posterior mode, which iteratively reweighted
    least squares climb to (Lange, Little & Taylor, JASA 1989), from a law that is wide at first.
    """
    values, own = steps.values.T, COMMON * steps.variances.T + EXACT * variance
    count, lines = len(values), values.shape[1] + 1
    slope = np.median(own, axis=1, keepdims=True) * (2 * np.pi * SLOPES) ** 2
    step_variances, slope_variances = own + variance, np.repeat(slope, lines - 2, axis=1)
    for iteration in range(ITERATIONS):
        wide = own + variance * SHARPER**iteration
        effects, slopes = _solved(values, step_variances, slope_variances, variance)
        rest = values - np.diff(effects, axis=1) - slopes
        step_variances = (wide * FREEDOM_OF_STEPS + rest**2) / (FREEDOM_OF_STEPS + 1)
        turns = np.diff(slopes, axis=1)
        slope_variances = (slope * FREEDOM_OF_SLOPES + turns**2) / (FREEDOM_OF_SLOPES + 1)
    return effects.T.reshape(lines, count)


def _solved(
    values: Array, step_variances: Array, slope_variances: Array, variance: float
) -> tuple[Array, Array]:
    """Return the effects (K, H) and slopes (K, H - 1) that are likeliest at these variances: least squares.

    Unknowns are an effect and a slope for each line, in turn, so that the system has four bands, stored as LAPACK has
    them: `bands[3 - d]` holds what couples an unknown with the one d places before it.
    """
    count, lines = len(values), values.shape[1] + 1
    bands, right = np.zeros((4, count, lines, 2)), np.zeros((count, lines, 2))
    steps, turns = 1 / step_variances, 1 / slope_variances
    diagonal = bands[3]
    diagonal[..., 0], diagonal[..., 1] = 1 / variance, 1e-3 / variance
    diagonal[:, :-1] += steps[..., None]
    diagonal[:, 1:, 0] += steps
    bands[1, :, 1:, 0] -= steps
    bands[2, :, 1:, 0] += steps
    bands[2, :, :-1, 1] -= steps
    right[:, 1:, 0] += steps * values
    right[:, :-1] -= (steps * values)[..., None] * np.array([1, -1])
    diagonal[:, :-2, 1] += turns
    diagonal[:, 1:-1, 1] += turns
    bands[1, :, 1:-1, 1] -= turns
    solved = scipy.linalg.solveh_banded(bands.reshape(4, -1), right.reshape(-1), check_finite=False)
    unknowns = np.asarray(solved).reshape(count, lines, 2)
    return unknowns[..., 0], unknowns[:, :-1, 1]
