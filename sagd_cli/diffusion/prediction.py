"""What a network predicts, and how (x_0, eps_w) follow from it (MATH: 4. Conversions).

The conversions are scalar whatever the weight w is, except those of `edm-spectral`, which are filters.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from sagd_cli.errors import ConfigError, suggest
from sagd_cli.spectral.grid import Array
from sagd_cli.spectral.noise import SpectralNoise, multiply_spectrum

Network = Callable[[Tensor, Tensor], Tensor]

FLOOR = 1e-4  # of the mean power, the least a frequency of the data is taken to have


class Prediction(Protocol):
    """A parametrisation. Levels alpha and sigma broadcast against x_t (B, C, *spatial)."""

    def inputs(self, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Return what the network is given for x_t."""
        ...

    def target(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Return what the network should say."""
        ...

    def split(self, output: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Return (x0, eps) with x_t = alpha x0 + sigma eps."""
        ...


class _UnitInputs:
    """x_t on the scale of data of variance 1; variance-preserving schedules have it already, to rounding."""

    def inputs(self, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """x_t at unit scale."""
        return x_t * torch.rsqrt(alpha**2 + sigma**2)


class NoisePrediction(_UnitInputs):
    """The network says eps_w, the noise as it was shaped (the paper's choice; Ho et al. 2006.11239)."""

    def target(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """eps_w."""
        return eps

    def split(self, output: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """x0 = (x_t - sigma eps) / alpha."""
        return (x_t - sigma * output) / alpha, output


class ImagePrediction(_UnitInputs):
    """The network says x_0."""

    def target(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """x_0."""
        return x0

    def split(self, output: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Eps = (x_t - alpha x0) / sigma."""
        return output, (x_t - alpha * output) / sigma


class VelocityPrediction(_UnitInputs):
    """The network says v = (alpha eps - sigma x_0) / sqrt(alpha^2 + sigma^2) (Salimans & Ho 2202.00512)."""

    def target(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """v, of unit scale on any schedule."""
        return (alpha * eps - sigma * x0) * torch.rsqrt(alpha**2 + sigma**2)

    def split(self, output: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Turn (x_t, v) back by the angle arctan(sigma / alpha)."""
        scale = torch.rsqrt(alpha**2 + sigma**2)
        x, v = x_t * scale, output
        return (alpha * x - sigma * v) * scale, (sigma * x + alpha * v) * scale


class PreconditionedPrediction:
    """x_0 = c_skip x_t + c_out F(c_in x_t), which gives F inputs and targets of unit power (Karras et al. 2206.00364).

    With the data's power S and the noise's w^2, c_skip = alpha S / V, c_out = sqrt(S) sigma w / sqrt(V) and
    c_in = 1 / sqrt(V), V = alpha^2 S + sigma^2 w^2: the linear denoiser of Gaussian data, and what is left to learn.
    Scalars S and w^2 with alpha = 1 are EDM's table 1; spectra make the three of them filters (`edm-spectral`).
    """

    def __init__(self, power: Tensor, covariance: Tensor, shape: tuple[int, ...] | None = None) -> None:
        """Take S > 0 and w^2 as scalars, or on the half spectrum of fields of `shape`."""
        self._power, self._covariance, self._shape = power, covariance, shape

    def inputs(self, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """c_in x_t."""
        return self._apply(torch.rsqrt(self._total(alpha, sigma)), x_t)

    def target(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """(x_0 - c_skip x_t) / c_out; zero where the noise is."""
        total, x_t = self._total(alpha, sigma), alpha * x0 + sigma * eps
        left = x0 - self._apply(alpha * self._power / total, x_t)
        spread = (self._power * self._covariance).sqrt() * sigma
        return self._apply(torch.where(spread > 0, total.sqrt() / spread, 0.0), left)

    def split(self, output: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """x_0 as above and the eps that goes with it."""
        total = self._total(alpha, sigma)
        spread = (self._power * self._covariance / total).sqrt() * sigma
        x0 = self._apply(alpha * self._power / total, x_t) + self._apply(spread, output)
        return x0, (x_t - alpha * x0) / sigma

    def _total(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return alpha**2 * self._power + sigma**2 * self._covariance

    def _apply(self, gain: Tensor, x: Tensor) -> Tensor:
        return gain * x if self._shape is None else multiply_spectrum(x, gain, self._shape)


PREDICTIONS = ("eps", "x0", "v", "edm", "edm-spectral")


def make_prediction(name: str, power: Array, noise: SpectralNoise) -> Prediction:
    """Return the parametrisation called `name`.

    `power` is E |F x_0|^2 / N of the data, mean included, on the half spectrum; only the `edm` ones use it. Raises
    ConfigError on another name, and on data without power.
    """
    simple: dict[str, Callable[[], Prediction]] = {
        "eps": NoisePrediction,
        "x0": ImagePrediction,
        "v": VelocityPrediction,
    }
    if name in simple:
        return simple[name]()
    if name not in PREDICTIONS:
        raise ConfigError(f"unknown prediction {name!r}", suggest(name, PREDICTIONS))
    mean = noise.filter.grid.mean(power)
    if mean <= 0:
        raise ConfigError("the data are zero everywhere, and EDM's preconditioning divides by their power")
    if name == "edm":
        scalars = torch.tensor([mean, noise.filter.power], dtype=torch.float32, device=noise.device)
        return PreconditionedPrediction(scalars[0], scalars[1])
    # A frequency without power in the data would make c_skip and c_out zero, and the network unheard there.
    spectrum = torch.as_tensor(power.clip(FLOOR * mean), dtype=torch.float32, device=noise.device)
    return PreconditionedPrediction(spectrum, noise.covariance(), noise.filter.grid.shape)
