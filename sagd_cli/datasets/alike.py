"""Images one by one: alike, and changed when they are read. Imports no torch."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from mmap import MADV_DONTNEED, mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sagd_cli.data.ranges import ToBytes
from sagd_cli.errors import DataError
from sagd_cli.plugin.guard import GuardedImages, images_at
from sagd_cli.plugin.records import Images
from sagd_cli.system.console import output

TYPES = ("uint8", "float16", "float32")
BLOCK_VALUES = 2**20  # values that are worked on at a time

_INTEGERS = (
    "Say which values are black and white (FILE.npy,range=0:4095), or store bytes with .astype('uint8')."
)
_REMEDIES = {
    "u": _INTEGERS,
    "i": _INTEGERS,
    "c": "Store real and imaginary part as two channels of float32.",
}


def is_drawable(shape: tuple[int, ...]) -> bool:
    """Whether fields of `shape` (C, *spatial) are grey or RGB images. Their floats are signals on [-1, 1]."""
    return len(shape) == 3 and shape[0] in (1, 3)


def byte_images(images: Iterable[NDArray[Any]], name: str) -> Iterator[NDArray[np.uint8]]:
    """Yield `images`, of bytes or of floats, as bytes: black is -1 in floats and white 1.

    After the last one, a note says so of floats and counts the values that were clipped; `name` is what people call
    the images.
    """
    change, values = ToBytes(), 0
    for index, image in enumerate(images):
        values += image.size if image.dtype.kind == "f" else 0
        yield image if image.dtype == np.uint8 else change(index, image)
    if values:
        output().once(
            f"the values of {name} are taken as signals, black -1 and white 1; {change.clipped:,} of {values:,} were "
            "beyond and were clipped"
        )


# Makes another image of an image (C, *spatial) and its index.
Change = Callable[[int, NDArray[Any]], NDArray[Any]]


class AlikeImages:
    """Images that have one type, uint8, float16 or float32, and one shape; they are checked when they are read.

    `shape` is (N, C, *spatial), with one image at least. `dtype` is the type. Larger floats become float32, and the
    bytes of a value come into this machine's order, one image at a time.
    """

    def __init__(self, source: str, images: Images) -> None:
        """Take `images`, of which only the first is read; `source` names them in errors.

        Raises DataError when the first image has another type, or is not of shape (C, *spatial).
        """
        self._source, self._images = source, images
        self.shape: tuple[int, ...]
        self.dtype: np.dtype
        if isinstance(images, np.ndarray):
            self.shape, self._stored = images.shape, images.dtype
        else:
            first = next(iter(images), np.empty(0, np.uint8))
            self.shape, self._stored = (len(images), *first.shape), first.dtype
        self.dtype = _used(self._stored)
        if self.dtype not in TYPES or not 3 <= len(self.shape) <= 5 or 0 in self.shape:
            raise DataError(
                f"{source} is {self.dtype} of shape {self.shape}, not {', '.join(TYPES[:-1])} or {TYPES[-1]} "
                "(N, C, *spatial)",
                _REMEDIES.get(
                    self.dtype.kind, "`sagd data prepare` makes such an array from a folder of images."
                ),
            )

    def __len__(self) -> int:
        """Return the number of images."""
        return self.shape[0]

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Yield the images in their order; raise DataError on one that is not like the first, or not finite."""
        pairs = zip(range(len(self)), _each(self._images), strict=True)
        return (self._checked(index, image) for index, image in pairs)

    def at(self, places: Sequence[int]) -> Iterator[NDArray[Any]]:
        """Yield the images at `places`, which grow; raise what iterating raises."""
        pairs = zip(places, _each(self._images, places), strict=True)
        return (self._checked(index, image) for index, image in pairs)

    @property
    def is_indexed(self) -> bool:
        """Whether some images can be read without the others."""
        own = self._own
        return isinstance(own, np.ndarray) or hasattr(own, "at")

    @property
    def has_state(self) -> bool:
        """Whether images tell when what they are read from changes."""
        return hasattr(self._own, "state")

    def state(self, places: Sequence[int]) -> str:
        """Return a text that changes when what the images at `places` are read from does; it needs `has_state`."""
        return str(self._own.state(places))

    @property
    def _own(self) -> Any:
        """The images as their plug-in has them."""
        own: Any = self._images
        while isinstance(own, ChangedImages | GuardedImages):
            own = own.images
        return own

    def _checked(self, index: int, image: NDArray[Any]) -> NDArray[Any]:
        """Return image number `index` in the type that is used; raise DataError on what iterating refuses."""
        if image.shape != self.shape[1:] or image.dtype != self._stored:
            raise DataError(
                f"image {index} of {self._source} is {image.dtype} of shape {image.shape}, and the first one "
                f"{self._stored} of shape {self.shape[1:]}"
            )
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused
            used = image.astype(self.dtype, copy=False)
        if self.dtype.kind == "f" and not np.isfinite(used).all():
            raise DataError(
                f"image {index} of {self._source} holds values that are not finite",
                "Mend it or leave it out.",
            )
        return used

    def array(self) -> NDArray[Any]:
        """Return the images in one array: the one they came in, or else a new one. Raises what iterating raises."""
        if not isinstance(self._images, np.ndarray) or self.dtype != self._stored:
            return np.fromiter(self, np.dtype((self.dtype, self.shape[1:])), len(self))
        if self.dtype.kind == "f":
            deque(self, maxlen=0)  # reads, and so checks, each of them
        return self._images


def _used(stored: np.dtype) -> np.dtype:
    """Return the type that values of the type `stored` are used in."""
    if stored.kind == "f" and stored.itemsize > np.dtype(np.float32).itemsize:
        return np.dtype(np.float32)
    return stored.newbyteorder("=")


def _each(images: Images, places: Sequence[int] | None = None) -> Iterator[NDArray[Any]]:
    """Yield all `images` one by one, or those at `places`.

    Pages of a mapped file are let go after each block, so that none stays in memory.
    """
    file = _mapped_file(images)
    size = 0 if file is None else max(1, BLOCK_VALUES // max(1, next(iter(images)).size))
    for index, image in enumerate(images if places is None else images_at(images, places)):
        yield image
        if file is not None and index % size == size - 1:
            file.madvise(MADV_DONTNEED)


def _mapped_file(images: Any) -> mmap | None:
    """Return the map that holds `images`, None for other images, and for those that can be written to."""
    if not isinstance(images, np.ndarray) or images.flags.writeable:
        return None
    while isinstance(images, np.ndarray):
        images = images.base
    return images if isinstance(images, mmap) else None


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
        return (self.change(index, image) for index, image in enumerate(_each(self.images)))

    def at(self, places: Sequence[int]) -> Iterator[NDArray[Any]]:
        """Read and change the images at `places`, which grow."""
        return (
            self.change(index, image) for index, image in zip(places, _each(self.images, places), strict=True)
        )
