"""Training images and their order, which is a function of (seed, epoch) alone."""

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sagd_cli.config import DatasetConfig
from sagd_cli.console import Output
from sagd_cli.errors import DataError, UsageError
from sagd_cli.files import atomic_path, refuse_existing
from sagd_cli.images import check_output_folder, write_array
from sagd_cli.plugin.records import ImageSet
from sagd_cli.plugin.registry import registry


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
    return images


def to_signal(images: Tensor) -> Tensor:
    """Map uint8 images to float32 in [-1, 1]; float images are taken as they are."""
    return images.float() / 127.5 - 1 if images.dtype == torch.uint8 else images.float()


def to_pixels(signal: Tensor) -> NDArray[np.uint8]:
    """Map a signal in [-1, 1] to uint8, rounded and clipped."""
    pixels = ((signal + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return np.asarray(pixels.cpu().numpy())


class Batches:
    """Batches of `images` (N, C, *spatial) on their device: shuffled epochs without end, addressed by step."""

    def __init__(self, images: Tensor, batch_size: int, seed: int) -> None:
        """Keep the images where they are; nothing is drawn yet."""
        self._images = images
        self._batch_size = batch_size
        self._order = lru_cache(maxsize=2)(
            lambda epoch: np.random.default_rng([seed, epoch]).permutation(len(images))
        )

    def at(self, step: int) -> Tensor:
        """Return the batch of `step` as float32 in [-1, 1]."""
        first, count = step * self._batch_size, len(self._images)
        positions = np.arange(first, first + self._batch_size)
        epochs = np.unique(positions // count)
        orders = np.concatenate([self._order(int(epoch)) for epoch in epochs])
        indices = torch.from_numpy(orders[positions - epochs[0] * count])
        return to_signal(self._images[indices.to(self._images.device, non_blocking=True)])


def fetch(config: DatasetConfig) -> None:
    """Let a data set download its files; raise UsageError when it has none to fetch."""
    plugin = registry().get("dataset", config.name)
    if "download" not in plugin.options.model_fields:
        raise UsageError(f"the data set {config.name} has nothing to download")
    plugin.load()(plugin.options.model_validate({**config.options, "download": True}), config.split)


def write_images(
    images: NDArray[np.uint8], target: Path, force: bool, output: Output, inputs: Iterable[Path] = ()
) -> int:
    """Write images (N, C, H, W) as one .npy file, or as PNG files named by their index; return their number.

    `inputs` are what the images were read from, and are never written over.
    """
    if target.suffix not in ("", ".npy"):
        raise UsageError(
            f"{target} is neither a .npy file nor a folder", "Give FILE.npy or a name without suffix."
        )
    if target.suffix == ".npy":
        if target.resolve() in [path.resolve() for path in inputs]:
            raise UsageError(f"{target} is where the input is", "Choose another --output.")
        refuse_existing(target, force)
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(target) as temporary:
            np.save(temporary, images, allow_pickle=False)
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


def hash_images(images: NDArray[np.uint8]) -> str:
    """sha256 of shape and pixels, in order."""
    digest = hashlib.sha256(repr(images.shape).encode())
    digest.update(np.ascontiguousarray(images).data)
    return digest.hexdigest()
