"""A folder of images, or of folders of images, one a class."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sagd_cli.errors import UsageError
from sagd_cli.image_files import FORMATS
from sagd_cli.images import list_images, read_alike, read_image, resized_square, to_signal
from sagd_cli.plugin import DatasetPlugin, ImageSet, Options, Split, hookimpl


class FolderOptions(Options):
    """Which folder, and the size to bring its images to."""

    path: Path = Field(
        Path("images"),
        description="Folder of PNG, JPEG, WebP, TIFF, BMP or PGM files, or of such folders, each a class.",
    )
    size: int | None = Field(None, ge=2, description="Crop the centre square and resize it to this side.")


def build(options: FolderOptions, split: Split) -> ImageSet:
    """Read every image of the folder; raise DataError on mixed sizes without `size` and on unreadable files.

    Images that lie in folders of a folder are labelled with their folder, in the order of the folders' names.
    """
    _refuse_test(options, split)
    folders = _classes(options.path)
    files = [list_images(folder) for folder in folders or [options.path]]
    images = read_alike([path for paths in files for path in paths], options.size)
    if not folders:
        return ImageSet(images)
    labels = np.repeat(np.arange(len(files)), [len(paths) for paths in files])
    return ImageSet(images, labels, tuple(folder.name for folder in folders))


def _classes(path: Path) -> list[Path]:
    """The folders, but for hidden ones, in a folder that holds no image itself."""
    if not path.is_dir():
        return []
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    if any(entry.suffix.lower() in FORMATS for entry in entries):
        return []
    return [entry for entry in entries if entry.is_dir()]


class FolderImages:
    """The images of a folder, or of one file, read one at a time."""

    def __init__(self, options: FolderOptions) -> None:
        """Find the files; raise UsageError when there is none."""
        folders = _classes(options.path) or [options.path]
        self._paths = [path for folder in folders for path in list_images(folder)]
        self._size = options.size

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self._paths)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Read each image at its own depth; raise DataError on one that cannot be read."""
        for path in self._paths:
            pixels = read_image(path).pixels
            pixels = pixels if self._size is None else resized_square(pixels, self._size)
            yield to_signal(pixels) if pixels.dtype.kind == "f" else pixels


def stream(options: FolderOptions, split: Split) -> FolderImages:
    """Return the images one at a time, of any size unless `size` is given."""
    _refuse_test(options, split)
    return FolderImages(options)


def _refuse_test(options: FolderOptions, split: Split) -> None:
    if split == "test":
        raise UsageError(
            f"the folder {options.path} has no held-out split", "Name the folder of the test images."
        )


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
