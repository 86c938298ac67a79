"""A filter trained together with the network, on the whitened loss (docs/theory.md, section 8)."""

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from sagd_cli.config.filter import FilterConfig
from sagd_cli.diffusion.loss import DiffusionLoss, Errors
from sagd_cli.diffusion.prediction import Network
from sagd_cli.errors import ConfigError
from sagd_cli.model.ema import Ema
from sagd_cli.plugin.records import FilterPlugin
from sagd_cli.plugin.registry import registry
from sagd_cli.spectral.filter import SpectralFilter
from sagd_cli.spectral.grid import Array, FrequencyGrid
from sagd_cli.spectral.noise import BatchStream, SpectralNoise


class LearnedProfile(nn.Module):
    """A weight w = basis @ softplus(raw), scaled to unit power. The parameter `raw` (K,) is trained."""

    raw: nn.Parameter
    _basis: Tensor
    _share: Tensor

    def __init__(self, basis: Array, knots: Array, grid: FrequencyGrid) -> None:
        """Take the basis (*half_shape, K) and the weights `knots` (K,) > 0 to start from."""
        super().__init__()
        self.grid = grid
        # Scale to unit power first: softplus bends near 1, so knots of another scale would learn at another rate.
        scaled = np.asarray(knots) / np.max(knots)
        scaled = scaled / np.sqrt(grid.mean((basis @ scaled) ** 2))
        raw = scaled + np.log(-np.expm1(-scaled))  # the inverse of softplus
        self.raw = nn.Parameter(torch.as_tensor(raw, dtype=torch.float32))
        self.register_buffer("_basis", torch.as_tensor(basis, dtype=torch.float32))
        self.register_buffer("_share", torch.as_tensor(grid.multiplicity / grid.size, dtype=torch.float32))

    @property
    def knots(self) -> Tensor:
        """Weights at the knots (K,), with the scale of `forward`."""
        values = nn.functional.softplus(self.raw)
        return values / self._scale(self._basis @ values)

    def forward(self) -> Tensor:
        """Return w on the half spectrum; the mean of w^2 over the full spectrum is 1."""
        weight: Tensor = self._basis @ nn.functional.softplus(self.raw)
        return weight / self._scale(weight)

    def spectral_filter(self) -> SpectralFilter:
        """Return the present profile as a filter."""
        return SpectralFilter.from_weight(self.grid, self().detach().cpu().double().numpy())

    def bend(self) -> Tensor:
        """Return the mean square of the second differences of log w over the knots, which the penalty weighs."""
        bends = torch.log(nn.functional.softplus(self.raw)).diff(n=2)
        return bends.square().sum() / max(len(bends), 1)

    def _scale(self, weight: Tensor) -> Tensor:
        return (self._share * weight.square()).sum().sqrt()


class LearnedNoise(SpectralNoise):
    """Noise with the weight of a profile. It is differentiable with respect to the profile."""

    def __init__(self, profile: LearnedProfile, device: torch.device | str) -> None:
        """Start from the present profile."""
        self.profile = profile
        super().__init__(profile.spectral_filter(), device)

    def covariance(self) -> Tensor:
        """Return the eigenvalues w^2 of the covariance for the present profile, on the half spectrum."""
        weight: Tensor = self.profile()
        return weight.detach().square()

    def logdet(self) -> float:
        """Return the log-determinant of the covariance for the present profile."""
        return self.profile.spectral_filter().logdet

    def refresh(self) -> None:
        """Compute the weight from the present profile, for one step."""
        self._weight = self.profile()
        self._inverse = self._weight.reciprocal()


@dataclass(frozen=True)
class LearnedNoiseLoss(DiffusionLoss):
    """The whitened loss, as a function of the network and of the profile of the noise.

    `smoothness` is the weight of the penalty on bends of log w.
    """

    smoothness: float = 0.0

    @property
    def noise(self) -> LearnedNoise:
        """The noise of the forward process, whose profile is trained."""
        return cast(LearnedNoise, self.process.noise)

    def errors(self, network: Network, x0: Tensor, stream: torch.Generator | BatchStream) -> Errors:
        """Return the errors of the network on noise of the present profile."""
        self.noise.refresh()
        return super().errors(network, x0, stream)

    def objective(self, errors: Errors) -> Tensor:
        """Return || T_w^-1 (eps_theta - eps_w) ||^2 / N plus the penalty on bends, a scalar."""
        return self.whitened(errors) + self.smoothness * self.noise.profile.bend()


def learned_profile(config: FilterConfig, shape: tuple[int, ...]) -> LearnedProfile | None:
    """Return the profile to train for fields of `shape`, or None when the family of `config` is not a learned one.

    Raises ConfigError when the filter is not normalised to unit power: its level would be learned too. Raises
    ConfigError when it omits a band: log w could not be smooth there.
    """
    plugin: FilterPlugin = registry().get("filter", config.type)
    if plugin.basis is None:
        return None
    if config.normalize != "power":
        raise ConfigError(
            f"a {config.type} filter is trained at unit power, not with normalize={config.normalize}",
            "Leave normalize at power.",
        )
    if config.omit is not None:
        raise ConfigError(
            f"a {config.type} filter cannot omit a band: its weight is smooth and positive everywhere",
            "Omit it from a fixed filter, such as white or powerlaw.",
        )
    grid = FrequencyGrid(shape, config.units)
    basis = plugin.load("basis")(grid, plugin.options.model_validate(config.options))
    return LearnedProfile(basis, np.array(config.options["knots"])[:, -1], grid)


def average_profile(average: Ema) -> LearnedProfile:
    """Return the averaged profile that `average` holds."""
    return cast(LearnedProfile, average.network)


def trained_filter(config: FilterConfig, average: Ema | None) -> FilterConfig | None:
    """Return the filter of the averaged profile as a configuration, or None when nothing was learned."""
    if average is None:
        return None
    values = average_profile(average).knots.tolist()
    pairs = zip(config.options["knots"], values, strict=True)
    knots = [[*knot[:-1], float(f"{value:.6g}")] for knot, value in pairs]
    return config.model_copy(update={"options": {**config.options, "knots": knots}})
