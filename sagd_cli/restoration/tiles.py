"""A network on fields larger than it can be given at once: overlapping tiles, blended."""

import torch
from torch import Tensor

from sagd_cli.diffusion.prediction import Network

SIDE = 256
OVERLAP = 64


def tiled(network: Network, side: int = SIDE, overlap: int = OVERLAP) -> Network:
    """Let `network` see at most side x side pixels at a time.

    Neighbouring tiles share `overlap` pixels. Over the middle half of them one fades into the other in a straight line,
    so no edge is left, and what a tile says next to its cut does not count: a network that sees up to a quarter of
    `overlap` far says the same as of the whole. Memory is that of a tile. Fields that fit into one are given whole.
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
                weight = torch.outer(
                    _fade(top, tile.shape[-2], height, overlap, x.device),
                    _fade(left, tile.shape[-1], width, overlap, x.device),
                )
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


def _fade(first: int, count: int, size: int, overlap: int, device: torch.device) -> Tensor:
    """Weights along an axis of a tile's `count` pixels from the `first` of `size`: down to 0 towards its cuts."""
    place = torch.arange(count, device=device) + 0.5
    before = place if first > 0 else torch.full_like(place, overlap)
    after = count - place if first + count < size else torch.full_like(place, overlap)
    return (2 * torch.minimum(before, after) / overlap - 0.5).clamp(0, 1)
