"""High-pass: w = 1 from `cutoff` on, `floor` below it."""

from collections.abc import Iterable

from sagd_cli.plugin import Array, FilterPlugin, FrequencyGrid, hookimpl, window
from sagd_plugins.filters.lowpass import CutoffOptions


def weight(grid: FrequencyGrid, options: CutoffOptions) -> Array:
    """Return the floor below the cut-off and 1 from it on."""
    inside = window(options.cutoff, grid.radial_max, grid, options.transition)
    return options.floor + (1 - options.floor) * inside


@hookimpl
def sagd_filters() -> Iterable[FilterPlugin]:
    """Provide `highpass`."""
    yield FilterPlugin("highpass", "1 from cutoff on, floor below it", CutoffOptions, weight)
