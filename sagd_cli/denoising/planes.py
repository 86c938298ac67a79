"""Images as the planes that a denoiser treats: grey, or brightness and two differences of colours."""

from functools import lru_cache

import torch
from torch import Tensor

RGB_PLANES = 3
# An orthonormal basis: so white noise stays white, and errors keep their size.
_BASIS = torch.tensor(
    [
        [3**-0.5, 3**-0.5, 3**-0.5],
        [2**-0.5, 0.0, -(2**-0.5)],
        [6**-0.5, -2 * 6**-0.5, 6**-0.5],
    ]
)


@lru_cache(maxsize=4)
def _basis(device: torch.device) -> Tensor:
    return _BASIS.to(device)


def to_planes(x: Tensor) -> Tensor:
    """Return the planes (B, C, *spatial) of images like them: brightness first, if they are in RGB."""
    return _combined(_basis(x.device), x) if x.shape[1] == RGB_PLANES else x


def from_planes(planes: Tensor) -> Tensor:
    """Return the images of `planes`: the inverse of `to_planes`."""
    return _combined(_basis(planes.device).T, planes) if planes.shape[1] == RGB_PLANES else planes


def _combined(weights: Tensor, x: Tensor) -> Tensor:
    """Return the sums of the channels of `x` with each row of `weights`: no product of matrices, which may be TF32."""
    return (weights.view(*weights.shape, *[1] * (x.ndim - 2)) * x.unsqueeze(1)).sum(2)


def marked(y: Tensor) -> Tensor:
    """Return 1 where pixels of `y` are white or brighter, -1 where they are black or darker, 0 elsewhere."""
    return (y >= 1).float() - (y <= -1).float()
