"""plw-SAGD: w = (r + delta)^alpha, r in cycles/sample (arXiv 2510.09660, power-law weighting)."""

from collections.abc import Iterable

from pydantic import Field

from sagd_cli.plugin import Array, FilterPlugin, FrequencyGrid, Options, hookimpl


class PowerLawOptions(Options):
    """Exponent and offset."""

    alpha: float = Field(-0.06, ge=-16, le=16, description="Exponent: < 0 favours low frequencies.")
    delta: float = Field(1e-2, gt=0, le=1, description="Offset in cycles/sample that keeps DC finite.")


def weight(grid: FrequencyGrid, options: PowerLawOptions) -> Array:
    """Return (r + delta)^alpha."""
    return (grid.radius + options.delta) ** options.alpha


@hookimpl
def sagd_filters() -> Iterable[FilterPlugin]:
    """Provide `powerlaw`."""
    yield FilterPlugin(
        "powerlaw", "w = (r + delta)^alpha, r in cycles/sample (plw-SAGD)", PowerLawOptions, weight
    )
