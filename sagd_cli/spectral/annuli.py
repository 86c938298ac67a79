"""Rings of the half spectrum over which power is averaged (docs/theory.md, section 7)."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sagd_cli.spectral.grid import Array, FrequencyGrid

RATIO = 1.1


@dataclass(frozen=True)
class Annuli:
    """A partition of the half spectrum of `grid` by radius: each bin is in exactly one of K annuli.

    Annulus 0 is DC alone. The widths of the others grow with the radius: an annulus ends before the first radius that
    is more than `RATIO` times its smallest radius. So each of the lowest frequencies has its own annulus, and large
    grids have about a hundred annuli at most.
    """

    grid: FrequencyGrid

    @cached_property
    def index(self) -> NDArray[np.int64]:
        """The annulus of every bin, 0 to K - 1, with shape `half_shape`."""
        radius = self.grid.radius
        first = _first_radii(np.unique(radius[radius > 0]))
        return np.searchsorted(first, radius, side="right").astype(np.int64)

    @cached_property
    def count(self) -> Array:
        """Number of bins of the full spectrum in each annulus, with shape (K,); the sum is the grid's size."""
        total = np.bincount(self.index.ravel(), weights=self.grid.multiplicity.ravel())
        return total.astype(np.float64)

    @cached_property
    def rho(self) -> Array:
        """Geometric mean of rho over each annulus, with shape (K,); 0 for DC."""
        log_rho = np.log(self.grid.rho, out=np.zeros(self.grid.half_shape), where=self.grid.rho > 0)
        rho = np.exp(self.mean(log_rho))
        rho[0] = 0.0
        return rho

    def mean(self, values: NDArray[Any]) -> Array:
        """Return the mean (..., K) of `values` (..., *half_shape) over the full spectrum's bins in each annulus."""
        flat = np.reshape(values, (*np.shape(values)[: -self.grid.ndim], -1))
        ordered = flat[..., self._order] * self.grid.multiplicity.ravel()[self._order]
        return np.asarray(np.add.reduceat(ordered, self._starts, axis=-1) / self.count)

    @cached_property
    def _order(self) -> NDArray[np.int64]:
        return np.argsort(self.index, axis=None, kind="stable")

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        sizes = np.bincount(self.index.ravel())
        return np.cumsum(sizes) - sizes


def _first_radii(radii: Array) -> Array:
    """Return the smallest radius of every annulus but DC; `radii` are the distinct radii > 0 in ascending order."""
    first: list[float] = []
    position = 0
    while position < len(radii):
        first.append(radii[position])
        # Radii that are equal in exact arithmetic differ by rounding.
        position = int(np.searchsorted(radii, radii[position] * RATIO * (1 + 1e-9), side="right"))
    return np.array(first)
