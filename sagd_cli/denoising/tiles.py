"""Applying a network to fields that are too large for one pass: in overlapping tiles that are blended."""

import torch
from torch import Tensor

from sagd_cli.diffusion.prediction import Network

TILE_SIDE = 768
MULTIPLE = 16
OVERLAP = 64


def tiled(network: Network, side: int = TILE_SIDE, overlap: int = OVERLAP) -> Network:
    """Return a network that gives `network` at most `side` x `side` pixels at a time.

    Neighbouring tiles share `overlap` pixels. In the middle half of them, one tile fades linearly into the other, so
    no edge shows. The outer quarter of the overlap, next to the cut, does not count. So a network with a reach of up
    to `overlap` / 4 pixels gives the same result as on the whole field. The memory needed is that of one tile. Fields
    that fit into one tile are given whole.
    """

    def assembled(x: Tensor, timestep: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        if max(height, width) <= side:
            return network(x, timestep)
        (rows, tops), (columns, lefts) = (_cuts(size, side, overlap) for size in (height, width))
        total, weights = None, torch.zeros(height, width, device=x.device)
        for top in tops:
            for left in lefts:
                place = (..., slice(top, top + rows), slice(left, left + columns))
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
        return total.div_(weights)

    return assembled


def _cuts(size: int, side: int, overlap: int) -> tuple[int, list[int]]:
    """Return the side of the tiles along an axis of `size` pixels, and the first pixel of each.

    There are as few tiles as `side` allows. Then they are made as small as that number allows, but for multiples of 16.
    """
    count = max(1, -(-(size - overlap) // (side - overlap)))
    small = -(-(size + (count - 1) * overlap) // count)
    small = min(small + -small % MULTIPLE, side, size)
    return small, [round(k * (size - small) / max(count - 1, 1)) for k in range(count)]


def _fade(first: int, count: int, size: int, overlap: int, device: torch.device) -> Tensor:
    """Return the weights (count,) of a tile's pixels along an axis of `size` pixels; they fall to 0 towards its cuts.

    The tile begins at pixel `first`.
    """
    place = torch.arange(count, device=device) + 0.5
    before = place if first > 0 else torch.full_like(place, overlap)
    after = count - place if first + count < size else torch.full_like(place, overlap)
    return (2 * torch.minimum(before, after) / overlap - 0.5).clamp(0, 1)
