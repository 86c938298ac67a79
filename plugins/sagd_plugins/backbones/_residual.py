"""The network of the backbone `residual`: the U-Net of DRUNet (Zhang et al. 2008.13751), with fewer channels."""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))), on (B, W, H, W')."""

    def __init__(self, width: int) -> None:
        """Take the number of channels."""
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return fields like x."""
        correction: Tensor = self.second(F.relu(self.first(x), inplace=True))
        return correction.add_(x)


class ResidualUNet(nn.Module):
    """Fields (B, C, H, W) to fields like them; zero before it is trained."""

    def __init__(self, channels: int, widths: tuple[int, ...], blocks: int) -> None:
        """Take the channels of the fields, the width of each resolution, and the residual blocks of each."""
        super().__init__()

        def chain(width: int) -> nn.Sequential:
            return nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))

        self.head = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList(chain(width) for width in widths)
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.grow = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in pairwise(widths))
        self.up = nn.ModuleList(chain(width) for width in widths[:-1])
        self.tail = nn.Conv2d(widths[0], channels, 3, padding=1)
        nn.init.zeros_(self.tail.weight)
        if self.tail.bias is not None:
            nn.init.zeros_(self.tail.bias)

    def forward(self, x: Tensor, timestep: Tensor | None = None) -> Tensor:
        """Return fields like x (B, C, H, W); the timestep changes nothing."""
        x = self.head(x)
        skips = []
        for k, chain in enumerate(self.down):
            x = chain(x)
            if k < len(self.shrink):
                skips.append(x)
                x = self.shrink[k](x)
        for k in reversed(range(len(self.up))):
            x = self.up[k](self.grow[k](x) + skips[k])
        output: Tensor = self.tail(x)
        return output
