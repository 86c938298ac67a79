"""The strength of the noise in a band, with its interval."""

import math
from dataclasses import dataclass

import numpy as np

from sagd_cli.errors import DataError
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.grid import Array

WEAKEST = 0.01  # nothing weaker is noise to omit: half a step of 8-bit images has 0.004
NORMAL_95 = 1.96
ITERATIONS = 4  # of the covariance, which depends on gamma
TINY = 1e-20  # power that only rounding makes


@dataclass(frozen=True)
class Strength:
    """The noise amplitude gamma on the [-1, 1] range with its 95 % interval.

    `lost` says that nothing is left of the image in the band: it is drowned in noise, or was erased, and then all
    three are infinite.
    """

    value: float
    low: float
    high: float
    lost: bool = False

    @property
    def found(self) -> bool:
        """Whether there is noise at all: the interval leaves out 0."""
        return self.low > 0


def variance_interval(variance: Array, constant: Array, linear: Array, square: Array) -> tuple[Array, Array]:
    """Ends of all v >= 0 for which (variance - v)^2 <= constant + linear v + square v^2 (Wilson, JASA 1927)."""
    slope, offset, rest = 2 * variance + linear, variance**2 - constant, 1 - square
    discriminant = slope**2 - 4 * rest * offset
    root = np.sqrt(np.maximum(discriminant, 0))
    above = (variance > 0) & (offset > 0)
    low = np.divide(2 * offset, slope + root, out=np.zeros_like(variance), where=above)
    high = np.full_like(variance, math.inf)
    np.divide(slope + root, 2 * rest, out=high, where=rest > 0)
    return low, np.where((discriminant < 0) & (variance <= 0), 0.0, np.maximum(high, 0.0))


def nothing_to_omit(band: Band, source: str, found: Strength) -> DataError:
    """The error of images without noise that is certain."""
    return DataError(
        f"the band {band} holds no more power than {source} explains: there is no noise to omit for certain "
        f"(strength {found.value:.3g}, 95 % interval 0 to {found.high:.3g})",
        "Nothing was changed. If there is noise, give its --strength, or a --reference like the images.",
    )
