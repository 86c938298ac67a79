"""bpm-SAGD: gamma_low on one band plus gamma_high on another (arXiv 2510.09660, band-pass mixture)."""

from collections.abc import Iterable
from typing import Self

from pydantic import Field, model_validator

from sagd_cli.plugin import Array, FilterPlugin, FrequencyGrid, Options, hookimpl, indicator


class TwoBandOptions(Options):
    """Two bands in the filter's units and their weights."""

    gamma_low: float = Field(0.5, ge=0, le=1, description="Weight of the low band.")
    gamma_high: float | None = Field(
        None, ge=0, description="Weight of the high band; 1 - gamma_low if absent."
    )
    a_low: float = Field(0.0, ge=0, description="Lower edge of the low band.")
    b_low: float = Field(0.5, gt=0, description="Upper edge of the low band.")
    a_high: float = Field(0.5, ge=0, description="Lower edge of the high band.")
    b_high: float = Field(1.0, gt=0, description="Upper edge of the high band.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.gamma_high is None:
            object.__setattr__(self, "gamma_high", 1 - self.gamma_low)
        return self


def weight(grid: FrequencyGrid, options: TwoBandOptions) -> Array:
    """Return gamma_low on [a_low, b_low) + gamma_high on [a_high, b_high)."""
    low = indicator(options.a_low, options.b_low, grid)
    high = indicator(options.a_high, options.b_high, grid)
    return options.gamma_low * low + (options.gamma_high or 0.0) * high


@hookimpl
def sagd_filters() -> Iterable[FilterPlugin]:
    """Provide `twoband`."""
    yield FilterPlugin(
        "twoband", "gamma_low on a low band + gamma_high on a high one (bpm-SAGD)", TwoBandOptions, weight
    )
