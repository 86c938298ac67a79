"""A filter file: a family, its options and its normalisation, and the weights that they give."""

from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    AfterValidator,
    Field,
    model_validator,
)

from sagd_cli.config.validation import Frozen, complete_options
from sagd_cli.errors import ConfigError
from sagd_cli.plugin.records import FilterPlugin
from sagd_cli.plugin.registry import registry
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.filter import Normalize, SpectralFilter
from sagd_cli.spectral.grid import FrequencyGrid, Units
from sagd_cli.system.settings import Settings


class FilterSource(Settings):
    """The data a filter was fitted to."""

    data: str = Field(description="DATA as it was given.")
    images: int = Field(ge=1, description="Number of images.")
    sha256: str = Field(
        pattern="^[0-9a-f]{64}$", description="Hash of the images, as `sagd data info` gives it."
    )


class FilterConfig(Frozen):
    """A filter file.

    `omit` is rewritten to the standard spelling of the band, so that the same band always has the same hash. Raises
    ConfigError when `omit` is not a BAND.
    """

    type: str = Field("powerlaw", description="Filter family, a plug-in's name.")
    options: dict[str, Any] = Field(default_factory=dict, description="The family's options.")
    normalize: Normalize = Field("power", description="power: unit variance; none: raw; peak: max w = 1.")
    units: Units = Field("rho", description="Unit of band edges: rho, nyquist or cycles.")
    omit: Annotated[str, AfterValidator(lambda text: str(Band.parse(text)))] | None = Field(
        None,
        description="BAND where the weight is zero, in rho and cycles/pixel whatever the unit; null: none.",
    )
    source: FilterSource | None = Field(
        None, description="The data it was fitted to, for the record: no part of the filter's hash."
    )

    @model_validator(mode="after")
    def _resolve(self) -> Self:
        complete_options(self, "filter", self.type)
        return self

    def document(self) -> dict[str, Any]:
        """Return the filter as plain YAML values. Defaults are written out; `omit` and `source` only when given."""
        document = super().document()
        absent = {key for key in ("omit", "source") if document[key] is None}
        return {key: value for key, value in document.items() if key not in absent}

    def sha256(self) -> str:
        """Return the hash of the filter, without its `source`."""
        return super().sha256() if self.source is None else self.model_copy(update={"source": None}).sha256()

    def weights(self, shape: tuple[int, ...]) -> SpectralFilter:
        """Return the filter for a field of `shape` (*spatial).

        Raises ConfigError when its weights there are not valid, such as zero at every frequency.
        """
        plugin: FilterPlugin = registry().get("filter", self.type)
        grid = FrequencyGrid(shape, self.units)
        weight = plugin.load()(grid, plugin.options.model_validate(self.options))
        omitted = self.omitted(shape)
        if omitted is not None:
            weight = np.where(omitted, 0.0, SpectralFilter.from_weight(grid, weight).weight)
            if not weight.any():
                raise ConfigError(
                    f"a {self.type} filter without the band {self.omit} is zero at every frequency of a field of "
                    f"shape {shape}",
                    "Omit less.",
                )
        return SpectralFilter.from_weight(grid, weight, self.normalize)

    def omitted(self, shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
        """Return which bins of the half spectrum lie in the band `omit`, or None without such a band.

        Raises ConfigError when the band holds no frequency of a field of `shape`.
        """
        return None if self.omit is None else Band.parse(self.omit).mask(FrequencyGrid(shape))


def filter_schema() -> dict[str, Any]:
    """Return the JSON Schema of a filter file, with the options of every installed family."""
    schema = FilterConfig.model_json_schema()
    families = []
    for name in registry().names("filter"):
        options = registry().get("filter", name).options.model_json_schema()
        families.append({"properties": {"type": {"const": name}, "options": options}})
    return {**schema, "required": ["type"], "oneOf": families}
