"""Settings: what people type and what files hold is checked and frozen here, and nowhere else. Imports no torch."""

from sagd_cli.config.filter import FilterConfig, FilterSource, filter_schema
from sagd_cli.config.layers import differing_keys, parse_options, presets, read_preset, resolve
from sagd_cli.config.run import (
    BackboneConfig,
    DatasetConfig,
    RestorationConfig,
    RunConfig,
    SamplingConfig,
    TrainingConfig,
)
from sagd_cli.config.validation import validate

__all__ = [
    "BackboneConfig",
    "DatasetConfig",
    "FilterConfig",
    "FilterSource",
    "RestorationConfig",
    "RunConfig",
    "SamplingConfig",
    "TrainingConfig",
    "differing_keys",
    "filter_schema",
    "parse_options",
    "presets",
    "read_preset",
    "resolve",
    "validate",
]
