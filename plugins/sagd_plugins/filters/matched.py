"""Matched: w^2 proportional to S^kappa. S is the radial power spectrum of a data set; `sagd filter fit` writes it.

kappa = 1 gives every frequency the same signal-to-noise ratio (Falck et al. 2505.11278), kappa = 0 is white.
"""

from collections.abc import Iterable

import numpy as np
from pydantic import Field

from sagd_cli.plugin import Array, FilterPlugin, FrequencyGrid, Options, hookimpl
from sagd_plugins.filters._knots import PositiveKnots


class MatchedOptions(Options):
    """The spectrum and how far to follow it."""

    kappa: float = Field(
        1.0, ge=-4, le=4, description="0: white; 1: equal signal-to-noise at all frequencies."
    )
    power: PositiveKnots = Field(
        ((0.0, 1.0), (1.0, 1.0)), description="Pairs [rho, S]: rho increasing in [0, 1], S > 0."
    )


def weight(grid: FrequencyGrid, options: MatchedOptions) -> Array:
    """Return S^(kappa/2) relative to the largest S, log S linear in log rho between the pairs."""
    rho, power = np.array(options.power).T
    first = rho[rho > 0][0]

    def position(at: Array) -> Array:
        """Return a coordinate that is linear in rho up to the first pair off DC, and linear in log rho from there."""
        return np.asarray(np.where(at < first, at / first, 1 + np.log(np.maximum(at, first) / first)))

    log_power = np.interp(position(grid.rho), position(rho), np.log(power))
    return np.asarray(np.exp(options.kappa / 2 * (log_power - np.log(power).max())))


@hookimpl
def sagd_filters() -> Iterable[FilterPlugin]:
    """Provide `matched`."""
    yield FilterPlugin("matched", "w^2 proportional to a spectrum S^kappa", MatchedOptions, weight)
