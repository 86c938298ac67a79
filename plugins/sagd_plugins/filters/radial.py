"""Radial profile through given knots: monotone-cubic interpolation of (rho, w)."""

from collections.abc import Iterable

import numpy as np
import scipy
from pydantic import Field

from sagd_cli.plugin import Array, FilterPlugin, FrequencyGrid, Options, hookimpl
from sagd_plugins.filters._knots import Knots


class RadialOptions(Options):
    """Knots of the profile."""

    knots: Knots = Field(
        ((0.0, 1.0), (1.0, 1.0)), description="Pairs [rho, w]: rho increasing in [0, 1], w >= 0."
    )


def weight(grid: FrequencyGrid, options: RadialOptions) -> Array:
    """Interpolate the knots without overshoot (Fritsch-Carlson); constant beyond the outermost knots."""
    rho, w = np.array(options.knots).T
    curve = scipy.interpolate.PchipInterpolator(rho, w)
    return np.asarray(np.maximum(curve(np.clip(grid.rho, rho[0], rho[-1])), 0.0))


@hookimpl
def sagd_filters() -> Iterable[FilterPlugin]:
    """Provide `radial`."""
    yield FilterPlugin("radial", "monotone-cubic profile through knots (rho, w)", RadialOptions, weight)
