"""The exact denoiser of Gaussian data: the oracle of the tests (docs/theory.md, section 5.4)."""

import torch
from torch import Tensor

from sagd_cli.diffusion.process import ForwardProcess, Level


class GaussianDenoiser:
    """E[x_0 | x_t] for stationary data N(mu, S), linear and separate for each frequency."""

    def __init__(self, mean: Tensor, power: Tensor, process: ForwardProcess) -> None:
        """Take the mean image (*spatial) and the power spectrum S (half spectrum, |F x|^2 / N)."""
        self.process = process
        self._mean = mean
        self._power = power
        self._dims = tuple(range(-mean.ndim, 0))
        self._covariance = process.noise.covariance().to(power.dtype)

    def __call__(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return mu + alpha S (X_t - alpha mu) / (alpha^2 S + sigma^2 w^2) and the noise that goes with it."""
        alpha, sigma = (values.to(x_t.dtype) for values in self.process.schedule.levels(t))
        total = alpha**2 * self._power + sigma**2 * self._covariance
        gain = torch.where(total > 0, alpha * self._power / total, 0.0)
        centred = torch.fft.rfftn(x_t - alpha * self._mean, dim=self._dims)
        x0 = self._mean + torch.fft.irfftn(gain * centred, s=tuple(self._mean.shape), dim=self._dims)
        return x0, Level(t, alpha, sigma).noise_of(x_t, x0)
