"""What plug-in authors import: the hook marker, the records that hooks yield, and the types they build.

A plug-in is a module with hook implementations, named by an entry point of the group `sagd`:

    from sagd_cli.plugin import FilterPlugin, FrequencyGrid, Options, hookimpl
"""

from sagd_cli.plugin.records import (
    BackbonePlugin,
    DatasetPlugin,
    FeaturePlugin,
    FilterPlugin,
    Images,
    ImageSet,
    LazyImageSet,
    Options,
    Split,
)
from sagd_cli.plugin.spec import hookimpl
from sagd_cli.spectral.grid import Array, FrequencyGrid
from sagd_cli.spectral.region import disc, indicator, strip, window

__all__ = [
    "Array",
    "BackbonePlugin",
    "DatasetPlugin",
    "FeaturePlugin",
    "FilterPlugin",
    "FrequencyGrid",
    "ImageSet",
    "Images",
    "LazyImageSet",
    "Options",
    "Split",
    "disc",
    "hookimpl",
    "indicator",
    "strip",
    "window",
]
