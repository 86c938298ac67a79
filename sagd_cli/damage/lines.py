"""Offsets and gains of whole lines of images: measured and taken away (docs/theory.md, section 7).

Lines are rows; columns are the rows of the transposed image.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf, log2, sqrt

import numpy as np
import scipy
from numpy.typing import NDArray

from sagd_cli.config.noise_spectrum import NoisePart, NoiseSpectrum
from sagd_cli.damage.line_steps import (
    LineSteps,
    Plane,
    gain_ceiling,
    gains_fit_better,
    halved,
    line_effects,
    line_steps,
    line_windows,
    step_strength,
)
from sagd_cli.damage.strength import Strength
from sagd_cli.spectral.band import Band, Stripe
from sagd_cli.spectral.grid import Array

SMALLEST = 48  # rows and columns that are needed, and pixels of the shortest window
WIDEST_LINE = 8  # bins on either side of 0 that a stripe may fill
SURE = 0.1  # cycles/line from which on the effects of lines are known well
WIDEST_STRIPE = 8  # rows that are taken together, at most: soft stripes are wide
PASSES = 2  # over all widths
BROKEN_WINDOWS, BROKEN_AMONG = 8, 21  # along a row; rows to compare with
BROKEN_EDGE = 3  # rows at the ends, not looked at
# What broken rows have more: deviations, a trace, the steps of the others.
BROKEN_BEYOND, BROKEN_LEAST, SHARP = 2.5, 0.3 / 127.5, 5.0
BROKEN_WINDOW = 16  # pixels of each of the windows
BROKEN_ALONG, MENDED = 9, 3  # pixels along them that are mended together; times


def line_strength(signals: Sequence[NDArray[np.float32]], half_width: int) -> Strength | None:
    """Return the deviation, for each bin, of offsets of rows of a known width; None if the images are too small."""
    levels = list(line_levels(planes_of(signals), half_width, owners_of(signals)))
    strengths = [level.strength for level in levels if level.is_taken] or [
        level.strength for level in levels[:1]
    ]
    return per_bin(joined_strength(strengths), half_width) if strengths else None


def without_lines(signal: NDArray[np.float32], half_width: int) -> NDArray[np.float32] | None:
    """Return an image (C, H, W) without the offsets or gains of its rows; None where there are none for certain.

    They fill the bins up to `half_width`. What they have in common with the trend of the image stays in it.
    """
    planes = planes_of([signal])
    taken = [level.is_taken for level in line_levels(planes, half_width, [0] * len(planes))]
    return np.stack(planes) if any(taken) else None


def without_line_noise(
    signal: NDArray[np.float32], noise: NoiseSpectrum
) -> tuple[NDArray[np.float32], NoiseSpectrum | None]:
    """Return an image (C, H, W) without the stripes of `noise` that run through it, and the noise that is left.

    Those are offsets or gains of its rows or columns, which lie in a narrow strip through DC. What is not certain in
    the image stays, as noise.
    """
    left = []
    for part in noise.parts:
        stripe, cleaned = _through(part), None
        if stripe is not None:
            lines = signal.swapaxes(1, 2) if stripe.axis else signal
            half_width = max(0, round((stripe.width * lines.shape[2] - 0.5) / 2))
            cleaned = without_lines(lines, half_width) if half_width <= WIDEST_LINE else None
        if stripe is None or cleaned is None:
            left.append(part)
        else:
            signal = cleaned.swapaxes(1, 2) if stripe.axis else cleaned
    return np.ascontiguousarray(signal), NoiseSpectrum(tuple(left)) if left else None


def has_line_noise(noise: NoiseSpectrum) -> bool:
    """Tell whether `without_line_noise` looks for stripes that run through an image."""
    return any(_through(part) is not None for part in noise.parts)


def _through(part: NoisePart) -> Stripe | None:
    """Return the stripe of whole rows or columns that a part of the noise is, None where it is something else."""
    pieces = part.source.parts if isinstance(part.source, Band) else ()
    if len(pieces) != 1 or part.level in (0, inf):
        return None
    (piece,) = pieces
    return piece if isinstance(piece, Stripe) and piece.is_whole else None


def owners_of(signals: Sequence[NDArray[np.float32]]) -> list[int]:
    """Return the number of the image that each of `planes_of` is from."""
    return [i for i, signal in enumerate(signals) if min(signal.shape[1:]) >= SMALLEST for _ in signal]


def planes_of(signals: Sequence[NDArray[np.float32]]) -> list[Plane]:
    """Return the planes of images that are large enough."""
    return [
        np.ascontiguousarray(plane)
        for signal in signals
        if min(signal.shape[1:]) >= SMALLEST
        for plane in signal
    ]


def joined_strength(strengths: Sequence[Strength]) -> Strength:
    """Return the strength of independent effects together."""
    value, low, high = np.sqrt(np.square([(s.value, s.low, s.high) for s in strengths]).sum(axis=0)).tolist()
    return Strength(value, low, high)


def per_bin(strength: Strength, half_width: int) -> Strength:
    """Return the strength for each of the bins that effects fill."""
    return strength.scaled(1 / sqrt(2 * half_width + 1))


@dataclass(frozen=True)
class LineLevel:
    """What blocks of `scale` rows have in windows that are the row, halved so many times; 0 is for broken rows."""

    scale: int
    halvings: int
    strength: Strength
    is_taken: bool


@dataclass(eq=False)
class _Work:
    """A plane from which effects of rows are taken, and the means of its blocks of `scale` x `scale` pixels.

    What is `cut_off`, or no data, says nothing. `inside` is the share of the pixels that do, for each block.
    """

    plane: Plane
    cut_off: NDArray[np.bool_]
    scale: int
    blocks: Plane
    inside: Plane
    is_gain: bool = False
    ceiling: float | None = None  # of gains

    @classmethod
    def of(cls, plane: Plane) -> "_Work":
        """Begin with blocks of one pixel. Those of the darkest and of the brightest value may be cut off."""
        cut_off = (plane == plane.min()) | (plane == plane.max()) | (np.abs(plane) == 1)
        return cls(plane, cut_off, 1, plane, (~cut_off).astype(np.float32))

    def mend(self) -> float:
        """Take away what broken rows have more than those beside them, and return its deviation in the plane."""
        before = self.plane
        for _ in range(MENDED):
            rows = broken_lines(self.plane)
            if not len(rows):
                break
            more = self.plane[rows] - (self.plane[rows - 1] + self.plane[rows + 1]) / 2
            changed = self.plane.copy()
            changed[rows] -= scipy.ndimage.median_filter(more, (1, BROKEN_ALONG), mode="nearest")
            self.plane = self.blocks = changed
        return float(np.std(self.plane - before)) if self.plane is not before else 0.0

    def again(self) -> "_Work":
        """Begin again with what is left."""
        inside = (~self.cut_off).astype(np.float32)
        return _Work(self.plane, self.cut_off, 1, self.plane, inside, self.is_gain)

    def halve(self) -> None:
        """Go on with blocks of twice the size."""
        self.scale, self.blocks, self.inside = 2 * self.scale, halved(self.blocks), halved(self.inside)

    def steps(self, halvings: int) -> LineSteps:
        """Measure the steps from block to block."""
        width = self.blocks.shape[1]
        return line_steps(self.blocks, self.inside, line_windows(width, width / 2**halvings), self.is_gain)

    def take(self, effects: Array, halvings: int, steps: LineSteps) -> None:
        """Take away the effects of blocks in windows, which make these steps."""
        rows, width = self.plane.shape
        if self.is_gain and not halvings:  # a window may lie over one object, and would follow it
            self.ceiling = gain_ceiling(self.blocks, self.inside, steps)
        if self.scale > 1:
            places = (np.arange(rows) + 0.5) / self.scale - 0.5
            effects = np.stack([np.interp(places, np.arange(len(effects)), e) for e in effects.T], axis=1)
        fine = effects.astype(np.float32)
        fine = fine @ line_windows(width, width / 2**halvings) if halvings else fine
        self.plane = self.blocks = _without(self.plane, fine, self.ceiling, self.cut_off)
        for _ in range(self.scale.bit_length() - 1):
            self.blocks = halved(self.blocks)


def line_levels(planes: list[Plane], half_width: int, owners: Sequence[int]) -> Iterator[LineLevel]:
    """Yield the strength of what differs from row to row in whole rows, in halves of them, and so on.

    Then the same of blocks of 2, 4 and 8 rows, and of all once more where wide stripes hid narrow ones. What is there
    for sure is taken away from `planes`, and told so. The windows end with the first strength that is not sure, and
    with those that `half_width` asks for. At last broken rows are mended. `owners` tells which planes are from one
    image.
    """
    works = [_Work.of(plane) for plane in planes]
    for owner in set(owners):
        of_one = [work for work, o in zip(works, owners, strict=True) if o == owner]
        is_gain = gains_fit_better([(work.plane, work.inside) for work in of_one])
        for work in of_one:
            work.is_gain = is_gain
    halvings = 1 + (round(log2(2 * half_width)) if half_width else 0)
    for _ in range(PASSES):
        hid = False
        while works and works[0].scale <= WIDEST_STRIPE:
            for level in _windows(works, halvings, owners):
                hid |= level.is_taken and level.scale > 1
                planes[:] = [work.plane for work in works]
                yield level
            for work in works:
                work.halve()
            if min(min(work.blocks.shape) for work in works) < SMALLEST:
                break
        works = [work.again() for work in works]
        if not hid:
            break
    mended = [work.mend() for work in works]
    if any(mended):
        planes[:] = [work.plane for work in works]
        yield LineLevel(0, 0, Strength.told(sqrt(np.mean(np.square(mended)))), True)


def _windows(works: Sequence[_Work], most: int, owners: Sequence[int]) -> Iterator[LineLevel]:
    """Yield the levels of one scale."""
    for halvings in range(most):
        if halvings and min(work.plane.shape[1] for work in works) < SMALLEST * 2**halvings:
            return
        steps = [work.steps(halvings) for work in works]
        strength = step_strength(steps, owners)
        # Images have soft stripes, and parts of lines, of their own.
        if not (strength.certain if halvings or works[0].scale > 1 else strength.found):
            yield LineLevel(works[0].scale, halvings, strength, False)
            return
        squares = []
        for work, one in zip(works, steps, strict=True):
            effects = line_effects(one, (strength.value / one.size) ** 2)
            squares.append((one.size * _deviation(effects, one.windows)) ** 2)
            work.take(effects, halvings, one)
        taken = strength.scaled(sqrt(np.mean(squares)) / strength.value)
        yield LineLevel(works[0].scale, halvings, taken, True)


def broken_lines(plane: Plane) -> NDArray[np.int64]:
    """Return the numbers of the rows that stand out all along, as those of broken detectors do.

    They are darker or brighter than both rows beside them, in all windows along them, far beyond what other rows are,
    and these do not differ: no lens draws so sharp a line. Images with more lines that are less sharp drew them all.
    """
    if min(plane.shape) < SMALLEST or plane.shape[1] < BROKEN_WINDOWS * BROKEN_WINDOW:
        return np.zeros(0, np.int64)
    starts = np.arange(BROKEN_WINDOWS) * plane.shape[1] // BROKEN_WINDOWS
    sums = np.add.reduceat(plane, starts, axis=1) * (BROKEN_WINDOWS / plane.shape[1])
    more = np.abs(sums[1:-1] - (sums[:-2] + sums[2:]) / 2)
    # Lines alone go four times as fast as a window of them.
    among = [scipy.ndimage.median_filter(line, BROKEN_AMONG, mode="nearest") for line in more.T]
    usual = np.stack(among, axis=1) / 0.6745
    stands_out = np.all(more > BROKEN_BEYOND * (usual + BROKEN_LEAST), axis=1)
    stands_out[:BROKEN_EDGE] = stands_out[-BROKEN_EDGE:] = False
    outer = np.abs(np.diff(np.pad(sums, ((1, 1), (0, 0)), mode="edge"), axis=0)).sum(axis=1)
    beside = np.maximum(np.maximum(outer[:-3], outer[3:]), np.abs(sums[2:] - sums[:-2]).sum(axis=1))
    sharp = stands_out & (2 * more.sum(axis=1) > SHARP * beside)
    others = stands_out & ~scipy.ndimage.binary_dilation(sharp)
    if np.count_nonzero(sharp) <= np.count_nonzero(others):
        return np.zeros(0, np.int64)
    return np.flatnonzero(sharp) + 1


def _deviation(effects: Array, windows: Plane) -> float:
    """Return the deviation of effects (H, K) in windows, from the frequencies across where the image adds little."""
    spectrum = np.fft.rfft(effects, axis=0, norm="ortho")[np.fft.rfftfreq(len(effects)) > SURE]
    overlap = windows @ windows.T / windows.shape[1]
    return float(np.sqrt(np.sum((spectrum @ overlap) * spectrum.conj()).real / len(spectrum)))


def _without(plane: Plane, effects: Plane, ceiling: float | None, cut_off: NDArray[np.bool_]) -> Plane:
    """Return a plane without the effects, which are gains of the brightness up to a `ceiling`, offsets without one.

    What was cut off, or is no data, follows its neighbours as far as it may.
    """
    less = effects if ceiling is None else -np.expm1(-effects) * np.minimum(plane + 1, ceiling)
    changed: Plane = plane - less
    rows, columns = np.nonzero(cut_off)
    if not len(rows):
        return changed
    cut, moved = plane[rows, columns], changed[rows, columns]
    changed[rows, columns] = cut
    last = len(plane) - 1
    near = (changed[np.maximum(rows - 1, 0), columns] + changed[np.minimum(rows + 1, last), columns]) / 2
    changed[rows, columns] = np.clip(near, np.minimum(cut, moved), np.maximum(cut, moved))
    return changed
