"""What a band model trains on: whole images when they are small and alike, else crops of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sagd_cli.errors import DataError
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.filter import SpectralFilter
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.noise import Generators, SpectralNoise

Signals = Sequence[NDArray[np.float32]]

LARGEST_WHOLE = 64
MOST_CROPS = 4096
SMALLEST_SIDE = 4


def band_noise(band: Band, shape: tuple[int, ...], device: torch.device | str = "cpu") -> SpectralNoise:
    """Return noise with w = 1 on the band and 0 elsewhere, for fields of `shape`."""
    grid = FrequencyGrid(shape)
    return SpectralNoise(SpectralFilter.from_weight(grid, band.mask(grid)), device)


class CropNoise(SpectralNoise):
    """Band noise as a crop of a larger field sees it: drawn at twice the side, then cut.

    A band at the same cycles/pixel then serves whole images of any size. Projection is left to the whole image:
    the band of a crop is not a set of the crop's own frequencies.
    """

    def draw(self, shape: Sequence[int], generators: Generators) -> Tensor:
        """Draw noise of `shape` = (B, C, H, W), H and W half the filter's sides."""
        height, width = shape[-2:]
        whole = super().draw((*shape[:-2], 2 * height, 2 * width), generators)
        return whole[..., :height, :width]

    def whiten(self, x: Tensor) -> Tensor:
        """Return `x`: a crop cannot be whitened."""
        return x

    def project(self, x: Tensor) -> Tensor:
        """Return `x`: a crop cannot be projected."""
        return x


@dataclass(frozen=True)
class Fields:
    """Fields (M, C, h, w) on the [-1, 1] range; `whole` when each is an entire image."""

    values: NDArray[np.float32]
    whole: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape (h, w)."""
        return self.values.shape[2:]

    def noise(self, band: Band, device: torch.device) -> SpectralNoise:
        """Return the band's noise for these fields."""
        if self.whole:
            return band_noise(band, self.shape, device)
        doubled = (2 * self.shape[0], 2 * self.shape[1])
        return CropNoise(band_noise(band, doubled).filter, device)


def make_fields(signals: Signals, others: Signals = (), seed: int = 0) -> Fields:
    """Make fields of `signals` (each (C, H, W)) that also suit `others`.

    All of one small size: the images themselves. Otherwise crops with a side of at most 64, from random places
    that are a function of `seed`. Raises DataError when an image is smaller than 4 pixels.
    """
    shapes = {signal.shape[1:] for signal in [*signals, *others]}
    height, width = min(shape[0] for shape in shapes), min(shape[1] for shape in shapes)
    if min(height, width) < SMALLEST_SIDE:
        raise DataError(
            f"an image of {width}x{height} pixels is too small to learn from", "Use --estimate notch."
        )
    if len(shapes) == 1 and max(height, width) <= LARGEST_WHOLE:
        return Fields(np.stack(signals), True)
    return Fields(np.stack(list(_crops(signals, min(height, width, LARGEST_WHOLE) // 4 * 4, seed))), False)


def _crops(signals: Signals, side: int, seed: int) -> Iterator[NDArray[np.float32]]:
    random = np.random.default_rng([seed, side])
    areas = np.array([signal.shape[1] * signal.shape[2] for signal in signals], dtype=float)
    wanted = int(np.clip(4 * areas.sum() / side**2, len(signals), MOST_CROPS))
    for index in random.choice(len(signals), wanted, p=areas / areas.sum()):
        _, height, width = signals[index].shape
        top, left = random.integers(height - side + 1), random.integers(width - side + 1)
        yield signals[index][:, top : top + side, left : left + side]
