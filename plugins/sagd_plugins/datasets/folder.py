"""A folder of images."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from pydantic import Field

from sagd_cli.errors import UsageError
from sagd_cli.images import list_images, read_folder, read_image, resized_square, to_signal
from sagd_cli.plugin import DatasetPlugin, ImageSet, Options, Split, hookimpl


class FolderOptions(Options):
    """Which folder, and the size to bring its images to."""

    path: Path = Field(Path("images"), description="Folder of PNG, JPEG, WebP, TIFF, BMP or PGM files.")
    size: int | None = Field(None, ge=2, description="Crop the centre square and resize it to this side.")


def build(options: FolderOptions, split: Split) -> ImageSet:
    """Read every image of the folder; raise DataError on mixed sizes without `size` and on unreadable files."""
    _refuse_test(options, split)
    return ImageSet(read_folder(options.path, options.size))


class FolderImages:
    """The images of a folder, or of one file, read one at a time."""

    def __init__(self, options: FolderOptions) -> None:
        """Find the files; raise UsageError when there is none."""
        self._paths = list_images(options.path)
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
        "images of one size in a folder, or of any size with size=N",
        FolderOptions,
        build,
        stream=stream,
    )
