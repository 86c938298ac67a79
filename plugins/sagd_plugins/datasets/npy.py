"""A NumPy array of uint8 images (N, C, *spatial): a .npy file, or `images` in an .npz archive."""

from collections.abc import Iterable
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from pydantic import Field

from sagd_cli.errors import DataError, UsageError
from sagd_cli.plugin import DatasetPlugin, ImageSet, Options, Split, hookimpl


class NpyOptions(Options):
    """Which file."""

    path: Path = Field(
        Path("images.npy"), description="A .npy file of uint8 (N, C, *spatial), or .npz with `images`."
    )


def build(options: NpyOptions, split: Split) -> ImageSet:
    """Read the array; pickled content is refused. Raises DataError when it is no such array."""
    if split == "test":
        raise UsageError(f"{options.path} has no held-out split", "Name the file of the test images.")
    try:
        loaded = np.load(options.path, allow_pickle=False)
        array = loaded if isinstance(loaded, np.ndarray) else loaded["images"]
    except (OSError, ValueError, EOFError, KeyError, BadZipFile) as error:
        raise DataError(f"{options.path} cannot be read as an array of images: {error}") from None
    if array.dtype != np.uint8:
        raise DataError(f"{options.path} holds {array.dtype}, not uint8 images (N, C, *spatial)")
    return ImageSet(array)


@hookimpl
def sagd_datasets() -> Iterable[DatasetPlugin]:
    """Provide `npy`."""
    yield DatasetPlugin(
        "npy", "a .npy file of uint8 (N, C, *spatial), or .npz with `images`", NpyOptions, build
    )
