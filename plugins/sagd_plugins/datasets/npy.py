"""An array of images (N, C, *spatial): a .npy file, or `images` in an .npz archive, with their `labels`."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sagd_cli.errors import DataError, UsageError
from sagd_cli.plugin import DatasetPlugin, ImageSet, Options, Split, hookimpl

MOST_CHANNELS = 4  # of a signal in bytes; with more an array (N, C, T) is taken for images (N, H, W)

_KEYS = {"images", "labels", "class_names"}


class NpyOptions(Options):
    """Which file."""

    path: Path = Field(
        Path("images.npy"),
        description="A .npy file (N, C, *spatial), uint8 or float, or .npz with `images` and perhaps `labels`.",
    )


def build(options: NpyOptions, split: Split) -> ImageSet:
    """Map the array of a .npy file into memory, or read an .npz archive.

    Raises UsageError when there is no such file, DataError when it holds no array of images, or pickled content.
    """
    arrays = _read(options, split)
    names = tuple(map(str, np.atleast_1d(arrays.get("class_names", ()))))
    return ImageSet(arrays["images"], arrays.get("labels"), names)


def stream(options: NpyOptions, split: Split) -> NDArray[Any]:
    """Map an array of any type into memory; (T,) is one signal of length T, (N, T) are N such signals."""
    array = _read(options, split)["images"]
    if not 1 <= array.ndim <= 5 or 0 in array.shape:
        raise DataError(f"{options.path} has the shape {array.shape}, not (N, C, *spatial)")
    return array.reshape(-1, 1, array.shape[-1]) if array.ndim < 3 else array


def _read(options: NpyOptions, split: Split) -> dict[str, NDArray[Any]]:
    """Return the array as `images`; an archive may also have `labels` and `class_names`."""
    if split == "test":
        raise UsageError(f"{options.path} has no held-out split", "Name the file of the test images.")
    if not options.path.is_file():
        raise UsageError(f"there is no file {options.path}")
    try:
        loaded = np.load(options.path, mmap_mode="r", allow_pickle=False)
        is_array = isinstance(loaded, np.ndarray)
        arrays = {"images": loaded} if is_array else {key: loaded[key] for key in _KEYS & {*loaded}}
        array = arrays["images"]
    except (OSError, ValueError, EOFError, KeyError, BadZipFile) as error:
        raise DataError(f"{options.path} cannot be read as an array of images: {error}") from None
    if array.ndim == 3 and array.dtype == np.uint8 and array.shape[1] > MOST_CHANNELS:
        count, height, width = array.shape
        raise DataError(
            f"{options.path} is uint8 of shape {array.shape}: images without an axis of colours, it seems",
            f"Store it as ({count}, 1, {height}, {width}).",
        )
    return arrays


@hookimpl
def sagd_datasets() -> Iterable[DatasetPlugin]:
    """Provide `npy`."""
    yield DatasetPlugin(
        "npy",
        "a .npy file (N, C, *spatial), uint8 or float, or .npz with `images` and perhaps `labels`",
        NpyOptions,
        build,
        stream=stream,
    )
