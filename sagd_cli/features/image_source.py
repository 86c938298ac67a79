"""A set of images that is compared: its size, and its images one at a time."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sagd_cli.config.run import DatasetConfig
from sagd_cli.datasets.alike import byte_images, is_drawable
from sagd_cli.datasets.known_hash import KnownHash
from sagd_cli.datasets.loading import check_drawable, open_images
from sagd_cli.errors import DataError, UsageError
from sagd_cli.system.console import Output

PART_IMAGES, PART_BYTES = 250, 1 << 25
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class ImageSource:
    """`count` uint8 images of one `shape` (C, H, W), and the `name` the user knows them by.

    `read(parts, output)` yields those at the places `parts`, in their order, each time it is called. `sampling` says
    how the images of a run are drawn, and reading them again draws them again. It is None for images that are stored.
    `at_once` is how many are drawn together: parts of other sizes would be drawn with other rounding. `known` is their
    hash where they come from files.
    """

    name: str
    count: int
    shape: tuple[int, ...]
    read: Callable[[Sequence[range], Output], Iterator[Pixels]]
    sampling: Mapping[str, Any] | None = None
    at_once: int | None = None
    known: KnownHash | None = None

    def __post_init__(self) -> None:
        """Raise DataError when they are neither grey nor RGB."""
        if not is_drawable(self.shape):
            raise DataError(f"{self.name} holds fields of shape {self.shape}, not grey or RGB images")

    def parts(self, batch_size: int) -> list[range]:
        """Return the places of all images, in parts to be worked on together, of whole batches of `batch_size`."""
        most = min(PART_IMAGES, PART_BYTES // math.prod(self.shape)) // batch_size
        size = self.at_once or batch_size * max(1, most)
        return [range(self.count)[start : start + size] for start in range(0, self.count, size)]

    @property
    def is_stored(self) -> bool:
        """Whether the images are read from somewhere, and not drawn."""
        return self.sampling is None


def array_source(name: str, images: Pixels) -> ImageSource:
    """Return images that are in memory, uint8 (N, C, H, W)."""

    def read(parts: Sequence[range], output: Output) -> Iterator[Pixels]:
        return (images[place] for part in parts for place in part)

    return ImageSource(name, len(images), images.shape[1:], read)


def data_source(config: DatasetConfig, name: str | None = None, count: int | None = None) -> ImageSource:
    """Return the images of a data set, or the first `count` of them; `name` is what the user calls it.

    Floats become bytes, and a note says how. Raises UsageError when they are neither grey nor RGB images, or when there
    are fewer. Reading raises DataError on images of different shapes.
    """
    name = name or _name(config)
    known = KnownHash(config, bytes=True, count=count)
    images = open_images(config).images
    check_drawable(images, name)
    if count is not None and count > len(images):
        raise UsageError(
            f"{name} has {len(images)} images, fewer than the {count} asked for", "Lower --count."
        )
    wanted = len(images) if count is None else count

    def read(parts: Sequence[range], output: Output) -> Iterator[Pixels]:
        return byte_images(images.at([place for part in parts for place in part]), name)

    # What is said of floats is said again, so these are read again.
    known_bytes = known if images.dtype == np.uint8 else None
    return ImageSource(name, wanted, images.shape[1:], read, known=known_bytes)


def _name(config: DatasetConfig) -> str:
    split = "" if config.split == "train" else f":{config.split}"
    return str(config.options.get("path", f"{config.name}{split}"))
