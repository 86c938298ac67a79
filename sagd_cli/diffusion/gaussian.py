"""The exact denoiser of Gaussian data: the oracle of the tests (MATH: 5. Oracle)."""

import torch
from torch import Tensor

from sagd_cli.diffusion.schedule import Schedule
from sagd_cli.spectral.noise import SpectralNoise


class GaussianDenoiser:
    """E[x_0 | x_t] for stationary data N(mu, S), linear and separate for each frequency."""

    def __init__(self, mean: Tensor, power: Tensor, schedule: Schedule, noise: SpectralNoise) -> None:
        """Take the mean image (*spatial) and the power spectrum S (half spectrum, |F x|^2 / N)."""
        self.schedule = schedule
        self.noise = noise
        self._mean = mean
        self._power = power
        self._dims = tuple(range(-mean.ndim, 0))
        self._covariance = noise.covariance().to(power.dtype)

    def __call__(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return mu + alpha S (X_t - alpha mu) / (alpha^2 S + sigma^2 w^2) and the noise that goes with it."""
        alpha_t, sigma_t = (level.to(x_t.dtype) for level in self.schedule.levels(t))
        total = alpha_t**2 * self._power + sigma_t**2 * self._covariance
        gain = torch.where(total > 0, alpha_t * self._power / total, 0.0)
        centred = torch.fft.rfftn(x_t - alpha_t * self._mean, dim=self._dims)
        x0 = self._mean + torch.fft.irfftn(gain * centred, s=tuple(self._mean.shape), dim=self._dims)
        return x0, (x_t - alpha_t * x0) / sigma_t
