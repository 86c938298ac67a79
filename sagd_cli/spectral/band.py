"""Radial bands, their presets and their edges (MATH: 1. Frequencies; CLI: BAND)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sagd_cli.errors import ConfigError, suggest
from sagd_cli.spectral.grid import Array, FrequencyGrid

PRESETS = {"low": (0.0, 0.25), "mid": (0.25, 0.5), "high": (0.5, 1.0)}


def check_edges(low: float, high: float, grid: FrequencyGrid) -> None:
    """Raise ConfigError unless 0 <= low < high <= the corner of the spectrum, in the grid's units."""
    top = grid.radial_max
    if not 0 <= low < high:
        raise ConfigError(
            f"the band {low:g} to {high:g} is reversed, empty or negative",
            f"Give 0 <= low < high <= {top:g} ({grid.units}).",
        )
    if high > top * (1 + 1e-9):
        raise ConfigError(
            f"the band edge {high:g} is outside the spectrum, which ends at {top:g} ({grid.units})",
            "Edges are in rho (1 = the corner of the spectrum) unless `units` says nyquist or cycles.",
        )


def indicator(low: float, high: float, grid: FrequencyGrid) -> NDArray[np.bool_]:
    """Bins with low <= radial < high; a band that ends at the corner of the spectrum includes it."""
    check_edges(low, high, grid)
    # A radius that lies on an edge may be rounded to just below it (6/16 of the way to the corner of 32x32).
    slack = 1e-9 * grid.radial_max
    above = grid.radial >= low - slack
    return above & ((grid.radial < high - slack) | (high >= grid.radial_max - slack))


def window(low: float, high: float, grid: FrequencyGrid, transition: float = 0.0) -> Array:
    """Weight 1 inside the band and 0 outside, with raised-cosine edges `transition` wide (grid units).

    Edges that lie on DC or on the corner of the spectrum have no other side and stay sharp.
    """
    if transition == 0:
        return indicator(low, high, grid).astype(np.float64)
    check_edges(low, high, grid)
    rising = _raised_cosine(grid.radial, low, transition) if low > 0 else np.ones(grid.half_shape)
    falling = _raised_cosine(grid.radial, high, transition) if high < grid.radial_max else 0.0
    return np.clip(rising - falling, 0.0, 1.0)


def _raised_cosine(x: Array, edge: float, width: float) -> Array:
    phase = np.clip((x - edge) / width + 0.5, 0.0, 1.0)
    return 0.5 - 0.5 * np.cos(np.pi * phase)


@dataclass(frozen=True)
class Band:
    """A union of radial bands [low, high) in rho."""

    parts: tuple[tuple[float, float], ...]

    @classmethod
    def parse(cls, text: str) -> "Band":
        """Read `low`, `mid`, `high`, `LO:HI` (rho) or several joined by `+`; raise ConfigError otherwise."""
        return cls(tuple(_parse_part(part.strip()) for part in text.split("+")))

    def mask(self, grid: FrequencyGrid) -> NDArray[np.bool_]:
        """Bins of the half spectrum inside the band; raise ConfigError when there is none at this size."""
        rho_grid = FrequencyGrid(grid.shape)
        inside = np.zeros(grid.half_shape, dtype=bool)
        for low, high in self.parts:
            inside |= indicator(low, high, rho_grid)
        if not inside.any():
            raise ConfigError(
                f"the band {self} holds no frequency of a field of shape {grid.shape}", "Widen the band."
            )
        return inside

    def __str__(self) -> str:
        """The band as the command line takes it."""
        return "+".join(f"{low:g}:{high:g}" for low, high in self.parts)


def _parse_part(text: str) -> tuple[float, float]:
    if text in PRESETS:
        return PRESETS[text]
    low, colon, high = text.partition(":")
    if not colon:
        raise ConfigError(f"unknown band {text!r}", f"{suggest(text, PRESETS)} A band is also LO:HI in rho.")
    try:
        edges = float(low), float(high)
    except ValueError:
        raise ConfigError(f"the band {text!r} is not LO:HI with two numbers", "For example 0.5:1.") from None
    check_edges(*edges, FrequencyGrid((2, 2)))
    return edges
