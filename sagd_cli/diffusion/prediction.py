"""What a network predicts, and how (x_0, eps_w) follow from it (docs/theory.md, section 4.2).

The conversions are scalar whatever the weight w is, except those of `edm-spectral`, which are filters.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from sagd_cli.diffusion.catalogue import PREDICTIONS
from sagd_cli.diffusion.process import Level
from sagd_cli.errors import ConfigError
from sagd_cli.spectral.grid import Array, FrequencyGrid
from sagd_cli.spectral.noise import SpectralNoise, multiply_spectrum
from sagd_cli.system.choices import chosen

Network = Callable[[Tensor, Tensor], Tensor]

FLOOR = 1e-4  # the data's power at any frequency is taken to be at least this share of its mean


class Prediction(Protocol):
    """What a network predicts. Levels broadcast against x_t (B, C, *spatial)."""

    def inputs(self, x_t: Tensor, level: Level) -> Tensor:
        """Return the network's input for x_t."""
        ...

    def target(self, x0: Tensor, eps: Tensor, level: Level) -> Tensor:
        """Return the output that the network should have."""
        ...

    def split(self, output: Tensor, x_t: Tensor, level: Level) -> tuple[Tensor, Tensor]:
        """Return (x0, eps) with x_t = alpha x0 + sigma eps."""
        ...


class _UnitInputs:
    """Inputs scaled to variance 1 for data of variance 1. Variance-preserving schedules have that scale already."""

    def inputs(self, x_t: Tensor, level: Level) -> Tensor:
        """Return x_t / sqrt(alpha^2 + sigma^2)."""
        return x_t * torch.rsqrt(level.alpha**2 + level.sigma**2)


class NoisePrediction(_UnitInputs):
    """The network predicts eps_w, the shaped noise (the paper's choice; Ho et al. 2006.11239)."""

    def target(self, x0: Tensor, eps: Tensor, level: Level) -> Tensor:
        """Return eps_w."""
        return eps

    def split(self, output: Tensor, x_t: Tensor, level: Level) -> tuple[Tensor, Tensor]:
        """Return (x0, eps) with x0 = (x_t - sigma eps) / alpha."""
        return level.image_of(x_t, output), output


class ImagePrediction(_UnitInputs):
    """The network predicts x_0."""

    def target(self, x0: Tensor, eps: Tensor, level: Level) -> Tensor:
        """Return x_0."""
        return x0

    def split(self, output: Tensor, x_t: Tensor, level: Level) -> tuple[Tensor, Tensor]:
        """Return (x0, eps) with eps = (x_t - alpha x0) / sigma."""
        return output, level.noise_of(x_t, output)


class VelocityPrediction(_UnitInputs):
    """The network predicts v = (alpha eps - sigma x_0) / sqrt(alpha^2 + sigma^2) (Salimans & Ho 2202.00512)."""

    def target(self, x0: Tensor, eps: Tensor, level: Level) -> Tensor:
        """Return v, which has unit scale on any schedule."""
        alpha, sigma = level.alpha, level.sigma
        return (alpha * eps - sigma * x0) * torch.rsqrt(alpha**2 + sigma**2)

    def split(self, output: Tensor, x_t: Tensor, level: Level) -> tuple[Tensor, Tensor]:
        """Return (x0, eps): the pair (x_t, v) rotated back by the angle arctan(sigma / alpha)."""
        alpha, sigma = level.alpha, level.sigma
        scale = torch.rsqrt(alpha**2 + sigma**2)
        x, v = x_t * scale, output
        return (alpha * x - sigma * v) * scale, (sigma * x + alpha * v) * scale


