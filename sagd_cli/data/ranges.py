"""The range of pixels: integers and floats of images to signals on [-1, 1], and back. Imports no torch."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sagd_cli.errors import DataError

_TOP = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}  # the value of white


def image_signal(pixels: np.ndarray) -> np.ndarray:
    """Map [black, white], [0, 1] in floats, to [-1, 1] in float32 and keep what is outside.

    Raises KeyError on a type that images do not have.
    """
    return np.asarray(pixels, np.float32) * np.float32(2 / _TOP[pixels.dtype.name]) - np.float32(1)


def image_pixels(signal: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Map [-1, 1] to [black, white] of `dtype`: integers are rounded and clipped, floats never clipped.

    Raises `DataError` when the signal holds NaN or infinity, KeyError on a type that images do not have.
    """
    if not np.isfinite(signal).all():
        raise DataError("the computed image holds values that are not finite numbers")
    dtype = np.dtype(dtype)
    top = _TOP[dtype.name]
    values = (signal.astype(np.float64) + 1) * (top / 2)
    return (np.clip(np.rint(values), 0, top) if dtype.kind == "u" else values).astype(dtype)


def to_bytes(pixels: np.ndarray) -> np.ndarray:
    """Return the pixels of an image as uint8: rounded and clipped, or the same array where they are bytes."""
    return pixels if pixels.dtype == np.uint8 else image_pixels(image_signal(pixels), np.dtype(np.uint8))


def array_signal(image: NDArray[Any]) -> NDArray[np.float64]:
    """Map integers from the whole range of their type to [-1, 1]; floats are taken as they are.

    Raises DataError on any other type.
    """
    if image.dtype.kind == "f":
        return image.astype(np.float64)
    if image.dtype.kind not in "ui":
        raise DataError(f"values of type {image.dtype} are no image", "Give integers or real numbers.")
    top = np.iinfo(image.dtype).max
    return image / (top / 2) - 1 if image.dtype.kind == "u" else image / (top + 1.0)


def array_pixels(index: int, image: NDArray[Any]) -> NDArray[np.uint8]:
    """Round and clip an image on the [-1, 1] range to bytes, a Change; bytes stay as they are."""
    return image_pixels(array_signal(image), np.dtype(np.uint8))
