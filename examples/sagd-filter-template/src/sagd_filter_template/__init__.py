"""Ring: most noise around one frequency, w = floor + exp(-((r - center) / width)^2 / 2)."""

from collections.abc import Iterable

import numpy as np
from pydantic import Field

from sagd_cli.plugin import Array, FilterPlugin, FrequencyGrid, Options, hookimpl


class RingOptions(Options):
    """Where the ring is, how wide it is, and the weight far from it."""

    center: float = Field(0.5, ge=0, description="Radius of the ring, in the filter's units.")
    width: float = Field(
        0.1, ge=1e-3, description="Standard deviation of its profile, in the filter's units."
    )
    floor: float = Field(0.05, ge=0, le=1, description="Weight far from the ring; > 0 keeps full support.")


def weight(grid: FrequencyGrid, options: RingOptions) -> Array:
    """Return the weight on the half spectrum, an array of shape `grid.half_shape`."""
    distance = (grid.radial - options.center) / options.width
    return options.floor + np.exp(-(distance**2) / 2)


@hookimpl
def sagd_filters() -> Iterable[FilterPlugin]:
    """Provide `ring`."""
    yield FilterPlugin("ring", "Gaussian ring around center, over a floor", RingOptions, weight)
