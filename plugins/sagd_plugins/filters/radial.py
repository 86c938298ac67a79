"""Radial profile through given knots: monotone-cubic interpolation of (rho, w)."""

from collections.abc import Iterable

import numpy as np
from pydantic import Field, field_validator

from sagd_cli.plugin import Array, FilterPlugin, FrequencyGrid, Options, hookimpl


class RadialOptions(Options):
    """Knots of the profile."""

    knots: tuple[tuple[float, float], ...] = Field(
        ((0.0, 1.0), (1.0, 1.0)), description="Pairs [rho, w]: rho increasing in [0, 1], w >= 0."
    )

    @field_validator("knots")
    @classmethod
    def _ordered(cls, knots: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
        rho, w = np.array(knots, dtype=float).reshape(-1, 2).T
        if len(rho) < 2 or np.any(np.diff(rho) <= 0):
            raise ValueError("at least two knots in increasing order of rho are needed")
        if rho[0] < 0 or rho[-1] > 1:
            raise ValueError("the knots' rho must lie in [0, 1]")
        if np.any(w < 0):
            raise ValueError("the knots' weights must not be negative")
        return knots


def weight(grid: FrequencyGrid, options: RadialOptions) -> Array:
    """Interpolate the knots without overshoot (Fritsch-Carlson); constant beyond the outermost knots."""
    from scipy.interpolate import PchipInterpolator

    rho, w = np.array(options.knots).T
    curve = PchipInterpolator(rho, w)
    return np.asarray(np.maximum(curve(np.clip(grid.rho, rho[0], rho[-1])), 0.0))


@hookimpl
def sagd_filters() -> Iterable[FilterPlugin]:
    """Provide `radial`."""
    yield FilterPlugin("radial", "monotone-cubic profile through knots (rho, w)", RadialOptions, weight)
