"""Exponential moving average of a network's weights, its half-life counted in images."""

import copy

import torch
from torch import nn

# Karras et al. 2206.00364: early in training the half-life is at most this share of the images seen.
RAMP_UP = 0.05


class Ema:
    """A copy of a network whose weights are a moving average of the network's; it is used for sampling."""

    def __init__(self, network: nn.Module, half_life_images: int) -> None:
        """Start from the network's present weights. The half-life is counted in images."""
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self._half_life = half_life_images

    @torch.no_grad()
    def update(self, network: nn.Module, batch_size: int, images_seen: int) -> None:
        """Move towards `network` after one step of `batch_size` images. `images_seen` counts all images so far."""
        half_life = max(min(self._half_life, images_seen * RAMP_UP), 1e-8)
        weight = 1 - 0.5 ** (batch_size / half_life)
        torch._foreach_lerp_(list(self.network.parameters()), list(network.parameters()), weight)
        for mine, theirs in zip(self.network.buffers(), network.buffers(), strict=True):
            mine.copy_(theirs)
