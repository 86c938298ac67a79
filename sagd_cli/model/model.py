"""What images are drawn with: an averaged network, its filter, and what is known of its data."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from sagd_cli.config.run import RunConfig
from sagd_cli.model.classes import Classes
from sagd_cli.spectral.filter import SpectralFilter
from sagd_cli.spectral.grid import Array


@dataclass(frozen=True)
class Model:
    """What images are drawn with: an averaged network on its device and the filter that goes with it.

    `name` is what messages call it, `ema_images` the half-life of its average, `shape` (C, *spatial) and `dtype` those
    of the data, `moments` the mean image and the spectra of the data, empty where they were not kept.
    """

    name: str
    config: RunConfig
    network: torch.nn.Module
    ema_images: int
    filter: SpectralFilter
    shape: tuple[int, ...]
    dtype: np.dtype
    classes: Classes | None
    moments: Mapping[str, Array]

    @property
    def device(self) -> torch.device:
        """Where its network is."""
        return next(self.network.parameters()).device

    @property
    def has_pixels(self) -> bool:
        """Whether its data are images, with a black at -1 and a white at 1."""
        return self.dtype == np.uint8

    @property
    def is_drawable(self) -> bool:
        """Whether what it draws can be shown: grey or RGB images."""
        return self.has_pixels and len(self.shape) == 3 and self.shape[0] in (1, 3)


def seen_power(config: RunConfig, moments: Mapping[str, Array], spectral_filter: SpectralFilter) -> Array:
    """Return the power of the data, half spectrum, that the network of a run sees: of a blind one, where noise is."""
    return moments["power"] * spectral_filter.support if config.blind else moments["power"]
