"""Data sets through their plug-ins: whole, image by image, hashed and measured. Imports no torch."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sagd_cli.config.run import DatasetConfig
from sagd_cli.datasets.alike import BLOCK_VALUES, AlikeImages, Change, ChangedImages, is_drawable
from sagd_cli.errors import DataError, UsageError
from sagd_cli.files.formats import format_of
from sagd_cli.files.layout import is_store
from sagd_cli.plugin.records import DatasetPlugin, Images, ImageSet, LazyImageSet
from sagd_cli.plugin.registry import registry

MOST_CLASSES_UNNAMED = 10_000


@dataclass(frozen=True, eq=False)
class OpenImageSet(LazyImageSet):
    """A LazyImageSet whose images have a known shape and type."""

    images: AlikeImages

    def load(self) -> ImageSet:
        """Return the set with its images in one array; raise DataError on images that are not alike or not finite."""
        return ImageSet(self.images.array(), self.labels, self.class_names, self.latents)


def load_images(config: DatasetConfig) -> ImageSet:
    """Load a data set through its plug-in as one array (N, C, *spatial). An array that the plug-in has is not copied.

    Raises DataError when there is no image, when the images are not uint8, float16 or float32, not alike or not
    finite, and when the labels do not fit them.
    """
    return open_images(config).load()


def load_drawable(config: DatasetConfig, change: Change | None = None) -> ImageSet:
    """Load a data set as `load_images` does, each image changed by `change`.

    Raises UsageError when they are not grey or RGB images, besides what `load_images` raises.
    """
    found = open_images(config, change)
    check_drawable(found.images, config.subject)
    return found.load()


def check_drawable(images: AlikeImages, subject: str) -> None:
    """Raise UsageError unless `images` are grey or RGB images; `subject` names the data."""
    if not is_drawable(images.shape[1:]):
        raise UsageError(
            f"{subject} holds {images.dtype} fields of shape {images.shape[1:]}, not grey or RGB images",
            "Latents have to be decoded first.",
        )


def open_images(config: DatasetConfig, change: Change | None = None) -> OpenImageSet:
    """Find a data set through its plug-in, and read no more than its first image; `change` changes each one when read.

    Raises DataError when the first image is none that `AlikeImages` takes, or when the labels do not fit.
    """
    plugin = registry().get("dataset", config.name)
    found: LazyImageSet = plugin.load()(plugin.options.model_validate(config.options), config.split)
    raw = found.images
    images = AlikeImages(config.subject, raw if change is None else ChangedImages(raw, change))
    labels = None if found.labels is None else _checked_labels(config.subject, found)
    return OpenImageSet(images, labels, found.class_names, found.latents)


def class_names(images: LazyImageSet) -> tuple[str, ...]:
    """Return the names of the classes of `images`: their numbers where there are no names, nothing without labels."""
    if images.labels is None:
        return ()
    return images.class_names or tuple(map(str, range(int(images.labels.max()) + 1)))


def _checked_labels(subject: str, found: LazyImageSet) -> NDArray[np.int64]:
    labels, names, count = np.asarray(found.labels), found.class_names, len(found.images)
    if labels.shape == (count, 1):  # as Keras and MedMNIST have them
        labels = labels[:, 0]
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
    return labels.astype(np.int64, copy=False)


def dataset_files(config: DatasetConfig) -> Iterator[Path]:
    """Yield the files that the options of a data set name, and the images in the folder that is its `path`."""
    for key, value in config.options.items():
        path = Path(value) if isinstance(value, str) else None
        if path is not None and (path.is_file() or is_store(path)):
            yield path
        elif path is not None and key == "path":
            yield from (file for file in path.rglob("*") if format_of(file))


def stream_images(config: DatasetConfig) -> Images:
    """Return the images of a data set one by one, where its plug-in can do that; sizes and types may differ."""
    plugin: DatasetPlugin = registry().get("dataset", config.name)
    if plugin.stream is None:
        return open_images(config).images
    images: Images = plugin.load("stream")(plugin.options.model_validate(config.options), config.split)
    return images


@dataclass(frozen=True)
class DataSize:
    """The number of images, the shape (C, *spatial) of one image, and the number of classes, 0 without labels."""

    count: int
    shape: tuple[int, ...]
    classes: int = 0


def data_size(config: DatasetConfig, labelled: bool) -> DataSize:
    """Return the size of a data set; its labels count when it is `labelled`. Raises what `open_images` raises."""
    found = open_images(config)
    return DataSize(len(found.images), found.images.shape[1:], len(class_names(found)) if labelled else 0)


class ImageHash:
    """The sha256 of images in their order.

    What is hashed is the number of images and the values of each image. The shape of an image is hashed when it differs
    from the shape of the image before.
    """

    def __init__(self, count: int) -> None:
        """Start without images; there will be `count` of them."""
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
        """Return the hash of the images so far."""
        return self._digest.hexdigest()


def hash_images(images: Images) -> str:
    """Return the sha256 of images (C, *spatial); it is the same for one array and for images that come one by one."""
    digest = ImageHash(len(images))
    for image in images:
        digest.add(image)
    return digest.hexdigest()


def blocks(images: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield `images` (N, ...) in blocks of at most BLOCK_VALUES values, but of one image at least."""
    size = max(1, BLOCK_VALUES // max(1, images[0].size))
    return (images[start : start + size] for start in range(0, len(images), size))


def mean_and_std(images: NDArray[Any]) -> tuple[float, float]:
    """Return the mean and the standard deviation of all values of `images` (N, ...), as they are stored."""
    mean = sum(float(block.sum(dtype=np.float64)) for block in blocks(images)) / images.size
    squares = sum(float(np.square(block.astype(np.float64) - mean).sum()) for block in blocks(images))
    return mean, float(np.sqrt(squares / images.size))


def fetch(config: DatasetConfig) -> None:
    """Let the data set download its files; raise UsageError when it has none to download."""
    plugin = registry().get("dataset", config.name)
    if "download" not in plugin.options.model_fields:
        raise UsageError(f"the data set {config.name} has nothing to download")
    plugin.load()(plugin.options.model_validate({**config.options, "download": True}), config.split)
