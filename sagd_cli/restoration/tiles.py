"""A network on fields larger than it can be given at once: overlapping tiles, blended."""

import torch
from torch import Tensor

from sagd_cli.diffusion.prediction import Network

SIDE = 256
OVERLAP = 64


def tiled(network: Network, side: int = SIDE, overlap: int = OVERLAP) -> Network:
    """Let `network` see at most side x side pixels at a time.

    Neighbouring tiles share `overlap` pixels, over which one fades into the other in a straight line, so no edge is
    left; memory is that of a tile. Fields that fit into one tile are given whole.
    """

    def assembled(x: Tensor, timestep: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        if max(height, width) <= side:
            return network(x, timestep)
        total, weights = None, torch.zeros(height, width, device=x.device)
        for top in _starts(height, side, overlap):
            for left in _starts(width, side, overlap):
                place = (..., slice(top, top + side), slice(left, left + side))
                tile = network(x[place], timestep)
                weight = torch.outer(*(_fade(n, overlap, x.device) for n in tile.shape[-2:]))
                if total is None:
                    total = x.new_zeros(len(x), tile.shape[1], height, width)
                total[place] += weight * tile
                weights[place] += weight
        assert total is not None
        return total / weights

    return assembled


def _starts(size: int, side: int, overlap: int) -> list[int]:
    """First pixels of tiles along an axis, the last tile flush with its end."""
    return [*range(0, max(size - side, 0), side - overlap), max(size - side, 0)]


def _fade(size: int, overlap: int, device: torch.device) -> Tensor:
    """Weights of a tile's pixels along an axis: 1, and towards its ends down to all but 0."""
    distance = torch.arange(size, device=device) + 0.5
    return (torch.minimum(distance, size - distance) / overlap).clamp(max=1)
