"""A NumPy array of uint8 images, (N, C, *spatial)."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from pydantic import Field

from sagd_cli.errors import DataError, UsageError
from sagd_cli.plugin import DatasetPlugin, ImageSet, Options, Split, hookimpl


class NpyOptions(Options):
    """Which file."""

    path: Path = Field(Path("images.npy"), description="A .npy file of uint8 (N, C, *spatial).")


def build(options: NpyOptions, split: Split) -> ImageSet:
    """Read the array; pickled content is refused. Raises DataError when it is no such array."""
    if split == "test":
        raise UsageError(f"{options.path} has no held-out split", "Name the file of the test images.")
    try:
        array = np.load(options.path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{options.path} cannot be read as a .npy array: {error}") from None
    if not isinstance(array, np.ndarray) or array.dtype != np.uint8:
        kind = array.dtype if isinstance(array, np.ndarray) else "an archive"
        raise DataError(f"{options.path} is {kind}, not a .npy array of uint8 (N, C, *spatial)")
    return ImageSet(array)


@hookimpl
def sagd_datasets() -> Iterable[DatasetPlugin]:
    """Provide `npy`."""
    yield DatasetPlugin("npy", "a .npy file of uint8 (N, C, *spatial)", NpyOptions, build)
