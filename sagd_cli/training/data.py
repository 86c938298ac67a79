"""Training images as tensors, and their order, which is a function of (seed, epoch) alone."""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


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
