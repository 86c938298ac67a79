"""The strength of the noise in a band, with its interval."""

import math
from dataclasses import dataclass

from sagd_cli.errors import DataError
from sagd_cli.spectral.band import Band

WEAKEST = 0.01  # nothing weaker is noise to omit: half a step of 8-bit images has 0.004
# The ends of the schedule's sigma / alpha at which a network can be trained; a lost band is taken to be at the upper.
FINEST, STRONGEST = 0.01, 100.0
NORMAL_95 = 1.96
ITERATIONS = 4  # of the covariance, which depends on gamma
ALLOWED_EXCESS = 1.1  # a level that is by a tenth too high costs some hundredths of a dB
TINY = 1e-20  # power that only rounding makes


@dataclass(frozen=True)
class Strength:
    """The noise amplitude gamma on the [-1, 1] range, `value`, with its 95 % interval from `low` to `high`.

    `lost` says that nothing is left of the images in the band. Either noise drowns them there, or the band was erased;
    then all three are infinite.
    """

    value: float
    low: float
    high: float
    lost: bool = False

    @classmethod
    def told(cls, level: float) -> "Strength":
        """Return a strength that was told, which has no interval."""
        return cls(level, level, level, lost=math.isinf(level))

    @property
    def found(self) -> bool:
        """Whether there is noise at all: the interval leaves out 0."""
        return self.low > 0

    @property
    def level(self) -> float:
        """The noise level to restore at: infinity where the band is lost, else the value."""
        return math.inf if self.lost else self.value

    @property
    def cautious(self) -> float:
        """The level to use where nobody looks: the value, or a smaller one where that is uncertain; 0 without noise.

        It is the largest that is for certain at most a tenth above the truth. A level that is too low leaves noise; one
        that is too high takes from the image, so only small errors of that kind are allowed.
        """
        return min(self.value, ALLOWED_EXCESS * self.low)

    def scaled(self, factor: float) -> "Strength":
        """Return the strength in other units."""
        return Strength(self.value * factor, self.low * factor, self.high * factor, self.lost)

    @property
    def certain(self) -> bool:
        """Whether there is noise, and it is known how strong: the interval begins above half the value."""
        return self.low > self.value / 2


NONE = Strength(0.0, 0.0, 0.0)


def variance_interval(variance: float, constant: float, linear: float, square: float) -> tuple[float, float]:
    """Return the ends of all v >= 0 for which (variance - v)^2 <= constant + linear v + square v^2.

    Source: Wilson, JASA 1927.
    """
    slope, offset, rest = 2 * variance + linear, variance * variance - constant, 1 - square
    discriminant = slope * slope - 4 * rest * offset
    root = math.sqrt(max(discriminant, 0.0))
    low = 2 * offset / (slope + root) if variance > 0 and offset > 0 else 0.0
    if discriminant < 0 and variance <= 0:
        return low, 0.0
    return low, max((slope + root) / (2 * rest), 0.0) if rest > 0 else math.inf


def nothing_to_omit(band: Band, source: str, found: Strength) -> DataError:
    """Return the error of images in which no noise is certain; `source` is what explains the power of the band."""
    return DataError(
        f"the band {band} holds no more power than {source} explains: there is no noise to omit for certain "
        f"(strength {found.value:.3g}, 95 % interval 0 to {found.high:.3g})",
        "Nothing was changed. If there is noise, give its --strength, or a --reference like the images.",
    )
