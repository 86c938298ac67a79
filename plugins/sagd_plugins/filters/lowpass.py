"""Low-pass: w = 1 below `cutoff`, `floor` from it on."""

from collections.abc import Iterable

from pydantic import Field

from sagd_cli.plugin import Array, FilterPlugin, FrequencyGrid, Options, hookimpl, window


class CutoffOptions(Options):
    """A cut-off in the filter's units, the floor beyond it and the softness of the edge."""

    cutoff: float = Field(0.5, gt=0, description="Frequency of the edge.")
    floor: float = Field(0.0, ge=0, le=1, description="Weight on the other side; > 0 keeps full support.")
    transition: float = Field(0.0, ge=0, le=1, description="Width of the raised-cosine edge.")


def weight(grid: FrequencyGrid, options: CutoffOptions) -> Array:
    """Return 1 below the cut-off and the floor from it on."""
    inside = window(0.0, options.cutoff, grid, options.transition)
    return options.floor + (1 - options.floor) * inside


@hookimpl
def sagd_filters() -> Iterable[FilterPlugin]:
    """Provide `lowpass`."""
    yield FilterPlugin("lowpass", "1 below cutoff, floor from it on", CutoffOptions, weight)
