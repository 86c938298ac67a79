"""Shaped Gaussian noise: the only source of randomness of images (MATH: 2. and 5.)."""

import hashlib
import json
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sagd_cli.spectral.filter import SpectralFilter

Generators = torch.Generator | Sequence[torch.Generator]


def random_stream(device: torch.device | str, seed: int, *key: int | str) -> torch.Generator:
    """Return a generator whose state is a function of (seed, *key) alone, so that nothing needs saving."""
    digest = hashlib.blake2b(json.dumps([seed, *key]).encode(), digest_size=8).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest, "big") >> 1)


def multiply_spectrum(x: Tensor, gain: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return F^-1 diag(gain) F x for fields x (..., *shape); `gain` broadcasts to their half spectrum.

    In float32 outside autocast: half-precision FFTs fail or lose the spectrum.
    """
    dims = tuple(range(-len(shape), 0))
    with torch.autocast(x.device.type, enabled=False):
        spectrum = torch.fft.rfftn(x.float(), dim=dims)
        # In place where autograd does not need the factors: one array less of the largest there are.
        shaped = spectrum * gain if gain.requires_grad else spectrum.mul_(gain)
        # irfftn takes these two steps on a copy of its input, at up to twice the time on the CPU.
        if len(dims) > 1:
            shaped = torch.fft.ifftn(shaped, dim=dims[:-1])
        field: Tensor = torch.fft.irfft(shaped, n=shape[-1], dim=-1)
        return field


class SpectralNoise:
    """Noise eps_w = F^-1 diag(w) F xi with xi ~ N(0, I), and the linear maps of its covariance.

    Every map takes and returns float32 tensors of shape (..., *spatial), `spatial` the filter's shape, on `device`.
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

    def draw(self, shape: Sequence[int], generators: Generators) -> Tensor:
        """Draw noise of `shape` = (B, C, *spatial) from one generator, or from one generator per image.

        With a generator per image, image i depends on its own generator alone: not on the batch it is drawn in.
        """
        return self.color(self._white(tuple(shape), generators))

    def color(self, x: Tensor) -> Tensor:
        """Apply T_w = F^-1 diag(w) F."""
        return self._apply(x, self._weight)

    def whiten(self, x: Tensor) -> Tensor:
        """Apply the pseudo-inverse of T_w: whiten(color(x)) = project(x)."""
        return self._apply(x, self._inverse)

    def project(self, x: Tensor) -> Tensor:
        """Apply P = F^-1 diag(1[w > 0]) F: remove the frequencies that carry no noise."""
        return self._apply(x, self._support)

    def covariance(self) -> Tensor:
        """Eigenvalues of the covariance, w^2, on the half spectrum."""
        return torch.as_tensor(self.filter.weight**2, dtype=torch.float32, device=self.device)

    def logdet(self) -> float:
        """Log-determinant of the covariance on its support."""
        return self.filter.logdet

    def _white(self, shape: tuple[int, ...], generators: Generators) -> Tensor:
        if isinstance(generators, torch.Generator):
            return torch.randn(shape, generator=generators, device=self.device)
        return torch.stack([torch.randn(shape[1:], generator=g, device=self.device) for g in generators])

    def _multiplier(self, values: NDArray[np.generic]) -> Tensor | None:
        """None stands for the identity: white noise is then the very tensor that was drawn, at no cost."""
        if np.all(np.abs(values.astype(np.float64) - 1) < 1e-12):
            return None
        return torch.as_tensor(np.array(values, dtype=np.float32), device=self.device)

    def _apply(self, x: Tensor, multiplier: Tensor | None) -> Tensor:
        return x.float() if multiplier is None else multiply_spectrum(x, multiplier, self._shape)
