"""White noise: w = 1, the isotropic Gaussian of standard diffusion."""

from collections.abc import Iterable

import numpy as np

from sagd_cli.plugin import Array, FilterPlugin, FrequencyGrid, Options, hookimpl


def weight(grid: FrequencyGrid, options: Options) -> Array:
    """Return w = 1."""
    return np.ones(grid.half_shape)


@hookimpl
def sagd_filters() -> Iterable[FilterPlugin]:
    """Provide `white`."""
    yield FilterPlugin("white", "w = 1: standard diffusion", Options, weight)
