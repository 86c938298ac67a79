"""Learned: a radial profile whose knots are trained together with the network (docs/theory.md, section 8)."""

from collections.abc import Iterable

import numpy as np
from pydantic import Field

from sagd_cli.plugin import Array, FilterPlugin, FrequencyGrid, Options, hookimpl
from sagd_plugins.filters._knots import PositiveKnots

# The knots are closer together at low frequencies, where spectra are steep.
WHITE = tuple((float((k / 11) ** 2), 1.0) for k in range(12))


class LearnedOptions(Options):
    """The knots at the start of a training, or as one left them."""

    knots: PositiveKnots = Field(WHITE, description="Pairs [rho, w]: rho increasing in [0, 1], w > 0.")
    smoothness: float = Field(1e-3, ge=0, description="Weight of the penalty on bends of log w.")


def basis(grid: FrequencyGrid, options: LearnedOptions) -> Array:
    """Return K hat functions over rho (*half_shape, K), one for each knot: 1 at its knot, 0 at the others."""
    rho = np.array(options.knots)[:, 0]
    return np.stack([np.interp(grid.rho, rho, hat) for hat in np.eye(len(rho))], axis=-1)


def weight(grid: FrequencyGrid, options: LearnedOptions) -> Array:
    """Interpolate the knots linearly in rho; constant beyond the outermost ones."""
    return np.asarray(basis(grid, options) @ np.array(options.knots)[:, 1])


@hookimpl
def sagd_filters() -> Iterable[FilterPlugin]:
    """Provide `learned`."""
    yield FilterPlugin(
        "learned", "radial knots (rho, w) that training moves", LearnedOptions, weight, basis=basis
    )
