"""`pixels`: the images themselves, averaged down to at most 32 samples a side."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sagd_cli.plugin import FeaturePlugin, Options, hookimpl

if TYPE_CHECKING:
    from torch.nn import Module


def build(options: Options, layers: tuple[str, ...]) -> "Module":
    """Return the module of the layer "32": values on [-1, 1], C * min(H, 32) * min(W, 32) of them."""
    from torch import Tensor, nn
    from torch.nn import functional as F

    from sagd_cli.data.tensors import tensor_signal

    class Pixels(nn.Module):
        def forward(self, images: Tensor) -> tuple[Tensor, ...]:
            signal = tensor_signal(images)
            height, width = images.shape[-2:]
            averages = F.adaptive_avg_pool2d(signal, (min(height, 32), min(width, 32)))
            return tuple(averages.flatten(1) for _ in layers)

    return Pixels()


@hookimpl
def sagd_features() -> Iterable[FeaturePlugin]:
    """Provide `pixels`."""
    yield FeaturePlugin(
        "pixels",
        "the pixels, of larger images averages over at most 32x32 areas",
        Options,
        build,
        layers=("32",),
        channels=None,
        distance="fd-pixels",
    )