class PreconditionedPrediction:
    """x_0 = c_skip x_t + c_out F(c_in x_t), which gives F inputs and targets of unit power (Karras et al. 2206.00364).

    S is the power of the data, w^2 that of the noise, and V = alpha^2 S + sigma^2 w^2. Then c_skip = alpha S / V,
    c_out = sqrt(S) sigma w / sqrt(V) and c_in = 1 / sqrt(V). The first term is the linear denoiser of Gaussian data, so
    F learns what is left. With scalar S and w^2 and alpha = 1, this is EDM's table 1. With spectra, c_skip, c_out and
    c_in are filters (`edm-spectral`).
    """

    def __init__(self, power: Tensor, covariance: Tensor, shape: tuple[int, ...] | None = None) -> None:
        """Take S > 0 and w^2 as scalars, or on the half spectrum of fields of `shape`."""
        self._power, self._covariance, self._shape = power, covariance, shape

    def inputs(self, x_t: Tensor, level: Level) -> Tensor:
        """Return c_in x_t."""
        return self._apply(torch.rsqrt(self._total(level)), x_t)

    def target(self, x0: Tensor, eps: Tensor, level: Level) -> Tensor:
        """Return (x_0 - c_skip x_t) / c_out, and zero at frequencies where the noise is zero."""
        total, x_t = self._total(level), level.noised(x0, eps)
        left = x0 - self._apply(level.alpha * self._power / total, x_t)
        spread = (self._power * self._covariance).sqrt() * level.sigma
        return self._apply(torch.where(spread > 0, total.sqrt() / spread, 0.0), left)

    def split(self, output: Tensor, x_t: Tensor, level: Level) -> tuple[Tensor, Tensor]:
        """Return x_0 as above, and eps = (x_t - alpha x_0) / sigma."""
        total = self._total(level)
        spread = (self._power * self._covariance / total).sqrt() * level.sigma
        x0 = self._apply(level.alpha * self._power / total, x_t) + self._apply(spread, output)
        return x0, level.noise_of(x_t, x0)

    def _total(self, level: Level) -> Tensor:
        return level.alpha**2 * self._power + level.sigma**2 * self._covariance

    def _apply(self, gain: Tensor, x: Tensor) -> Tensor:
        return gain * x if self._shape is None else multiply_spectrum(x, gain, self._shape)


def floored(power: Array, grid: FrequencyGrid) -> Array:
    """Return `power` (E |F x|^2 / N on the half spectrum), raised to at least 1e-4 of its mean at each frequency.

    So no band has zero power, by which the scales divide.
    """
    return power.clip(FLOOR * grid.mean(power))


def edm_prediction(power: Array, noise: SpectralNoise) -> Prediction:
    """Return the prediction that is preconditioned with the mean power of the data and of the noise, as in EDM."""
    scalars = [noise.filter.grid.mean(power), noise.filter.power]
    mean, covariance = torch.tensor(scalars, dtype=torch.float32, device=noise.device)
    return PreconditionedPrediction(mean, covariance)


def edm_spectral_prediction(power: Array, noise: SpectralNoise) -> Prediction:
    """Return the prediction that is preconditioned with the spectra of the data and of the noise."""
    # At a frequency where the data have no power, c_skip and c_out would be zero, and so the network without effect.
    spectrum = torch.as_tensor(floored(power, noise.grid), dtype=torch.float32, device=noise.device)
    return PreconditionedPrediction(spectrum, noise.covariance(), noise.filter.grid.shape)


def make_prediction(name: str, power: Array | None, noise: SpectralNoise) -> Prediction:
    """Return the prediction called `name`.

    `power` is E |F x_0|^2 / N of the data, mean included, on the half spectrum; predictions that do not need it ignore
    it. Raises ConfigError on an unknown name, and when the power is needed but zero or None.
    """
    choice = chosen("prediction", name, PREDICTIONS, ConfigError)
    if not choice.needs_power:
        simple: Prediction = choice.load()()
        return simple
    if power is None or noise.filter.grid.mean(power) <= 0:
        raise ConfigError("the data are zero everywhere, and EDM's preconditioning divides by their power")
    preconditioned: Prediction = choice.load()(power, noise)
    return preconditioned
