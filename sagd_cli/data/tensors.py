"""Training data as tensors: pixels to signals on [-1, 1], and back."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def tensor_signal(images: Tensor) -> Tensor:
    """Map uint8 images to float32 in [-1, 1]; float images are taken as they are."""
    return images.float() / 127.5 - 1 if images.dtype == torch.uint8 else images.float()


def tensor_pixels(signal: Tensor) -> NDArray[np.uint8]:
    """Map a signal in [-1, 1] to uint8, rounded and clipped."""
    pixels = ((signal + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return np.asarray(pixels.cpu().numpy())
