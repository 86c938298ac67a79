"""Band-stop: w = 1 outside [low, high), `floor` inside."""

from collections.abc import Iterable

from sagd_cli.plugin import Array, FilterPlugin, FrequencyGrid, hookimpl, window
from sagd_plugins.filters.bandpass import BandOptions


def weight(grid: FrequencyGrid, options: BandOptions) -> Array:
    """Return the floor inside the band and 1 outside."""
    inside = window(options.low, options.high, grid, options.transition)
    return 1 - (1 - options.floor) * inside


@hookimpl
def sagd_filters() -> Iterable[FilterPlugin]:
    """Provide `bandstop`."""
    yield FilterPlugin("bandstop", "1 outside [low, high), floor inside", BandOptions, weight)
