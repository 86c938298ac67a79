"""A folder of images, or a folder of such folders, each of which is a class."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sagd_cli.data.folders import images_by_class
from sagd_cli.data.images import ImagePlace, images_in
from sagd_cli.errors import UsageError
from sagd_cli.files.formats import FORMATS
from sagd_cli.plugin import DatasetPlugin, LazyImageSet, Options, Split, hookimpl
from sagd_cli.system.choices import listing
from sagd_plugins.datasets._pictures import Mode, Pictures
from sagd_plugins.datasets._range_option import RangeText, parsed


class FolderOptions(Options):
    """Which folder, and the size, colour model and range to bring its images to."""

    path: Path = Field(
        Path("images"),
        description=f"Folder of {listing(FORMATS)} files, or of such folders, each a class.",
    )
    size: int | None = Field(
        None, ge=2, le=8000, description="Crop the centre square and resize it to this side."
    )
    mode: Mode | None = Field(None, description="Make all images RGB, or grey.")
    range: RangeText | None = Field(
        None, description="LO:HI, the values of black and white; found where the images do not tell."
    )

    later: ClassVar[tuple[str, ...]] = ("mode", "range")


@dataclass(frozen=True, eq=False)
class FolderImages:
    """Images that `read` yields one at a time, each time from the start, or those of some numbers.

    `state` of some numbers is a text that changes when their files do.
    """

    count: int
    read: Callable[..., Iterator[NDArray[Any]]]
    state: Callable[[Iterable[int]], str]

    def __len__(self) -> int:
        """Return the number of images."""
        return self.count

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Read each image; raise DataError when some cannot be read."""
        return self.read()

    def at(self, numbers: Sequence[int]) -> Iterator[NDArray[Any]]:
        """Read the images of these `numbers`, which grow; raise what iterating raises."""
        return self.read(numbers)


def build(options: FolderOptions, split: Split) -> LazyImageSet:
    """Find the images of the folder; where it holds folders of images, each of these is a class, in the order of names.

    Floats come as signals on [-1, 1], integers as bytes. Raises UsageError for the test split, when there is no image,
    and when most images are in folders beside some that are not. Reading raises DataError, which names files, on
    images that are not alike.
    """
    files = _files(options, split)
    pictures = _pictures(options, files)
    images = FolderImages(len(pictures), pictures.alike, pictures.state)
    if [*files] == [options.path]:
        return LazyImageSet(images)
    labels = np.repeat(np.arange(len(files)), [len(places) for places in files.values()])
    return LazyImageSet(images, labels, tuple(folder.name for folder in files))


def stream(options: FolderOptions, split: Split) -> FolderImages:
    """Return the images at their own depths; without `size` their sizes may differ. Raises what `build` raises."""
    pictures = _pictures(options, _files(options, split))
    return FolderImages(len(pictures), pictures.as_they_are, pictures.state)


def _pictures(options: FolderOptions, files: dict[Path, list[ImagePlace]]) -> Pictures:
    return Pictures([*chain(*files.values())], options.size, options.mode, parsed(options.range))


def _files(options: FolderOptions, split: Split) -> dict[Path, list[ImagePlace]]:
    """Return the images of each folder that is a class, or of the one folder; raise UsageError where there is none."""
    if split == "test":
        raise UsageError(
            f"the folder {options.path} has no held-out split", "Name the folder of the test images."
        )
    found = images_by_class(options.path)
    return {folder: [place for path in paths for place in images_in(path)] for folder, paths in found.items()}


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
