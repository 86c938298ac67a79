"""Images one by one: alike, and changed when they are read. Imports no torch."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from mmap import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sagd_cli.errors import DataError
from sagd_cli.plugin.records import Images

TYPES = ("uint8", "float16", "float32")
BLOCK_VALUES = 2**20  # values that are worked on at a time

# Makes another image of an image (C, *spatial) and its index.
Change = Callable[[int, NDArray[Any]], NDArray[Any]]


class AlikeImages:
    """Images that have one type, uint8, float16 or float32, and one shape; they are checked when they are read.

    `shape` is (N, C, *spatial), with one image at least. `dtype` is the type.
    """

    def __init__(self, source: str, images: Images) -> None:
        """Take `images`, of which only the first is read; `source` names them in errors.

        Raises DataError when the first image has another type, or is not of shape (C, *spatial).
        """
        self._source, self._images = source, images
        self.shape: tuple[int, ...]
        self.dtype: np.dtype
        if isinstance(images, np.ndarray):
            self.shape, self.dtype = images.shape, images.dtype
        else:
            first = next(iter(images), np.empty(0, np.uint8))
            self.shape, self.dtype = (len(images), *first.shape), first.dtype
        if self.dtype not in TYPES or not 3 <= len(self.shape) <= 5 or 0 in self.shape:
            raise DataError(
                f"{source} is {self.dtype} of shape {self.shape}, not {', '.join(TYPES[:-1])} or {TYPES[-1]} "
                "(N, C, *spatial)",
                "`sagd data prepare` makes such an array from a folder of images.",
            )

    def __len__(self) -> int:
        """Return the number of images."""
        return self.shape[0]

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Yield the images in their order; raise DataError on one that is not like the first, or not finite."""
        for index, image in zip(range(len(self)), _each(self._images), strict=True):
            if image.shape != self.shape[1:] or image.dtype != self.dtype:
                raise DataError(
                    f"image {index} of {self._source} is {image.dtype} of shape {image.shape}, and the first one "
                    f"{self.dtype} of shape {self.shape[1:]}"
                )
            if self.dtype.kind == "f" and not np.isfinite(image).all():
                raise DataError(
                    f"image {index} of {self._source} holds values that are not finite",
                    "Mend it or leave it out.",
                )
            yield image

    def array(self) -> NDArray[Any]:
        """Return the images in one array: the one they came in, or else a new one. Raises what iterating raises."""
        if not isinstance(self._images, np.ndarray):
            return np.fromiter(self, np.dtype((self.dtype, self.shape[1:])), len(self))
        if self.dtype.kind == "f":
            deque(self, maxlen=0)  # reads, and so checks, each of them
        return self._images


def _each(images: Images) -> Iterator[NDArray[Any]]:
    """Yield `images` one by one; those of a mapped file come from maps of its parts, so that none stays in memory."""
    file: Any = getattr(images, "base", None)
    if not (isinstance(images, np.memmap) and isinstance(file, mmap) and images.flags.c_contiguous):
        yield from images
        return
    size, filename = max(1, BLOCK_VALUES // max(1, images[0].size)), str(images.filename)
    for start in range(0, len(images), size):
        shape = (min(size, len(images) - start), *images.shape[1:])
        offset = images.offset + start * images[0].nbytes
        yield from np.memmap(filename, images.dtype, "r", offset, shape)


@dataclass(frozen=True, eq=False)
class ChangedImages:
    """Images that are changed one by one when they are read."""

    images: Images
    change: Change

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Read and change the images one by one."""
        return (self.change(index, image) for index, image in enumerate(self.images))
