"""Offsets and gains of whole lines that nobody describes (docs/theory.md, section 7). Lines are rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from sagd_cli.damage.line_steps import Plane
from sagd_cli.damage.lines import (
    WIDEST_LINE,
    LineLevel,
    joined_strength,
    line_levels,
    owners_of,
    per_bin,
    planes_of,
)
from sagd_cli.damage.strength import Strength

FAINTEST_OFFSET = 0.9 / 127.5  # a standard deviation that hardly shows
ALONG = 0.1  # of the steps between every other line that mosaics have along the lines, too
PATTERN = 0.7  # share of the power, beyond chance, that one frequency and its harmonics hold in a pattern
SEGMENT = 256  # lines in which that is looked at
MEDIAN_OF_NORMAL = 0.6745  # of absolute values, in standard deviations


@dataclass(frozen=True)
class Line:
    """Effects of lines that fill the bins up to `half_width` on either side of frequency 0.

    Independent offsets of the standard deviation `deviation` for each of these bins make them up.
    """

    deviation: Strength
    half_width: int

    def width(self, across: float) -> float:
        """Return the width in cycles/pixel of its stripe in images that are `across` pixels wide: 0 for one bin."""
        return float(f"{(2 * self.half_width + 0.5) / across:.4g}") if self.half_width else 0.0


def find_line(signals: Sequence[NDArray[np.float32]]) -> Line | None:
    """Return the offsets or gains of the rows of images (C, H, W), None where there are none for certain.

    The strength is that of all images together. The width is that of the shortest windows in which rows differ. Rows
    that differ by a regular pattern, as those of a mosaic do, are the image's. Rows of independent pixels differ as
    well, by the deviation of the pixels over the root of their number: that is no offset.
    """
    planes = planes_of(signals)
    given = list(planes)
    chance = _noise_of_pixels(given) / np.sqrt(np.mean([plane.shape[1] for plane in given] or [1]))
    taken = [
        level
        for level in line_levels(planes, WIDEST_LINE, owners_of(signals))
        if level.is_taken and level.strength.value > chance * _by_chance(level)
    ]
    # Parts of rows differ in images as well; whole rows do not.
    if not any(
        level.scale == 0
        or (level.halvings == 0 and level.strength.certain and level.strength.value >= FAINTEST_OFFSET)
        for level in taken
    ):
        return None
    effects = [np.mean(first - last, axis=1) for first, last in zip(given, planes, strict=True)]
    if _is_pattern(effects, alternates=all(map(_is_mosaic, given, effects))):
        return None
    half_width = 2 ** max(level.halvings for level in taken) // 2
    return Line(per_bin(joined_strength([level.strength for level in taken]), half_width), half_width)


def _noise_of_pixels(planes: Sequence[Plane]) -> float:
    """Return the deviation that independent pixels have at most, if they differ as those of planes do.

    It comes from what is left of differences along both axes, in which neither rows nor columns show.
    """
    twice = [
        np.median(np.abs(np.diff(np.diff(plane, axis=0), axis=1))) / MEDIAN_OF_NORMAL for plane in planes
    ]
    return float(np.sqrt(np.mean(np.square(twice)))) / 2 if planes else 0.0


def _by_chance(level: LineLevel) -> float:
    """Return how much more than whole rows the windows of a level differ where pixels are independent."""
    return float(np.sqrt(2**level.halvings / level.scale)) if level.scale else 0.0


def _is_pattern(effects: Sequence[Plane], alternates: bool) -> bool:
    """Tell whether one frequency and its harmonics make up most of the effects of lines, given for each plane.

    Random effects have about the same power at all frequencies. No lens draws every other line brighter; only images
    that say they do have it for their own.
    """
    length = min(SEGMENT, *map(len, effects))
    power = np.mean([scipy.signal.welch(each, nperseg=length)[1] for each in effects], axis=0)
    # The taper spreads each frequency over three bins.
    power = power if alternates else power[:-2]
    bins = np.arange(len(power))
    lowest = np.arange(4, len(power), 1 / 8)[:, None]
    near = np.abs(bins - lowest * np.maximum(1, np.round(bins / lowest))) <= 1.5
    held, chance = near @ (power / power.sum()), near.mean(axis=1)
    return bool(np.max((held - chance) / (1 - chance)) > PATTERN)


def _is_mosaic(plane: Plane, effects: Plane) -> bool:
    """Tell whether the pixels along the lines alternate as well, as those of colours side by side do."""
    lines = np.mean(effects[::2]) - np.mean(effects[1::2])
    along = np.diff([[plane[i::2, j::2].mean() for j in (0, 1)] for i in (0, 1)], axis=1)
    return bool(np.abs(along).max() > ALONG * abs(lines))
