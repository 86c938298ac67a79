"""Training data as tensors: images to signals on [-1, 1], and back."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sagd_cli.data.ranges import BYTES

_HALF = BYTES.high / 2


def tensor_signal(images: Tensor) -> Tensor:
    """Map images of any shape to float32: uint8 from [0, 255] to [-1, 1], the values of floats as they are."""
    return images.float() / _HALF - 1 if images.dtype == torch.uint8 else images.float()


def tensor_pixels(signal: Tensor) -> NDArray[np.uint8]:
    """Map a signal of any shape from [-1, 1] to uint8 in memory, rounded and clipped."""
    pixels = ((signal + 1) * _HALF).round().clamp(0, 255).to(torch.uint8)
    return np.asarray(pixels.cpu().numpy())
