"""Training images as tensors, and their order, which depends on (seed, epoch) alone."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sagd_cli.data.tensors import tensor_signal
from sagd_cli.spectral.noise import BatchStream
from sagd_cli.system.devices import available_memory


class Batch(NamedTuple):
    """Images (B, C, *spatial) in [-1, 1], and their classes (B,), or None without classes."""

    images: Tensor
    labels: Tensor | None = None


class Labels(NamedTuple):
    """Classes `values` (N,) of the training images. A `share` of the labels is replaced by `no_class`."""

    values: Tensor
    no_class: int
    share: float

    def at(self, indices: Tensor, places: range, seed: int, step: int) -> Tensor:
        """Return the labels of the images `indices`, which are at `places` of the batch of `step`.

        Which labels are replaced is a function of (seed, step).
        """
        stream = BatchStream(self.values.device, places, seed, "labels", step)
        return torch.where(stream.rand() >= self.share, self.values[indices], self.no_class)


@dataclass(frozen=True)
class Views:
    """How images (B, C, *spatial) are varied: mirrored (`flips`), laid down in all ways (`turns`), cut to squares.

    `crops` are the sides of the squares; one is drawn for each step. All of it is a function of (seed, step).
    """

    flips: bool = False
    turns: bool = False
    crops: tuple[int, ...] = ()

    def at(self, images: Tensor, places: range, seed: int, step: int) -> Tensor:
        """Return the images, which are at `places` of the batch of `step`, as they are seen there."""
        if self.crops:
            side = self.crops[int(np.random.default_rng([seed, step]).integers(len(self.crops)))]
            stream = BatchStream(images.device, places, seed, "crop", step)
            images = _cut(images, side, stream)
        if self.flips or self.turns:
            stream = BatchStream(images.device, places, seed, "flip", step)
            images = _where(stream, images.flip(-1), images)
            if self.turns:
                images = _where(stream, images.flip(-2), images)
                images = _where(stream, images.transpose(-1, -2), images)
        return images


def _where(stream: BatchStream, changed: Tensor, images: Tensor) -> Tensor:
    return torch.where((stream.rand() < 0.5).view(-1, *[1] * (images.ndim - 1)), changed, images)


def _cut(images: Tensor, side: int, stream: BatchStream) -> Tensor:
    """Cut a square of `side` pixels from a random place of each image."""
    steps = torch.arange(side, device=images.device)
    rows, columns = ((stream.rand() * (size - side + 1)).long()[:, None] + steps for size in images.shape[2:])
    picture = torch.arange(len(images), device=images.device).view(-1, 1, 1, 1)
    plane = torch.arange(images.shape[1], device=images.device).view(1, -1, 1, 1)
    return images[picture, plane, rows[:, None, :, None], columns[:, None, None, :]]


def placed(images: Tensor, device: torch.device) -> Tensor:
    """Move the images to `device` if they take at most a quarter of its free memory; else return them as they are."""
    free = available_memory(device) if device.type == "cuda" else None
    return images.to(device) if free is not None and images.nbytes <= free / 4 else images


class Batches:
    """Batches of `images` (N, C, *spatial) on a device, addressed by step.

    The batches run through endless epochs, each in its own random order.
    """

    def __init__(
        self,
        images: Tensor,
        batch_size: int,
        seed: int,
        labels: Labels | None = None,
        device: torch.device | None = None,
        views: "Views | None" = None,
    ) -> None:
        """Keep the images and their classes where they are; the batches go to `device`, by default to the same place.

        `views` vary the images of a batch.
        """
        self._views = views
        self._images = images
        self._device = device or images.device
        self._labels = labels
        self._batch_size = batch_size
        self._seed = seed
        self._order = lru_cache(maxsize=2)(
            lambda epoch: np.random.default_rng([seed, epoch]).permutation(len(images))
        )

    def at(self, step: int, places: range | None = None) -> Batch:
        """Return the batch of `step`, or only its images at `places`."""
        places = range(self._batch_size) if places is None else places
        first, count = step * self._batch_size, len(self._images)
        positions = np.arange(first + places.start, first + places.stop)
        epochs = np.unique(positions // count)
        orders = np.concatenate([self._order(int(epoch)) for epoch in epochs])
        indices = torch.from_numpy(orders[positions - epochs[0] * count])
        here = indices.to(self._device, non_blocking=True)
        if self._images.device.type == self._device.type:
            images = self._images[here]
        else:
            images = self._images[indices].pin_memory().to(self._device, non_blocking=True)
        labels = None if self._labels is None else self._labels.at(here, places, self._seed, step)
        if self._views is not None:
            images = self._views.at(images, places, self._seed, step)
        return Batch(tensor_signal(images), labels)


class Ahead:
    """Batches that a separate thread fetches while the step before them is computed."""

    def __init__(self, batch_at: Callable[[int, range], Batch], parts: list[range]) -> None:
        """Fetch with `batch_at(step, places)`. `parts` are the places of a batch, in the order of the calls of `at`."""
        self._batch_at, self._parts = batch_at, parts
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._coming: dict[tuple[int, range], Future[Batch]] = {}

    def at(self, step: int, places: range) -> Batch:
        """Return the images at `places` of the batch of `step`, and begin to fetch the next ones."""
        coming = self._coming.pop((step, places), None)
        batch = self._batch_at(step, places) if coming is None else coming.result()
        k = self._parts.index(places) + 1
        following = (step, self._parts[k]) if k < len(self._parts) else (step + 1, self._parts[0])
        self._coming = {following: self._thread.submit(self._batch_at, *following)}
        return batch
