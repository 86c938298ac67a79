"""The one place for the range of pixels: image files and arrays to signals on [-1, 1], and back. Imports no torch.

Image files hold black as 0 and white as `white(dtype)`. Arrays of integers use the whole range of their type, and
arrays of floats are signals already. `tensors` does the same for tensors.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sagd_cli.errors import DataError

# An image (C, H, W), of which black is -1 and white is 1.
Signal = NDArray[np.floating]

_WHITE = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}


def white(dtype: np.dtype) -> float:
    """Return the value of white in image files of this type; black is 0. Raises KeyError on other types."""
    return _WHITE[dtype.name]


def image_signal(pixels: np.ndarray) -> NDArray[np.float32]:
    """Map the pixels of an image file, of any shape, from [black, white] to [-1, 1]; keep what is outside.

    Raises KeyError on a type that images do not have.
    """
    return np.asarray(pixels, np.float32) * np.float32(2 / white(pixels.dtype)) - np.float32(1)


def image_pixels(signal: Signal, dtype: np.dtype) -> np.ndarray:
    """Map a signal of any shape from [-1, 1] to [black, white], pixels of an image file of type `dtype`.

    Integers are rounded and clipped, floats are not. Raises `DataError` when the signal holds NaN or infinity,
    KeyError on a type that images do not have.
    """
    if not np.isfinite(signal).all():
        raise DataError("the computed image holds values that are not finite numbers")
    top = white(dtype)
    values = (signal.astype(np.float64) + 1) * (top / 2)
    return (np.clip(np.rint(values), 0, top) if dtype.kind == "u" else values).astype(dtype)


def to_bytes(pixels: np.ndarray) -> NDArray[np.uint8]:
    """Return the pixels of an image file as uint8: rounded and clipped, or the same array where they are bytes.

    Raises what `image_signal` and `image_pixels` raise.
    """
    return pixels if pixels.dtype == np.uint8 else image_pixels(image_signal(pixels), np.dtype(np.uint8))


def array_signal(image: NDArray[Any]) -> NDArray[np.float64]:
    """Map an array of integers, of any shape, from the whole range of its type to [-1, 1]; keep the values of floats.

    Raises DataError on any other type.
    """
    if image.dtype.kind == "f":
        return image.astype(np.float64)
    if image.dtype.kind not in "ui":
        raise DataError(f"values of type {image.dtype} are no image", "Give integers or real numbers.")
    top = np.iinfo(image.dtype).max
    return image / (top / 2) - 1 if image.dtype.kind == "u" else image / (top + 1.0)


def array_pixels(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Map an array of any shape to bytes: from [-1, 1], rounded and clipped; bytes stay as they are.

    Raises DataError on an array that is not finite, or of another type than integers and floats.
    """
    return image_pixels(array_signal(image), np.dtype(np.uint8))
