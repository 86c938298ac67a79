"""A folder of images, or a folder of such folders, each of which is a class."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sagd_cli.data.folders import list_images
from sagd_cli.data.formats import FORMATS, format_of
from sagd_cli.data.images import read_alike, read_image, resized_square
from sagd_cli.data.ranges import image_signal
from sagd_cli.errors import UsageError
from sagd_cli.plugin import DatasetPlugin, LazyImageSet, Options, Split, hookimpl
from sagd_cli.system.choices import listing


class FolderOptions(Options):
    """Which folder, and the size to bring its images to."""

    path: Path = Field(
        Path("images"),
        description=f"Folder of {listing(FORMATS)} files, or of such folders, each a class.",
    )
    size: int | None = Field(None, ge=2, description="Crop the centre square and resize it to this side.")


@dataclass(frozen=True)
class FolderImages:
    """The images at `paths`, which `read(paths, size)` yields one at a time."""

    paths: Sequence[Path]
    size: int | None
    read: Callable[[Sequence[Path], int | None], Iterator[NDArray[Any]]]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.paths)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Read each image; raise DataError on one that cannot be read."""
        return self.read(self.paths, self.size)


def build(options: FolderOptions, split: Split) -> LazyImageSet:
    """Find the images of the folder; where it holds folders of images, each of these is a class, in the order of names.

    Raises UsageError for the test split, and when there is no image. Reading raises DataError, which names two files,
    on images of several sizes without `size`.
    """
    files = _files(options, split)
    images = FolderImages([*chain(*files.values())], options.size, read_alike)
    if [*files] == [options.path]:
        return LazyImageSet(images)
    labels = np.repeat(np.arange(len(files)), [len(paths) for paths in files.values()])
    return LazyImageSet(images, labels, tuple(folder.name for folder in files))


def stream(options: FolderOptions, split: Split) -> FolderImages:
    """Return the images at their own depths; without `size` their sizes may differ. Raises what `build` raises."""
    return FolderImages([*chain(*_files(options, split).values())], options.size, _read_as_they_are)


def _files(options: FolderOptions, split: Split) -> dict[Path, list[Path]]:
    """Return the images of each folder that is a class, or of the one folder; raise UsageError where there is none."""
    if split == "test":
        raise UsageError(
            f"the folder {options.path} has no held-out split", "Name the folder of the test images."
        )
    return {folder: list_images(folder) for folder in _classes(options.path) or [options.path]}


def _classes(path: Path) -> list[Path]:
    """Return the folders in `path`, without hidden ones; none when `path` itself holds images."""
    if not path.is_dir():
        return []
    entries = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
    if any(format_of(entry) for entry in entries):
        return []
    return sorted(entry for entry in entries if entry.is_dir())


def _read_as_they_are(paths: Sequence[Path], size: int | None) -> Iterator[NDArray[Any]]:
    for path in paths:
        pixels = read_image(path).pixels
        pixels = pixels if size is None else resized_square(pixels, size)
        yield image_signal(pixels) if pixels.dtype.kind == "f" else pixels


@hookimpl
def sagd_datasets() -> Iterable[DatasetPlugin]:
    """Provide `folder`."""
    yield DatasetPlugin(
        "folder",
        "images of one size in a folder, or of any size with size=N; folders in it are classes",
        FolderOptions,
        build,
        stream=stream,
    )
