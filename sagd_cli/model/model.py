"""A trained model: an averaged network, its filter, and what is known of its data."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from sagd_cli.config.run import RunConfig
from sagd_cli.datasets.alike import is_drawable
from sagd_cli.model.classes import Classes
from sagd_cli.spectral.filter import SpectralFilter
from sagd_cli.spectral.grid import Array


@dataclass(frozen=True)
class Model:
    """A trained model: an averaged network on its device, and the filter that it was trained with.

    `name`: what messages call it. `ema_images`: the half-life of its average, in images. `shape` (C, *spatial) and
    `dtype`: those of the data. `classes`: None without class labels. `moments`: the mean image and the spectra of the
    data, empty for early runs, which did not keep them. `precision`: what it was trained in, fp32 or bf16; None where
    that is not known.
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
    precision: str | None = None

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return next(self.network.parameters()).device

    @property
    def has_pixels(self) -> bool:
        """Whether its data are images with pixels, where black is -1 and white is 1."""
        return self.dtype == np.uint8

    @property
    def is_drawable(self) -> bool:
        """Whether its data can be shown as images, grey or RGB ones."""
        return is_drawable(self.shape)


def seen_power(config: RunConfig, moments: Mapping[str, Array], spectral_filter: SpectralFilter) -> Array:
    """Return the power spectrum (half spectrum) of the data as the network of a run sees them.

    A blind network sees only the frequencies that carry noise.
    """
    return moments["power"] * spectral_filter.support if config.blind else moments["power"]
