"""Values that stand for missing data: found, filled from what lies around them, and put back. Imports no torch."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from sagd_cli.errors import DataError

# Values that stand for missing data. Others are larger than any measurement (netCDF's, the ends of float32), or lie by
# themselves: so many times the span of all others away.
NO_DATA = (-9999.0, -32768.0, -99999.0)
IMPOSSIBLE, FAR = 1e29, 10
MOST_KINDS = 8  # different values of which each stands for missing data in one image


@dataclass(frozen=True, eq=False)
class Missing:
    """Where the data of an image (C, H, W) are missing, `where`, and the `values` that its file holds there."""

    where: NDArray[np.bool_]
    values: np.ndarray

    def put_back(self, pixels: np.ndarray) -> np.ndarray:
        """Return `pixels` (C, H, W) with the values of the file, or NaN in floats of another type."""
        pixels = pixels.copy()
        pixels[self.where] = self.values if pixels.dtype == self.values.dtype else np.nan
        return pixels

    @property
    def is_whole(self) -> bool:
        """Whether nothing is known of a channel."""
        return bool(self.where.all(axis=(1, 2)).any())

    @property
    def shown(self) -> str:
        """The number of the values and what they are, in words."""
        kinds = np.unique(self.values)
        what = "NaN" if np.isnan(kinds).all() else ", ".join(f"{kind:.7g}" for kind in kinds[:3])
        return f"{what} at {self.values.size} of its values"


def split_missing(pixels: np.ndarray, stated: Collection[float] = ()) -> tuple[np.ndarray, Missing | None]:
    """Return `pixels` (C, H, W) with what is missing filled, and what was missing there, None where nothing is.

    Missing are NaN and infinity, and the values `stated` for it. Among floats also what is beyond all physics, and
    their ends where these are one of NO_DATA, or of several pixels and far from the others. Filled is by reflection at
    the edge of what is there, and with 0 where a channel is missing as a whole. Raises DataError where most values are
    beyond all physics and differ.
    """
    where = _never_measured(pixels) if pixels.dtype.kind == "f" else np.zeros(pixels.shape, bool)
    for one in stated:
        if pixels.dtype.kind == "f" or _is_of(one, pixels.dtype):
            where |= pixels == pixels.dtype.type(one)
    value = _missing_value(pixels[~where])
    while value is not None:
        where |= pixels == pixels.dtype.type(value)
        value = _missing_value(pixels[~where])
    if not where.any():
        return pixels, None
    filled = np.stack([_filled(*plane) for plane in zip(pixels, where, strict=True)])
    return filled, Missing(where, pixels[where])


def refuse_missing(pixels: np.ndarray, subject: str) -> None:
    """Raise DataError, which names `subject`, when a value in `pixels` seems to stand for missing data."""
    value = _missing_value(pixels)
    if value is not None:
        count = int(np.count_nonzero(pixels == pixels.dtype.type(value)))
        raise DataError(
            f"{subject} holds {value:.7g} at {count} of its values, which seems to stand for missing data",
            "Fill these pixels first, for example from their neighbours.",
        )


def _filled(plane: np.ndarray, where: NDArray[np.bool_]) -> np.ndarray:
    """Fill `plane` (H, W) where it is missing: as many pixels beyond the nearest edge as the edge is away.

    So texture and noise go on, as noise is measured everywhere. Where nothing is there either, the edge itself.
    """
    if not where.any():
        return plane
    if where.all():
        return np.zeros_like(plane)
    edge = scipy.ndimage.distance_transform_edt(where, return_distances=False, return_indices=True)[:, where]
    holes = np.nonzero(where)
    sides = zip(edge, holes, plane.shape, strict=True)
    beyond = tuple(np.clip(2 * at - hole, 0, side - 1) for at, hole, side in sides)
    filled = plane.copy()
    filled[where] = np.where(where[beyond], plane[tuple(edge)], plane[beyond])
    return filled


def _never_measured(pixels: np.ndarray) -> NDArray[np.bool_]:
    """Return where floats are no finite numbers, or beyond all physics; raise DataError where most are measurements."""
    finite: NDArray[np.bool_] = np.isfinite(pixels)
    beyond: NDArray[np.bool_] = finite & (np.abs(pixels) > np.float64(IMPOSSIBLE))
    is_most = 2 * np.count_nonzero(beyond) > np.count_nonzero(finite)
    if is_most and len(np.unique(pixels[beyond])) > MOST_KINDS:
        raise DataError(
            f"holds values beyond {IMPOSSIBLE:.0e} in most of its pixels", "Save them in larger units."
        )
    return ~finite | beyond


def _is_of(value: float, dtype: np.dtype) -> bool:
    """Whether an integer type has a value."""
    return value.is_integer() and np.iinfo(dtype).min <= value <= np.iinfo(dtype).max


def _missing_value(pixels: np.ndarray) -> float | None:
    """Return the smallest or largest value where it stands for missing data; None where neither does."""
    if pixels.dtype.kind != "f" or not pixels.size:
        return None
    for end in {float(pixels.min()), float(pixels.max())}:
        others = pixels[pixels != end]
        low, high = (float(others.min()), float(others.max())) if others.size else (end, end)
        gap, span = max(low - end, end - high), high - low
        is_alone = gap > FAR * span > 0 and pixels.size - others.size > 1
        if end in NO_DATA or abs(end) > IMPOSSIBLE or is_alone:
            return end
    return None
