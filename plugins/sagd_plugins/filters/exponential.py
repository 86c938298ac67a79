"""Exponential decay in the squared radius: w = exp(-beta rho^2)."""

from collections.abc import Iterable

import numpy as np
from pydantic import Field

from sagd_cli.plugin import Array, FilterPlugin, FrequencyGrid, Options, hookimpl


class ExponentialOptions(Options):
    """Rate of decay."""

    # Past 64 the weight at the corner of the spectrum leaves the range of float32.
    beta: float = Field(1.0, ge=0, le=64, description="Decay rate; 0 is white.")


def weight(grid: FrequencyGrid, options: ExponentialOptions) -> Array:
    """Return exp(-beta rho^2)."""
    return np.exp(-options.beta * grid.rho**2)


@hookimpl
def sagd_filters() -> Iterable[FilterPlugin]:
    """Provide `exponential`."""
    yield FilterPlugin("exponential", "w = exp(-beta rho^2)", ExponentialOptions, weight)
