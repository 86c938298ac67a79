"""Data sets through their plug-ins: whole, image by image, hashed, and written to files. Imports no torch."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sagd_cli.config import DatasetConfig
from sagd_cli.console import Output
from sagd_cli.errors import DataError, UsageError
from sagd_cli.files import atomic_path, refuse_existing
from sagd_cli.images import check_output_folder, write_array
from sagd_cli.plugin.records import DatasetPlugin, ImageSet
from sagd_cli.plugin.registry import registry

MOST_CLASSES_UNNAMED = 10_000


def load_images(config: DatasetConfig) -> ImageSet:
    """Load a data set through its plug-in; raise DataError unless it is uint8 (N >= 1, C, *spatial)."""
    plugin = registry().get("dataset", config.name)
    images: ImageSet = plugin.load()(plugin.options.model_validate(config.options), config.split)
    array = images.images
    if array.dtype != np.uint8 or not 3 <= array.ndim <= 5 or 0 in array.shape:
        raise DataError(
            f"data set {config.name} is {array.dtype} of shape {array.shape}, not uint8 (N, C, *spatial)",
            "`sagd data prepare` makes such an array from a folder of images.",
        )
    return images if images.labels is None else _with_checked_labels(config.subject, images)


def _with_checked_labels(subject: str, images: ImageSet) -> ImageSet:
    labels, names, count = np.asarray(images.labels), images.class_names, len(images.images)
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
    return replace(images, labels=labels.astype(np.int64))


def class_names(images: ImageSet) -> tuple[str, ...]:
    """Return the names of the classes of a labelled data set, which are their numbers where it names none."""
    if images.labels is None:
        return ()
    return images.class_names or tuple(map(str, range(int(images.labels.max()) + 1)))


class Images(Protocol):
    """Images one at a time, each (C, *spatial), as often as wanted."""

    def __len__(self) -> int:
        """Return their number."""
        ...

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Start over."""
        ...


def stream_images(config: DatasetConfig) -> Images:
    """Return the images of a data set without holding them all, where its plug-in can; sizes and types may differ."""
    plugin: DatasetPlugin = registry().get("dataset", config.name)
    if plugin.stream is None:
        return load_images(config).images
    images: Images = plugin.stream(plugin.options.model_validate(config.options), config.split)
    return images


def as_signal(image: NDArray[Any]) -> NDArray[np.float64]:
    """Map integers from the whole range of their type to [-1, 1]; floats are taken as they are.

    Raises DataError on any other type.
    """
    if image.dtype.kind == "f":
        return image.astype(np.float64)
    if image.dtype.kind not in "ui":
        raise DataError(f"values of type {image.dtype} are no image", "Give integers or real numbers.")
    top = np.iinfo(image.dtype).max
    return image / (top / 2) - 1 if image.dtype.kind == "u" else image / (top + 1.0)


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


def fetch(config: DatasetConfig) -> None:
    """Let a data set download its files; raise UsageError when it has none to fetch."""
    plugin = registry().get("dataset", config.name)
    if "download" not in plugin.options.model_fields:
        raise UsageError(f"the data set {config.name} has nothing to download")
    plugin.load()(plugin.options.model_validate({**config.options, "download": True}), config.split)


def _arrays(data: ImageSet) -> dict[str, NDArray[Any]]:
    """What an .npz file of a data set holds."""
    if data.labels is None:
        return {"images": data.images}
    return {
        "images": data.images,
        "labels": data.labels,
        "class_names": np.array(data.class_names, dtype=np.str_),
    }


def write_images(
    data: ImageSet, target: Path, force: bool, output: Output, inputs: Iterable[Path] = ()
) -> int:
    """Write images (N, C, H, W) as one .npy file, with their labels as .npz, or as PNG files; return their number.

    The PNG files are named by their index. `inputs` are what the images were read from, and are never written over.
    """
    images = data.images
    suffix = target.suffix.lower()
    if suffix not in ("", ".npy", ".npz"):
        raise UsageError(
            f"{target} is neither a .npy or .npz file nor a folder",
            "Give FILE.npy, FILE.npz or a name without suffix.",
        )
    if data.labels is not None and suffix != ".npz":
        output.note(f"{target} will not hold the labels; an .npz file would")
    if suffix:
        if target.resolve() in [path.resolve() for path in inputs]:
            raise UsageError(f"{target} is where the input is", "Choose another --output.")
        refuse_existing(target, force)
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(target) as temporary:
            if suffix == ".npy":
                np.save(temporary, images, allow_pickle=False)
            else:
                np.savez(temporary, allow_pickle=False, **_arrays(data))
        return len(images)
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise UsageError(f"fields of shape {images.shape[1:]} cannot be written as PNG", "Write a .npy file.")
    names = [f"{index:06d}.png" for index in range(len(images))]
    check_output_folder(target, names, force, inputs)
    target.mkdir(parents=True, exist_ok=True)
    with output.progress("write", len(images)) as bar:
        for name, image in zip(names, images, strict=True):
            write_array(image, target / name)
            bar.advance()
    return len(images)
