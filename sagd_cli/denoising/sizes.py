"""Networks on fields of any size and any number of planes."""

import torch
from torch import Tensor

from sagd_cli.denoising.preconditioning import INPUTS
from sagd_cli.diffusion.prediction import Network


def padded(network: Network, multiple: int) -> Network:
    """Return a network that takes fields of any size.

    Fields are continued by reflection to sides that `multiple` divides, and the output is cut back.
    """

    def extended(x: Tensor, timestep: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        if height % multiple == width % multiple == 0:
            return network(x, timestep)
        rows, columns = (_reflected(size, size + -size % multiple, x.device) for size in (height, width))
        return network(x[..., rows[:, None], columns], timestep)[..., :height, :width]

    return extended


def of_planes(network: Network, planes: int) -> Network:
    """Return a network for images of at most `planes` planes, of one that was trained on images of `planes` planes.

    It takes the inputs (B, 4 C, *spatial) of images of C planes, and returns (B, C, *spatial). Planes that the images
    do not have are zero.
    """

    def widened(x: Tensor, timestep: Tensor) -> Tensor:
        channels = x.shape[1] // INPUTS
        if channels < planes:
            seen = x.new_zeros(len(x), INPUTS, planes, *x.shape[2:])
            seen[:, :, :channels] = x.reshape(len(x), INPUTS, channels, *x.shape[2:])
            x = seen.flatten(1, 2)
        return network(x, timestep)[:, :channels]

    return widened


def _reflected(size: int, length: int, device: torch.device) -> Tensor:
    """Return the indices (length,) that continue `size` samples to `length` by repeated reflection at both ends."""
    period = max(2 * (size - 1), 1)
    place = torch.arange(length, device=device) % period
    return torch.minimum(place, period - place) if size > 1 else place
