"""Spectral filters: the weight w(f) that shapes the noise (docs/theory.md, section 2)."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from sagd_cli.errors import ConfigError
from sagd_cli.spectral.grid import Array, FrequencyGrid
from sagd_cli.spectral.region import PRESETS, indicator

Normalize = Literal["power", "none", "peak"]


@dataclass(frozen=True, eq=False)
class SpectralFilter:
    """A real weight w(f) = w(-f) >= 0 on the half spectrum of `grid`.

    The noise it shapes has covariance F^-1 diag(w^2) F. Construct it with `from_weight`, which checks the weight.
    """

    grid: FrequencyGrid
    weight: Array

    @classmethod
    def from_weight(
        cls, grid: FrequencyGrid, weight: NDArray[np.generic], normalize: Normalize = "none"
    ) -> "SpectralFilter":
        """Check `weight` (half spectrum), scale it and return the filter.

        `normalize`: "power" makes the mean of w^2 over the full spectrum 1 (unit variance per sample),
        "peak" makes max w = 1, "none" keeps it. Raises ConfigError on a wrong shape, values that are negative,
        not finite or not symmetric, or a filter that is zero everywhere.
        """
        w = np.array(weight, dtype=np.float64)
        _check_weight(grid, w)
        if normalize not in get_args(Normalize):
            raise ConfigError(
                f"unknown normalisation {normalize!r}", f"Known: {', '.join(get_args(Normalize))}."
            )
        if normalize != "none":
            w = (
                w / w.max()
            )  # first, so that the squares of very small or very large weights are representable
        if normalize == "power":
            w = w / np.sqrt(grid.mean(w**2))
        _check_range(w[w > 0])
        w.setflags(write=False)
        return cls(grid, w)

    @cached_property
    def power(self) -> float:
        """Variance of one sample of the noise: the mean of w^2 over the full spectrum."""
        return self.grid.mean(self.weight**2)

    @cached_property
    def support(self) -> NDArray[np.bool_]:
        """Bins of the half spectrum where w > 0."""
        return self.weight > 0

    @cached_property
    def rank(self) -> int:
        """Number of bins of the full spectrum where w > 0."""
        return round(self.grid.total(self.support))

    @property
    def is_complete(self) -> bool:
        """Whether every frequency carries noise."""
        return self.rank == self.grid.size

    @cached_property
    def condition(self) -> float:
        """Condition number of the covariance on the support: (max w / min w)^2."""
        inside = self.weight[self.support]
        return float((inside.max() / inside.min()) ** 2)

    @cached_property
    def logdet(self) -> float:
        """Log-determinant of the covariance on the support: sum of log w^2 over the full spectrum."""
        return self.grid.total(2 * np.log(np.where(self.support, self.weight, 1.0)))

    @cached_property
    def band_shares(self) -> dict[str, float]:
        """Share of the noise power in the preset bands low, mid and high; the shares sum to 1."""
        rho_grid = FrequencyGrid(self.grid.shape)
        power = self.weight**2
        total = self.grid.total(power)
        return {name: self.grid.total(power * indicator(*b, rho_grid)) / total for name, b in PRESETS.items()}

    def profile(self, bins: int = 32) -> list[tuple[float, float]]:
        """Return pairs (mean rho, root-mean-square w) for `bins` equal intervals of rho, without empty intervals."""
        index = np.minimum((self.grid.rho * bins).astype(int), bins - 1).ravel()
        count = np.bincount(index, self.grid.multiplicity.ravel(), bins)
        sums = [
            np.bincount(index, (self.grid.multiplicity * values).ravel(), bins)
            for values in (self.grid.rho, self.weight**2)
        ]
        full = count > 0
        rho, power = (s[full] / count[full] for s in sums)
        return [(float(a), float(b)) for a, b in zip(rho, np.sqrt(power), strict=True)]


def _check_range(w: Array) -> None:
    """Raise ConfigError unless float32, which noise is computed in, holds every weight and its reciprocal."""
    if w.min() < 1e-37 or w.max() > 1e37:
        raise ConfigError(
            f"the filter's weights go from {w.min():.0e} to {w.max():.0e}, more than float32 holds",
            "Check its options, or give it a floor.",
        )


def _check_weight(grid: FrequencyGrid, w: Array) -> None:
    if w.shape != grid.half_shape:
        raise ConfigError(f"the filter's weight has shape {w.shape}, not {grid.half_shape}")
    if not np.all(np.isfinite(w)):
        raise ConfigError("the filter's weight is not finite at some frequency", "Check its options.")
    if np.any(w < 0):
        raise ConfigError(
            "the filter's weight is negative at some frequency", "Weights are amplitudes, >= 0."
        )
    if not np.any(w > 0):
        raise ConfigError(
            f"the filter is zero at every frequency of a field of shape {grid.shape}",
            "It has no support: widen its band or give it a floor.",
        )
    if not grid.is_symmetric(w):
        raise ConfigError(
            "the filter's weight is not symmetric, w(f) = w(-f)", "The noise would not be real."
        )
