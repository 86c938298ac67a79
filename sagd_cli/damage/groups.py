"""Groups of frequencies over which the power of images is averaged."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sagd_cli.spectral.annuli import Annuli
from sagd_cli.spectral.grid import Array, FrequencyGrid
from sagd_cli.spectral.peaks import CORRELATED_BINS
from sagd_cli.spectral.spectrum import periodograms

TOUCHED = 1e-4  # share of the noise's power above which a bin counts as inside the band


@dataclass(frozen=True, eq=False)
class Groups:
    """The G groups of frequencies over which power is averaged: annuli without DC, split by the band.

    `band` is the power spectrum of noise of amplitude 1 on the half spectrum of `grid`, as it is measured. `channels`
    is the number of channels of an image; their noise is independent. `hann` says whether fields are tapered.
    Frequencies up to the radius `lowest` (cycles/sample) are left out.
    """

    grid: FrequencyGrid
    band: Array
    channels: int = 1
    hann: bool = False
    lowest: float = 0.0

    @cached_property
    def index(self) -> NDArray[np.int64]:
        """The group of every bin, of shape `half_shape`; -1 for bins that are left out."""
        key = 2 * Annuli(self.grid).index + (self.band > TOUCHED)
        used = self.grid.radius > self.lowest
        index = np.full(self.grid.half_shape, -1, dtype=np.int64)
        index[used] = np.unique(key[used], return_inverse=True)[1]
        return index

    @cached_property
    def _weights(self) -> Array:
        """Matrix (bins, G) that averages over the groups."""
        members = self.index.reshape(-1, 1) == np.arange(self.index.max() + 1)
        weights = members * self.grid.multiplicity.reshape(-1, 1)
        return np.asarray(weights / weights.sum(axis=0))

    def mean(self, power: Array) -> Array:
        """Return the mean power of each group, (..., *half_shape) to (..., G)."""
        return np.asarray(power.reshape(*power.shape[: -self.grid.ndim], -1) @ self._weights)

    def powers(self, fields: NDArray[np.floating]) -> Array:
        """Return the mean power (N, G) of `fields` (N, C, *spatial) in each group, over their channels.

        A thousand fields are worked on at a time.
        """
        chunks = [fields[i : i + 1000] for i in range(0, len(fields), 1000)]
        return np.concatenate([self.mean(periodograms(f, self.grid, self.hann).mean(axis=1)) for f in chunks])

    @cached_property
    def noise(self) -> Array:
        """Power (G,) of noise of amplitude 1."""
        return self.mean(self.band)

    @cached_property
    def inside(self) -> NDArray[np.bool_]:
        """Which groups (G,) are in the band."""
        return np.asarray(self.mean((self.band > TOUCHED).astype(np.float64)) > 0.5)

    @cached_property
    def radius(self) -> Array:
        """Geometric mean radius (G,) of each group, in cycles/sample."""
        log_radius = np.log(self.grid.radius, out=np.zeros(self.grid.half_shape), where=self.grid.radius > 0)
        return np.exp(self.mean(log_radius))

    @cached_property
    def bins(self) -> Array:
        """Number (G,) of independent exponentials of which the noise's power in a group is the mean."""
        count = np.bincount(self.index[self.index >= 0], self.grid.multiplicity[self.index >= 0]) / 2
        return count * self.channels / (CORRELATED_BINS**self.grid.ndim if self.hann else 1.0)
