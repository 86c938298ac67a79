"""The frequencies of a sampled field, on the half spectrum that `rfftn` returns (docs/theory.md, section 1)."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from sagd_cli.errors import ConfigError

Units = Literal["rho", "nyquist", "cycles"]
Array = NDArray[np.float64]


def format_shape(shape: Iterable[int]) -> str:
    """Return a shape as the command line takes it, such as 28x28."""
    return "x".join(map(str, shape))


@dataclass(frozen=True)
class FrequencyGrid:
    """Frequencies of a field of `shape` (1 to 3 spatial axes, each of any size >= 1).

    Every array is on the half spectrum, with shape `half_shape` = (*shape[:-1], shape[-1] // 2 + 1). `multiplicity`
    says how many bins of the full spectrum a stored bin stands for. `units` is the unit in which a filter's band
    edges are given. It is also the unit of `radial`.
    """

    shape: tuple[int, ...]
    units: Units = "rho"

    def __post_init__(self) -> None:
        """Raise ConfigError on a shape without samples or of more than 3 axes, and on an unknown unit."""
        if not 1 <= len(self.shape) <= 3 or min(self.shape) < 1:
            raise ConfigError(f"a field needs 1 to 3 axes of at least one sample, not the shape {self.shape}")
        if self.units not in get_args(Units):
            raise ConfigError(f"unknown unit {self.units!r}", f"Units are {', '.join(get_args(Units))}.")

    @property
    def ndim(self) -> int:
        """Number of spatial axes d."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of samples N, which is the number of bins of the full spectrum."""
        return int(np.prod(self.shape))

    @property
    def half_shape(self) -> tuple[int, ...]:
        """Shape of every array on the half spectrum."""
        return (*self.shape[:-1], self.shape[-1] // 2 + 1)

    @cached_property
    def axes(self) -> tuple[Array, ...]:
        """Frequencies along each axis in cycles/sample, shaped to broadcast to `half_shape`."""
        lines = [np.fft.fftfreq(n) for n in self.shape[:-1]] + [np.fft.rfftfreq(self.shape[-1])]
        return tuple(np.ix_(*lines))

    @cached_property
    def radius(self) -> Array:
        """Distance from DC, r(f), in cycles/sample."""
        squares = reduce(np.add, [f**2 for f in self.axes])
        return np.asarray(np.broadcast_to(np.sqrt(squares), self.half_shape))

    @cached_property
    def rho(self) -> Array:
        """Normalised radius in [0, 1]: 0 at DC, 1 at the corner of the spectrum (r_max = sqrt(d)/2)."""
        # The rounded ratio can exceed 1 at the corner by one unit in the last place.
        return np.asarray(np.minimum(self.radius / (np.sqrt(self.ndim) / 2), 1.0))

    @cached_property
    def radial(self) -> Array:
        """Distance from DC in `units`. Band edges are compared with it."""
        return {"rho": self.rho, "nyquist": self.radius / 0.5, "cycles": self.radius}[self.units]

    @property
    def radial_max(self) -> float:
        """The corner of the spectrum in `units`: 1 in rho, sqrt(d) in nyquist, sqrt(d)/2 in cycles."""
        corner = float(np.sqrt(self.ndim))
        return {"rho": 1.0, "nyquist": corner, "cycles": corner / 2}[self.units]

    @cached_property
    def multiplicity(self) -> Array:
        """How many bins of the full spectrum each stored bin stands for, 1 or 2."""
        last = np.full(self.half_shape[-1], 2.0)
        last[0] = 1.0
        if self.shape[-1] % 2 == 0:
            last[-1] = 1.0
        return np.asarray(np.broadcast_to(last, self.half_shape))

    def total(self, values: NDArray[Any]) -> float:
        """Sum of `values` (given on the half spectrum) over the full spectrum."""
        return float(np.sum(self.multiplicity * values))

    def mean(self, values: NDArray[Any]) -> float:
        """Mean of `values` (given on the half spectrum) over the full spectrum."""
        return self.total(values) / self.size

    def mirrored(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return `values` at -f along all axes but the last, for bins whose mirror is itself stored."""
        for axis, n in enumerate(self.shape[:-1]):
            values = np.take(values, -np.arange(n) % n, axis=axis)
        return values

    def full(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the full spectrum of symmetric `values`, in the order of `fftfreq` along every axis (DC first)."""
        mirror = self.mirrored(values)[..., 1 : (self.shape[-1] + 1) // 2]
        return np.concatenate([values, mirror[..., ::-1]], axis=-1)

    def is_symmetric(self, values: Array) -> bool:
        """Whether values(f) = values(-f). Only bins at 0 and Nyquist of the last axis have a stored mirror to check."""
        planes = [0, -1] if self.shape[-1] % 2 == 0 else [0]
        return np.allclose(values[..., planes], self.mirrored(values)[..., planes], rtol=1e-9, atol=0)
