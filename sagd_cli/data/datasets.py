"""Data sets through their plug-ins: whole, image by image, hashed and measured. Imports no torch."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from mmap import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sagd_cli.config.run import DatasetConfig
from sagd_cli.errors import DataError, UsageError
from sagd_cli.plugin.records import DatasetPlugin, Images, ImageSet, LazyImageSet
from sagd_cli.plugin.registry import registry

TYPES = ("uint8", "float16", "float32")
MOST_CLASSES_UNNAMED = 10_000
BLOCK_VALUES = 2**20  # values that are worked on at a time

# Makes another image of the one at an index, (C, *spatial).
Change = Callable[[int, NDArray[Any]], NDArray[Any]]


class AlikeImages:
    """Images of one type, uint8, float16 or float32, and one `shape` (N >= 1, C, *spatial), checked when read."""

    def __init__(self, source: str, images: Images) -> None:
        """Look at the first of `images`; raise DataError, naming `source`, when it is of no such type and shape."""
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
        """Return their number."""
        return self.shape[0]

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Read them from the start; raise DataError on one that is not like the first, or not finite."""
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
        """Return them in one array: the one they came in, or else a new one."""
        if not isinstance(self._images, np.ndarray):
            return np.fromiter(self, np.dtype((self.dtype, self.shape[1:])), len(self))
        if self.dtype.kind == "f":
            deque(self, maxlen=0)  # reads, and so checks, each of them
        return self._images


def _each(images: Images) -> Iterator[NDArray[Any]]:
    """Yield images one by one; those of a mapped file from maps of a part, so that what was read is not held."""
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
class _ChangedImages:
    """Images of which each is changed when it is read."""

    images: Images
    change: Change

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (self.change(index, image) for index, image in enumerate(self.images))


@dataclass(frozen=True, eq=False)
class OpenImageSet(LazyImageSet):
    """A LazyImageSet whose shape and type are known."""

    images: AlikeImages

    def load(self) -> ImageSet:
        """Return it with its images in one array; raise DataError on those that are not alike or not finite."""
        return ImageSet(self.images.array(), self.labels, self.class_names)


def load_images(config: DatasetConfig) -> ImageSet:
    """Load a data set through its plug-in, as one array; an array that it has is not copied.

    Raises DataError unless it is uint8, float16 or float32, finite, (N >= 1, C, *spatial), and labelled in full if
    at all.
    """
    return open_images(config).load()


def load_pixels(config: DatasetConfig, change: Change | None = None) -> ImageSet:
    """Load a data set as `load_images` does, each image changed; raise UsageError unless it then is uint8."""
    found = open_images(config, change)
    if found.images.dtype != np.uint8:
        raise UsageError(
            f"{config.subject} is {found.images.dtype} data, which has no black and white, and this takes images",
            "Give uint8 images; latents have to be decoded first.",
        )
    return found.load()


def open_images(config: DatasetConfig, change: Change | None = None) -> OpenImageSet:
    """Find a data set through its plug-in and read no more than its first image; each is changed when it is read.

    Raises DataError when that is none to train on, or labels do not fit.
    """
    plugin = registry().get("dataset", config.name)
    found: LazyImageSet = plugin.load()(plugin.options.model_validate(config.options), config.split)
    raw = found.images
    images = AlikeImages(config.subject, raw if change is None else _ChangedImages(raw, change))
    labels = None if found.labels is None else _checked_labels(config.subject, found)
    return OpenImageSet(images, labels, found.class_names)


def class_names(images: LazyImageSet) -> tuple[str, ...]:
    """Return the names of the classes of a labelled data set, which are their numbers where it names none."""
    if images.labels is None:
        return ()
    return images.class_names or tuple(map(str, range(int(images.labels.max()) + 1)))


def _checked_labels(subject: str, found: LazyImageSet) -> NDArray[np.int64]:
    labels, names, count = np.asarray(found.labels), found.class_names, len(found.images)
    if labels.dtype.kind not in "ui" or labels.shape != (count,):
        raise DataError(
            f"the labels of {subject} are {labels.dtype} of shape {labels.shape}, not integers of shape ({count},)"
        )
    if len({*names}) < len(names):
        raise DataError(f"{subject} gives two classes the same name")
    classes = len(names) or max(MOST_CLASSES_UNNAMED, 10 * count)
    if not 0 <= labels.min() <= labels.max() < classes:
        raise DataError(
            f"the labels of {subject} go from {labels.min()} to {labels.max()}, not from 0 to at most {classes - 1}"
        )
    return labels.astype(np.int64)


def stream_images(config: DatasetConfig) -> Images:
    """Return the images of a data set without holding them all, where its plug-in can; sizes and types may differ."""
    plugin: DatasetPlugin = registry().get("dataset", config.name)
    if plugin.stream is None:
        return open_images(config).images
    images: Images = plugin.stream(plugin.options.model_validate(config.options), config.split)
    return images


@dataclass(frozen=True)
class DataSize:
    """How many images there are, the shape (C, *spatial) of each, and the number of classes to train on, 0 for none."""

    count: int
    shape: tuple[int, ...]
    classes: int = 0


def data_size(config: DatasetConfig, labelled: bool) -> DataSize:
    """Measure a data set without holding its images; raises what `open_images` raises."""
    found = open_images(config)
    return DataSize(len(found.images), found.images.shape[1:], len(class_names(found)) if labelled else 0)


class ImageHash:
    """sha256 of `count` images in their order: their number, and of each its values, and its shape where it is new."""

    def __init__(self, count: int) -> None:
        """Start without images, of which there will be `count`."""
        self._digest = hashlib.sha256()
        self._shape: tuple[int, ...] | None = None
        self._count = count

    def add(self, image: NDArray[Any]) -> None:
        """Take the next image (C, *spatial)."""
        if image.shape != self._shape:
            first = self._shape is None
            self._digest.update(repr((self._count, *image.shape) if first else image.shape).encode())
            self._shape = image.shape
        values = np.ascontiguousarray(image, image.dtype.newbyteorder("<"))
        if values.dtype != np.uint8:
            self._digest.update(values.dtype.str.encode())
        self._digest.update(values.data)

    def hexdigest(self) -> str:
        """Return the hash of what was added."""
        return self._digest.hexdigest()


def hash_images(images: Images) -> str:
    """sha256 of images, each (C, *spatial): the same whether they are in one array or come one by one."""
    digest = ImageHash(len(images))
    for image in images:
        digest.add(image)
    return digest.hexdigest()


def blocks(images: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield `images` (N, ...) in blocks of a bounded number of values, one image at least."""
    size = max(1, BLOCK_VALUES // max(1, images[0].size))
    return (images[start : start + size] for start in range(0, len(images), size))


def mean_and_std(images: NDArray[Any]) -> tuple[float, float]:
    """Return the mean and the standard deviation of all values of `images` (N, ...), as they are, block by block."""
    mean = sum(float(block.sum(dtype=np.float64)) for block in blocks(images)) / images.size
    squares = sum(float(np.square(block.astype(np.float64) - mean).sum()) for block in blocks(images))
    return mean, float(np.sqrt(squares / images.size))


def fetch(config: DatasetConfig) -> None:
    """Let a data set download its files; raise UsageError when it has none to fetch."""
    plugin = registry().get("dataset", config.name)
    if "download" not in plugin.options.model_fields:
        raise UsageError(f"the data set {config.name} has nothing to download")
    plugin.load()(plugin.options.model_validate({**config.options, "download": True}), config.split)
