"""Notch: w = 1 except in discs about given frequencies and their mirrors, or the inverse."""

from collections.abc import Iterable

import numpy as np
from pydantic import Field, field_validator

from sagd_cli.errors import ConfigError
from sagd_cli.plugin import Array, FilterPlugin, FrequencyGrid, Options, disc, hookimpl
from sagd_cli.spectral.region import check_center


class NotchOptions(Options):
    """Where the discs are, in cycles/sample whatever the filter's units."""

    centers: tuple[tuple[float, ...], ...] = Field(
        ((0.25,),),
        min_length=1,
        max_length=1000,
        description="Frequencies [f_y, f_x] in cycles/sample, mirrors implied; axes not named are at 0.",
    )
    radius: float = Field(0.02, gt=0, le=0.5, description="Radius of the discs in cycles/sample.")
    floor: float = Field(
        0.0, ge=0, le=1, description="Weight where noise is left out; > 0 keeps full support."
    )
    transition: float = Field(
        0.0, ge=0, le=0.5, description="Width of the raised-cosine edge, cycles/sample."
    )
    invert: bool = Field(False, description="Noise in the discs only.")

    @field_validator("centers")
    @classmethod
    def _inside(cls, centers: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], ...]:
        for center in centers:
            try:
                check_center(center)
            except ConfigError as error:
                raise ValueError(error.message) from None
        return centers


def weight(grid: FrequencyGrid, options: NotchOptions) -> Array:
    """Return the floor in the discs and 1 elsewhere, or the inverse."""
    discs = [disc(center, options.radius, grid, options.transition) for center in options.centers]
    inside = np.maximum.reduce(discs)
    return np.asarray(options.floor + (1 - options.floor) * (inside if options.invert else 1 - inside))


@hookimpl
def sagd_filters() -> Iterable[FilterPlugin]:
    """Provide `notch`."""
    yield FilterPlugin(
        "notch", "1 except discs about given frequencies, or the inverse", NotchOptions, weight
    )
