"""What `sagd export` says beside a model of diffusers: its noise, its classes and how it is sampled."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field
from safetensors import SafetensorError
from safetensors.numpy import load_file

from sagd_cli.config.documents import Document, check_document
from sagd_cli.config.filter import FilterConfig
from sagd_cli.config.validation import validate
from sagd_cli.errors import ConfigError, DataError
from sagd_cli.model.classes import Classes
from sagd_cli.spectral.filter import SpectralFilter
from sagd_cli.spectral.grid import FrequencyGrid, format_shape
from sagd_cli.system.files import read_json

NOISE_JSON, NOISE_WEIGHTS = "sagd_noise.json", "sagd_noise.safetensors"
LARGEST_NOISE_JSON = 2**24
SAME_WEIGHT = 1e-6  # relative


class ClassesRecord(Document):
    """Names and counts of the classes."""

    names: list[str]
    counts: list[int]
    sha256: str


class NoiseRecord(Document):
    """The file. `filter` is a filter file, `label_dropout` a setting of the run; both are absent in early ones."""

    format: Literal[1]
    shape: list[int]
    steps: int
    eta: float
    guidance: float
    blind: bool
    has_pixels: bool
    classes: ClassesRecord | None
    filter: dict[str, Any] = Field(default_factory=lambda: {"type": "white"})
    label_dropout: float | None = None


@dataclass(frozen=True)
class ExportedNoise:
    """The filter of an exported run, its weights, and what else the file says.

    `is_filled`: the pipeline adds content at the frequencies without noise.
    """

    filter: FilterConfig
    weight: SpectralFilter
    record: NoiseRecord
    is_filled: bool

    @property
    def classes(self) -> Classes | None:
        """The classes of the run, or None without classes."""
        return None if self.record.classes is None else Classes.read(self.record.classes.model_dump())


def read_noise(folder: Path, shape: tuple[int, ...]) -> ExportedNoise | None:
    """Return what is beside the model in `folder`, whose images are of `shape` (C, H, W); None where nothing is.

    Raises DataError when it is damaged, or when its weights are not those of its filter.
    """
    path, weights = folder / NOISE_JSON, folder / NOISE_WEIGHTS
    if not path.is_file():
        return None
    hint = "Export the run again."
    document = read_json(path, LARGEST_NOISE_JSON)
    check_document(NoiseRecord, document, str(path), "noise of an exported run", hint)
    record = NoiseRecord.model_validate(document)
    if tuple(record.shape) != shape:
        raise DataError(
            f"{path} is for images of {format_shape(record.shape)}, not {format_shape(shape)}", hint
        )
    try:
        with weights.open("rb") as file:  # not by its path, which safetensors opens only in UTF-8
            arrays = load_file(f"/dev/fd/{file.fileno()}")
        weight = SpectralFilter.from_weight(FrequencyGrid(shape[1:]), arrays["weight"])
    except (OSError, KeyError, SafetensorError, ConfigError) as error:
        raise DataError(f"{weights} holds no weights of a filter: {error}", hint) from None
    config = validate(FilterConfig, record.filter, str(path))
    if not np.allclose(weight.weight, config.weights(shape[1:]).weight, rtol=SAME_WEIGHT, atol=0):
        raise DataError(f"{weights} holds other weights than those of the filter in {path.name}", hint)
    return ExportedNoise(config, weight, record, "fill" in arrays)
