"""Averages of a network's weights: over the images seen, by half-life, and the best of these so far."""

import copy

import torch
from torch import nn

# Karras et al. 2206.00364: early in training the half-life is at most this share of the images seen.
RAMP_UP = 0.05
PATIENCE = 5  # trials without a smaller loss after which the best weights stay the best


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


class Best(nn.Module):
    """The averaged weights with the smallest loss on images that are held out, that loss, and the trials since then."""

    loss: torch.Tensor
    misses: torch.Tensor

    def __init__(self, average: nn.Module) -> None:
        """Start from weights whose loss is not known."""
        super().__init__()
        self.network = copy.deepcopy(average)
        self.register_buffer("loss", torch.tensor(torch.inf, dtype=torch.float64))
        self.register_buffer("misses", torch.tensor(0))

    @property
    def is_past(self) -> bool:
        """Whether the loss has not become smaller for `PATIENCE` trials."""
        return int(self.misses) >= PATIENCE

    def offer(self, average: nn.Module, loss: float) -> None:
        """Take the weights of `average` if their loss is smaller."""
        if loss < float(self.loss):
            self.network.load_state_dict(average.state_dict())
            self.loss.fill_(loss)
            self.misses.zero_()
        else:
            self.misses += 1
