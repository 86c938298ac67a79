"""Shaped Gaussian noise: the only source of randomness of images (docs/theory.md, sections 2 and 5)."""

import hashlib
import json
import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sagd_cli.errors import ConfigError
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.filter import SpectralFilter
from sagd_cli.spectral.grid import Array, FrequencyGrid

# Images of a batch that share a generator: few enough to divide a batch, many enough to keep the device busy.
BLOCK_IMAGES = 16


def random_stream(device: torch.device | str, seed: int, *key: int | str) -> torch.Generator:
    """Return a generator whose state is a function of (seed, *key) alone, so that nothing needs saving."""
    digest = hashlib.blake2b(json.dumps([seed, *key]).encode(), digest_size=8).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest, "big") >> 1)


class BatchStream:
    """Random numbers for some images of a batch: a function of (seed, *key) and of each image's place in the batch.

    So an image gets the same numbers however the batch is divided into passes and among processes.
    """

    def __init__(self, device: torch.device | str, images: range, seed: int, *key: int | str) -> None:
        """Serve the images at the places `images`. Each block of 16 places has its own generator."""
        blocks = range(images.start // BLOCK_IMAGES, -(-images.stop // BLOCK_IMAGES))
        self.device = torch.device(device)
        self._generators = [random_stream(device, seed, *key, block) for block in blocks]
        first = blocks.start * BLOCK_IMAGES
        self._inside = slice(images.start - first, images.stop - first)

    def rand(self) -> Tensor:
        """Draw a number in [0, 1) for each image, (B,)."""
        parts = [torch.rand(BLOCK_IMAGES, generator=g, device=self.device) for g in self._generators]
        return torch.cat(parts)[self._inside]

    def randn(self, shape: tuple[int, ...]) -> Tensor:
        """Draw white noise of `shape` for each image, (B, *shape)."""
        parts = [
            torch.randn((BLOCK_IMAGES, *shape), generator=g, device=self.device) for g in self._generators
        ]
        return torch.cat(parts)[self._inside]


Streams = torch.Generator | Sequence[torch.Generator] | BatchStream | None


def tensor_on(device: torch.device | str, values: NDArray[np.generic]) -> Tensor:
    """Return a float32 copy of `values` on `device`; the host does not wait until a GPU has it."""
    return torch.from_numpy(np.array(values, dtype=np.float32)).to(device, non_blocking=True)


def white_noise(shape: tuple[int, ...], streams: Streams, device: torch.device | str) -> Tensor:
    """Draw white noise of `shape` = (B, C, *spatial); `streams` are those of `SpectralNoise.draw`."""
    if streams is None or isinstance(streams, torch.Generator):
        return torch.randn(shape, generator=streams, device=device)
    if isinstance(streams, BatchStream):
        return streams.randn(shape[1:])
    drawn = [torch.randn(shape[1:], generator=g, device=g.device) for g in streams]
    return torch.stack(drawn).to(device, non_blocking=True)


def spectrum_of(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return F x (..., *half spectrum) of fields x (..., *shape).

    In float32 outside autocast: half-precision FFTs fail or lose the spectrum.
    """
    with torch.autocast(x.device.type, enabled=False):
        spectrum: Tensor = torch.fft.rfftn(x.float(), dim=tuple(range(-len(shape), 0)))
        return spectrum


def field_of(spectrum: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return the fields (..., *shape) of a half spectrum, the inverse of `spectrum_of`."""
    # irfftn takes these two steps on a copy of its input, at up to twice the time on the CPU.
    if len(shape) > 1:
        spectrum = torch.fft.ifftn(spectrum, dim=tuple(range(-len(shape), -1)))
    field: Tensor = torch.fft.irfft(spectrum, n=shape[-1], dim=-1)
    return field


def multiply_spectrum(x: Tensor, gain: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return F^-1 diag(gain) F x for fields x (..., *shape); `gain` broadcasts to their half spectrum."""
    spectrum = spectrum_of(x, shape)
    # In place where autograd does not need the factors: this saves one of the largest arrays.
    return field_of(spectrum * gain if gain.requires_grad else spectrum.mul_(gain), shape)


def power_of(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return |F x|^2 / N (..., *half spectrum) of fields x (..., *shape)."""
    return torch.view_as_real(spectrum_of(x, shape)).square().sum(-1) / math.prod(shape)


def mean_power(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return |F x|^2 / N of fields x (..., *shape) on the half spectrum, averaged over the leading axes."""
    return power_of(x, shape).flatten(0, -len(shape) - 1).mean(0)


def uniform(count: int, stream: "torch.Generator | BatchStream", device: torch.device) -> Tensor:
    """Draw `count` numbers in [0, 1) on `device`; a BatchStream draws one for each of its images instead."""
    if isinstance(stream, BatchStream):
        return stream.rand()
    return torch.rand(count, generator=stream, device=device)


class SpectralNoise:
    """Noise eps_w = F^-1 diag(w) F xi with xi ~ N(0, I), and the linear maps of its covariance.

    Every map takes and returns float32 tensors of shape (..., *spatial), `spatial` the filter's shape, on `device`. It
    raises ConfigError for tensors of another shape.
    """

    def __init__(self, spectral_filter: SpectralFilter, device: torch.device | str = "cpu") -> None:
        """Put the filter's multipliers on `device`."""
        self.filter = spectral_filter
        self.device = torch.device(device)
        self._shape = spectral_filter.grid.shape
        w, support = spectral_filter.weight, spectral_filter.support
        self._weight = self._multiplier(w)
        self._inverse = self._multiplier(np.divide(1.0, w, out=np.zeros_like(w), where=support))
        self._support = self._multiplier(support)
        share = self.grid.multiplicity / self.grid.total(self.support)
        self._share = tensor_on(self.device, share)

    @property
    def grid(self) -> FrequencyGrid:
        """The frequencies of the fields it acts on."""
        return self.filter.grid

    @property
    def support(self) -> NDArray[np.bool_]:
        """Which frequencies, on the half spectrum, carry noise."""
        return self.filter.support

    def draw(self, shape: Sequence[int], streams: Streams = None) -> Tensor:
        """Draw noise of `shape` = (B, C, *spatial).

        `streams` is one generator for the batch, one generator for each image, a BatchStream, or None for torch's own
        generator. With one generator for each image, an image depends on its own generator alone, not on its batch;
        white noise is drawn on the device of the generator.
        """
        return self.color(white_noise(tuple(shape), streams, self.device))

    def color(self, x: Tensor) -> Tensor:
        """Apply T_w = F^-1 diag(w) F."""
        return self._apply(x, self._weight)

    def whiten(self, x: Tensor) -> Tensor:
        """Apply the pseudo-inverse of T_w: whiten(color(x)) = project(x)."""
        return self._apply(x, self._inverse)

    def project(self, x: Tensor) -> Tensor:
        """Apply P = F^-1 diag(1[w > 0]) F: remove the frequencies that carry no noise."""
        return self._apply(x, self._support)

    def whitened_power(self, x: Tensor) -> Tensor:
        """Return |F T_w^+ x|^2 / N on the half spectrum, averaged over the axes of `x` that are not spatial."""
        power = mean_power(x, self._shape)
        return power if self._inverse is None else power * self._inverse.square()

    def support_mean(self, power: Tensor) -> Tensor:
        """Return the sum of `power` (half spectrum) over the full spectrum, divided by the rank of the noise."""
        return (self._share * power).sum()

    def covariance(self) -> Tensor:
        """Eigenvalues of the covariance, w^2, on the half spectrum."""
        return tensor_on(self.device, self.filter.weight**2)

    def logdet(self) -> float:
        """Log-determinant of the covariance on its support."""
        return self.filter.logdet

    def _multiplier(self, values: NDArray[np.generic]) -> Tensor | None:
        """Return `values` as a tensor, or None when all are 1: then the drawn tensor itself is the noise."""
        if np.all(np.abs(values.astype(np.float64) - 1) < 1e-12):
            return None
        return tensor_on(self.device, values)

    def _apply(self, x: Tensor, multiplier: Tensor | None) -> Tensor:
        if tuple(x.shape[-len(self._shape) :]) != self._shape:
            raise ConfigError(f"the noise is for fields of shape {self._shape}, not {tuple(x.shape)}")
        return x.float() if multiplier is None else multiply_spectrum(x, multiplier, self._shape)


def band_noise(band: Band, shape: tuple[int, ...], device: torch.device | str = "cpu") -> SpectralNoise:
    """Return noise with w = 1 on the band and 0 elsewhere, for fields of `shape`."""
    return support_noise(band.mask(FrequencyGrid(shape)).astype(np.float64), shape, device)


def support_noise(power: Array, shape: tuple[int, ...], device: torch.device | str = "cpu") -> SpectralNoise:
    """Return noise with w = 1 where `power` (half spectrum) is above 0, for fields of `shape`."""
    grid = FrequencyGrid(shape)
    return SpectralNoise(SpectralFilter.from_weight(grid, power > 0), device)
