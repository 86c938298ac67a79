"""A network on squares of pixels folded into channels: large images at a fraction of the time."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F


class Folded(nn.Module):
    """Folds images (B, C, H, W) into (B, C p^2, H / p, W / p) for a network, and unfolds its output (1609.05158)."""

    def __init__(self, network: nn.Module, patch: int) -> None:
        """Wrap a network of C p^2 channels, p = `patch`."""
        super().__init__()
        self.network = network
        self.patch = patch

    def forward(self, x: Tensor, timestep: Tensor, *condition: Any) -> Tensor:
        """Return the network's output for x (B, C, H, W), sides divisible by p."""
        output = self.network(F.pixel_unshuffle(x, self.patch), timestep, *condition)
        folded = output if isinstance(output, Tensor) else output.sample
        return F.pixel_shuffle(folded, self.patch)
