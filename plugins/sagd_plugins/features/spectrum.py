"""`spectrum`: the radially averaged log power of each image, which is what a spectral method changes first."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sagd_cli.plugin import FeaturePlugin, Options, hookimpl

if TYPE_CHECKING:
    from torch.nn import Module

FLOOR = 1e-6  # added to the power: far below that of rounding to 8 bits, 1.4e-5 on the [-1, 1] range


def build(options: Options, layers: tuple[str, ...]) -> "Module":
    """Return the module of the layer "radial": ln of |F x|^2 / N, averaged over colours and each annulus."""
    from functools import lru_cache

    import torch
    from torch import Tensor, nn

    from sagd_cli.spectral.annuli import Annuli
    from sagd_cli.spectral.grid import FrequencyGrid

    @lru_cache(maxsize=4)
    def averages(shape: tuple[int, ...], device: torch.device) -> Tensor:
        """The matrix (bins, K) that averages the half spectrum of a field over its annuli."""
        grid = FrequencyGrid(shape)
        annuli = Annuli(grid)
        bins = torch.arange(annuli.index.size)
        places = torch.stack([bins, torch.from_numpy(annuli.index.ravel())])
        shares = (grid.multiplicity / annuli.count[annuli.index]).ravel()
        return torch.sparse_coo_tensor(places, torch.from_numpy(shares), check_invariants=True).to(device)

    class RadialSpectrum(nn.Module):
        def forward(self, images: Tensor) -> tuple[Tensor, ...]:
            signal = images.double() / 127.5 - 1
            power = torch.fft.rfft2(signal).abs().square().mean(dim=1) / signal[0, 0].numel()
            radial = (averages(tuple(images.shape[-2:]), images.device).T @ power.flatten(1).T).T
            return tuple((radial + FLOOR).log().float() for _ in layers)

    return RadialSpectrum()


@hookimpl
def sagd_features() -> Iterable[FeaturePlugin]:
    """Provide `spectrum`."""
    yield FeaturePlugin(
        "spectrum",
        "log power of each image in rings of the spectrum: sees what a filter changes",
        Options,
        build,
        layers=("radial",),
        channels=None,
        distance="fd-spectrum",
    )
