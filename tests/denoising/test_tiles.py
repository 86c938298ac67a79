"""Tiles: what a network says of a large field is what it would say of the whole, and its memory that of a tile."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sagd_cli.denoising.tiles import OVERLAP, TILE_SIDE, tiled

T = torch.zeros(1)


def field(*shape, seed=0):
    return torch.randn(1, 2, *shape, generator=torch.Generator().manual_seed(seed))


@given(st.integers(1, 90), st.integers(1, 90))
@settings(max_examples=50, deadline=None)
def test_weights_sum_to_one_at_every_size(height, width):
    x = field(height, width)
    torch.testing.assert_close(tiled(lambda x, t: x, side=32, overlap=16)(x, T), x)


@pytest.mark.parametrize("shape", [(70, 45), (33, 100), (20, 81), (64, 64)])
def test_a_local_network_says_the_same_of_tiles_as_of_the_whole(shape):
    """Three convolutions of 3 x 3 see 3 pixels far; a quarter of the overlap is 4."""
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(2, 8, 3, padding=1), torch.nn.SiLU(), torch.nn.Conv2d(8, 8, 3, padding=1)]
    convolutions = torch.nn.Sequential(*layers, torch.nn.SiLU(), torch.nn.Conv2d(8, 1, 3, padding=1)).eval()

    def network(x, timestep):
        return convolutions(x)

    x = field(*shape)
    with torch.no_grad():
        torch.testing.assert_close(tiled(network, side=32, overlap=16)(x, T), network(x, T))


def test_tiles_that_disagree_leave_no_seam():
    """A network that adds its tile's mean: the steps between neighbours are those of a straight fade."""
    x, means = field(80, 80) + torch.linspace(-5, 5, 80), []

    def shifted(x, timestep):
        means.append(float(x.mean()))
        return x + means[-1]

    added = tiled(shifted, side=32, overlap=16)(x, T) - x
    steepest = (max(means) - min(means)) / 8
    for axis in (-1, -2):
        assert float(added.diff(dim=axis).abs().max()) <= steepest + 1e-4


@pytest.mark.parametrize("shape", [(800, 1500), (768, 768), (2000, 30)])
def test_a_network_never_sees_more_than_a_tile(shape):
    seen = []

    def spy(x, timestep):
        seen.append(x.shape)
        return x[:, :1]

    assert tiled(spy)(field(*shape), T).shape == (1, 1, *shape)
    assert max(max(size[-2:]) for size in seen) <= TILE_SIDE
    assert (
        sum(size.numel() for size in seen)
        <= 2 * (1 + OVERLAP / (TILE_SIDE - OVERLAP)) ** 2 * 1.5 * shape[0] * shape[1]
    )
