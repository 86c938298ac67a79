"""Training images as tensors, and their order, which is a function of (seed, epoch) alone."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sagd_cli.spectral.noise import BatchStream


def to_signal(images: Tensor) -> Tensor:
    """Map uint8 images to float32 in [-1, 1]; float images are taken as they are."""
    return images.float() / 127.5 - 1 if images.dtype == torch.uint8 else images.float()


def to_pixels(signal: Tensor) -> NDArray[np.uint8]:
    """Map a signal in [-1, 1] to uint8, rounded and clipped."""
    pixels = ((signal + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return np.asarray(pixels.cpu().numpy())


class Batch(NamedTuple):
    """Images (B, C, *spatial) in [-1, 1], and their classes (B,) where they are trained on."""

    images: Tensor
    labels: Tensor | None = None


class Labels(NamedTuple):
    """Classes (N,) of the training images, and the `share` of a batch's that is replaced by `no_class`."""

    values: Tensor
    no_class: int
    share: float

    def at(self, indices: Tensor, places: range, seed: int, step: int) -> Tensor:
        """Return the labels of images at these places of a batch; which are dropped is a function of (seed, step)."""
        stream = BatchStream(self.values.device, places, seed, "labels", step)
        return torch.where(stream.rand() >= self.share, self.values[indices], self.no_class)


class Batches:
    """Batches of `images` (N, C, *spatial) on their device: shuffled epochs without end, addressed by step."""

    def __init__(self, images: Tensor, batch_size: int, seed: int, labels: Labels | None = None) -> None:
        """Keep the images, and their classes if any, where they are; nothing is drawn yet."""
        self._images = images
        self._labels = labels
        self._batch_size = batch_size
        self._seed = seed
        self._order = lru_cache(maxsize=2)(
            lambda epoch: np.random.default_rng([seed, epoch]).permutation(len(images))
        )

    def at(self, step: int, places: range | None = None) -> Batch:
        """Return the batch of `step`, or the images at some places of it."""
        places = range(self._batch_size) if places is None else places
        first, count = step * self._batch_size, len(self._images)
        positions = np.arange(first + places.start, first + places.stop)
        epochs = np.unique(positions // count)
        orders = np.concatenate([self._order(int(epoch)) for epoch in epochs])
        indices = torch.from_numpy(orders[positions - epochs[0] * count])
        indices = indices.to(self._images.device, non_blocking=True)
        labels = None if self._labels is None else self._labels.at(indices, places, self._seed, step)
        return Batch(to_signal(self._images[indices]), labels)
