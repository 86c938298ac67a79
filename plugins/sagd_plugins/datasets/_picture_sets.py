"""Data sets of image files, wherever these lie: the options they share, and their images one at a time."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sagd_cli.data.folders import DOCUMENTS
from sagd_cli.errors import UsageError
from sagd_cli.files.formats import format_of
from sagd_cli.plugin import LazyImageSet, Options, Split
from sagd_cli.system.files import has_suffix, shown_path
from sagd_plugins.datasets._pictures import Mode, Pictures, Places
from sagd_plugins.datasets._range_option import RangeText, parsed


class PictureOptions(Options):
    """Where the images are, and the size, colour model and range to bring them to."""

    path: Path
    size: int | None = Field(
        None, ge=2, le=8000, description="Crop the centre square and resize it to this side."
    )
    mode: Mode | None = Field(None, description="Make all images RGB, or grey.")
    range: RangeText | None = Field(
        None, description="LO:HI, the values of black and white; found where the images do not tell."
    )

    later: ClassVar[tuple[str, ...]] = ("mode", "range")


@dataclass(frozen=True, eq=False)
class PictureImages:
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


@dataclass(frozen=True, eq=False)
class PictureSet:
    """Where the images of a data set are, and their labels (N,) where they have some."""

    places: Places
    labels: NDArray[np.int64] | None = None
    class_names: tuple[str, ...] = ()

    def alike(self, options: PictureOptions) -> LazyImageSet:
        """Return the images, alike. Floats come as signals on [-1, 1], integers as bytes.

        Reading raises DataError, which names files, on images that are not alike.
        """
        pictures = self._pictures(options)
        return LazyImageSet(
            PictureImages(len(pictures), pictures.alike, pictures.state), self.labels, self.class_names
        )

    def as_they_are(self, options: PictureOptions) -> PictureImages:
        """Return the images at their own depths; without `size` their sizes may differ."""
        pictures = self._pictures(options)
        return PictureImages(len(pictures), pictures.as_they_are, pictures.state)

    def _pictures(self, options: PictureOptions) -> Pictures:
        return Pictures(self.places, options.size, options.mode, parsed(options.range))


def no_test_split(path: Path, split: Split) -> None:
    """Raise UsageError when the held-out images are asked for of files that have none."""
    if split == "test":
        raise UsageError(f"{shown_path(path)} has no held-out split", "Name the path of the test images.")


def holds_files(path: Path, suffix: str) -> bool:
    """Tell whether `path` is a folder of files with `suffix`, and neither it nor a folder in it holds images."""
    return has_files(path, suffix) and not holds_images(path)


def has_files(path: Path, suffix: str) -> bool:
    """Tell whether a file with `suffix` that is not hidden is in the folder `path`."""
    return any(has_suffix(name, suffix) for name, _ in _shown_entries(path))


def holds_images(path: Path) -> bool:
    """Tell whether images are in `path` or in a folder in it, going by the names, without hidden ones."""
    entries = _shown_entries(path)
    return any(format_of(Path(name)) for name, _ in entries) or any(
        format_of(Path(name))
        for folder, is_folder in entries
        if is_folder
        for name, _ in _shown_entries(path / folder)
    )


def _shown_entries(path: Path) -> list[tuple[str, bool]]:
    """Return what is in a folder and not hidden, and whether each is a folder; nothing where it cannot be read."""
    try:
        with os.scandir(path) as entries:
            return [(entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith(".")]
    except OSError:
        return []


def files_of(path: Path, suffix: str) -> list[Path]:
    """Return the file `path`, or the files in that folder with `suffix`, by name; raise UsageError without any."""
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if has_suffix(file, suffix) and file.name[0] != ".")
    else:
        found = [path] if path.is_file() else []
    if not found:
        raise UsageError(f"there is no {suffix} file at {shown_path(path)}", "See `sagd data list`.")
    return found


def is_picture(name: str) -> bool:
    """Tell whether a member of an archive is an image by its name, and none that a system hides."""
    parts = [part for part in name.split("/") if part not in (".", "..")]
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return not hidden and format_of(Path(name)) is not None


def is_document(name: str) -> bool:
    """Tell whether a member of an archive lies beside images and is none."""
    return Path(name).suffix.lower() in DOCUMENTS
