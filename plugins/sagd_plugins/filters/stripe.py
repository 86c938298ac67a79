"""Stripe: w = 1 except on a strip along one frequency axis (scan lines, banding), or the inverse."""

from collections.abc import Iterable

from pydantic import Field

from sagd_cli.plugin import Array, FilterPlugin, FrequencyGrid, Options, hookimpl, strip


class StripeOptions(Options):
    """Which axis, how wide a strip, and what is spared."""

    axis: int = Field(
        0,
        ge=-3,
        le=2,
        description="Axis along which the stripes alternate: 0 for horizontal ones (scan lines), 1 for vertical.",
    )
    width: float = Field(0.01, ge=0, le=1, description="Full width in cycles/sample; 0 is the axis itself.")
    guard: float = Field(0.05, ge=0, description="Radius, in the filter's units, at which the strip begins.")
    floor: float = Field(
        0.0, ge=0, le=1, description="Weight where noise is left out; > 0 keeps full support."
    )
    transition: float = Field(0.0, ge=0, le=0.5, description="Width of the raised-cosine edges.")
    invert: bool = Field(False, description="Noise on the strip only.")


def weight(grid: FrequencyGrid, options: StripeOptions) -> Array:
    """Return the floor on the strip and 1 elsewhere, or the inverse."""
    inside = strip(options.axis, options.width, options.guard, grid, options.transition)
    return options.floor + (1 - options.floor) * (inside if options.invert else 1 - inside)


@hookimpl
def sagd_filters() -> Iterable[FilterPlugin]:
    """Provide `stripe`."""
    yield FilterPlugin("stripe", "1 except a strip along one axis, or the inverse", StripeOptions, weight)
