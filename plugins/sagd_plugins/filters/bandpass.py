"""Band-pass: w = 1 inside [low, high), `floor` outside."""

from collections.abc import Iterable

from pydantic import Field

from sagd_cli.plugin import Array, FilterPlugin, FrequencyGrid, Options, hookimpl, window


class BandOptions(Options):
    """A band in the filter's units, its floor and the softness of its edges."""

    low: float = Field(0.25, ge=0, description="Lower edge, included.")
    high: float = Field(0.5, gt=0, description="Upper edge, excluded unless it ends the spectrum.")
    floor: float = Field(0.0, ge=0, le=1, description="Weight elsewhere; > 0 keeps full support.")
    transition: float = Field(0.0, ge=0, le=1, description="Width of the raised-cosine edges.")


def weight(grid: FrequencyGrid, options: BandOptions) -> Array:
    """Return 1 inside the band and the floor outside."""
    inside = window(options.low, options.high, grid, options.transition)
    return options.floor + (1 - options.floor) * inside


@hookimpl
def sagd_filters() -> Iterable[FilterPlugin]:
    """Provide `bandpass`."""
    yield FilterPlugin("bandpass", "1 inside [low, high), floor outside", BandOptions, weight)
