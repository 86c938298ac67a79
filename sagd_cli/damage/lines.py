"""Offsets of rows or columns in images, found by what tells them from edges (docs/theory.md, section 7).

An offset of every row is the same along the row: it lies at the frequency 0 of the rows and nowhere beside it. It is
alike at all frequencies from row to row, and in all parts of an image. A horizon lies at few rows, planks at few
frequencies, and both at the frequencies beside 0 too, unless they cross the whole image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from sagd_cli.damage.strength import NORMAL_95, TINY, Strength
from sagd_cli.spectral.grid import Array

SMALLEST = 48  # rows and columns that are needed
BORDER = 1 / 64  # share of the rows at each end that is left out: frames and interpolated rows
WIDEST_LINE = 8  # bins on either side of 0 that a stripe may fill
BESIDE = 5  # bins beside a stripe that tell what images have there
FREQUENCY_BANDS = np.linspace(
    0.1, 0.5, 5
)  # cycles/sample: ends of four bands of frequencies, all of which must agree
SEGMENTS = 8  # of an image, which must agree as well
FILLED = 0.25  # share of the variance at frequency 0 that a bin has if the stripe fills it
AGREED = 0.5  # share of the highest band's variance that all have in a wide stripe
FAINTEST_OFFSET = 1.2 / 127.5  # a standard deviation that nobody sees


@dataclass(frozen=True)
class Line:
    """Offsets whose standard deviation is `deviation`, in bins up to `half_width` on either side of frequency 0."""

    deviation: Strength
    half_width: int


def find_line(signals: Sequence[NDArray[np.float32]]) -> Line | None:
    """Return the offsets of the rows of images (C, H, W), None where there are none for certain.

    The strength is that of all images together. The width is the one that is seen.
    """
    cells = _all_cells(signals)
    if cells is None:
        return None
    far = cells[WIDEST_LINE + 1 :].mean(axis=0)
    own = np.array([_variance(bin_, far).value for bin_ in cells[: WIDEST_LINE + 1]])
    filled = np.square(own) > FILLED * own[0] ** 2
    half_width = WIDEST_LINE if filled.all() else int(np.argmin(filled)) - 1
    if half_width < 0:
        return None
    found = _strength(cells, half_width)
    if not found.certain or found.value < FAINTEST_OFFSET:
        return None
    # Fronts of houses have wide stripes too, which fade with the frequency.
    bands = np.median(cells[: half_width + 1].mean(axis=0) - far, axis=1)
    return Line(found, half_width) if half_width == 0 or bands.min() > AGREED * bands.max() else None


def line_strength(signals: Sequence[NDArray[np.float32]], half_width: int) -> Strength | None:
    """Return the deviation of the offsets of rows, of a known width; None if the images are too small."""
    cells = _all_cells(signals)
    return None if cells is None else _strength(cells, half_width)


def _all_cells(signals: Sequence[NDArray[np.float32]]) -> Array | None:
    planes = [plane for signal in signals if min(signal.shape[1:]) >= SMALLEST for plane in signal]
    return np.concatenate([_cells(plane) for plane in planes], axis=2) if planes else None


def _strength(cells: Array, half_width: int) -> Strength:
    first = min(half_width + 2, WIDEST_LINE + 1)
    beside = cells[first : first + BESIDE].mean(axis=0)
    return _variance(cells[: half_width + 1].mean(axis=0), beside)


def _variance(cells: Array, beside: Array) -> Strength:
    """Return the deviation of offsets whose variance, with `beside`, makes `cells` (bands, parts).

    It is the mean of all cells. But the offsets are no stronger than they are in the middle one of the parts of each
    band, up to four standard errors of that.
    """
    excess = cells - beside
    count = excess.shape[1]
    errors = excess.std(axis=1, ddof=1) / sqrt(count)
    weights = 1 / np.maximum(errors, 0.1 * errors.mean() + TINY) ** 2
    middle = np.median(excess, axis=1)
    scatter = 1.4826 * np.median(np.abs(excess - middle[:, None]), axis=1) / sqrt(count)
    mean = float(weights @ excess.mean(axis=1) / weights.sum())
    variance = max(min(mean, float(np.min(middle + 4 * scatter))), 0.0)
    error = NORMAL_95 * float(np.mean(errors)) / sqrt(len(errors))
    value, low, high = (sqrt(max(v, 0.0)) for v in (variance, variance - error, variance + error))
    return Strength(value, low, high)


def _cells(plane: NDArray[np.float32]) -> Array:
    """Return what the Fourier coefficients of rows vary by from row to row, (bins, bands, parts), over the columns.

    The mean of a row varies by as much as offsets of the rows do.
    """
    border = max(1, round(BORDER * plane.shape[0]))
    columns = plane.shape[1]
    waves = (
        np.exp(-2j * np.pi * np.outer(np.arange(columns), np.arange(2 * WIDEST_LINE + 1)) / columns) / columns
    )
    rows = plane[border:-border] @ waves.astype(np.complex64)
    # Differences from row to row, whose spectrum is nearly flat in images, do not leak where the image ends.
    changes = np.fft.fft(np.diff(rows, axis=0), axis=0)
    frequency = np.abs(np.fft.fftfreq(len(changes)))[:, None]
    whole = changes / np.maximum(2 * np.sin(np.pi * frequency), 1e-9)
    parts = np.arange(SEGMENTS) * len(changes) // SEGMENTS
    cells = []
    for low, high in pairwise(FREQUENCY_BANDS):
        inside = (frequency >= low) & ((frequency < high) | (high == FREQUENCY_BANDS[-1]))
        power = np.abs(np.fft.ifft(whole * inside, axis=0)) ** 2 / np.mean(inside)
        cells.append(np.add.reduceat(power, parts, axis=0) / np.diff([*parts, len(changes)])[:, None])
    return np.moveaxis(np.array(cells), 2, 0)
