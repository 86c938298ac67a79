"""What a pipeline knows besides its network and scheduler: the noise, in two files of its folder."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from sagd_cli.config.filter import FilterConfig
from sagd_cli.config.validation import validate
from sagd_cli.errors import DataError
from sagd_cli.model.classes import Classes
from sagd_cli.spectral.filter import SpectralFilter
from sagd_cli.spectral.grid import Array, FrequencyGrid
from sagd_cli.system.files import read_json, write_json

NOISE_JSON, NOISE_ARRAYS = "sagd_noise.json", "sagd_noise.safetensors"
LARGEST_NOISE_JSON = 10_000_000  # characters; the names of classes are in it


@dataclass(frozen=True, eq=False)
class Shaping:
    """What a pipeline knows besides network and scheduler; `write` keeps it in the pipeline's folder.

    `filter` is that of the noise, `shape` (C, H, W) that of the images. `steps`, `eta` and `guidance` are defaults of
    drawing. With `drops_labels` the network knows images without a class. A `blind` network is given x_t without the
    frequencies that carry no noise. `has_pixels`: images are on [-1, 1]. `fill` (C, H, W) is added at the frequencies
    without noise, or None. `family` says what filter it is, or None where that is not known.
    """

    filter: SpectralFilter
    shape: tuple[int, ...]
    steps: int
    eta: float = 0.0
    guidance: float = 1.0
    drops_labels: bool = False
    blind: bool = False
    has_pixels: bool = True
    classes: Classes | None = None
    fill: Array | None = None
    family: FilterConfig | None = None

    def write(self, folder: Path) -> None:
        """Write the two files of the noise into `folder`."""
        weight = np.ascontiguousarray(self.filter.weight)
        arrays = {"weight": weight} if self.fill is None else {"weight": weight, "fill": self.fill.copy()}
        save_file(arrays, folder / NOISE_ARRAYS)
        document = {
            "format": 1,
            "shape": list(self.shape),
            "weight_sha256": _hash(weight),
            "steps": self.steps,
            "eta": self.eta,
            "guidance": self.guidance,
            "drops_labels": self.drops_labels,
            "blind": self.blind,
            "has_pixels": self.has_pixels,
            "classes": None if self.classes is None else self.classes.document(),
            "filter": None if self.family is None else self.family.document(),
        }
        write_json(folder / NOISE_JSON, document)

    @classmethod
    def read(cls, folder: Path) -> "Shaping":
        """Read what `write` wrote; raise DataError when a file is missing or damaged."""
        if not (folder / NOISE_JSON).is_file() or not (folder / NOISE_ARRAYS).is_file():
            raise DataError(
                f"{folder} holds no {NOISE_JSON} and {NOISE_ARRAYS}",
                "Name a folder of `sagd export RUN --to diffusers DIR`.",
            )
        found = read_json(folder / NOISE_JSON, LARGEST_NOISE_JSON)
        if found.get("format") != 1:
            raise DataError(f"{folder / NOISE_JSON} has a format that this version does not know")
        try:
            arrays = load_file(folder / NOISE_ARRAYS)
            sound = _hash(arrays["weight"]) == found["weight_sha256"]
            shape = tuple(int(side) for side in found["shape"])
            classes = None if found["classes"] is None else Classes.read(found["classes"])
            settings = {
                key: found[key] for key in ("steps", "eta", "guidance", "drops_labels", "blind", "has_pixels")
            }
            if found.get("filter") is not None:
                settings["family"] = validate(FilterConfig, found["filter"], NOISE_JSON)
        except Exception as error:  # safetensors has errors of its own
            raise DataError(f"{folder} holds a damaged {NOISE_JSON} or {NOISE_ARRAYS}: {error}") from error
        if not sound:
            raise DataError(
                f"the weights in {folder / NOISE_ARRAYS} are not those that {NOISE_JSON} describes"
            )
        weights = SpectralFilter.from_weight(FrequencyGrid(shape[1:]), arrays["weight"])
        return cls(weights, shape, **settings, classes=classes, fill=arrays.get("fill"))


def holds_noise(folder: Path) -> bool:
    """Whether a folder has the noise of an exported run, or a part of it."""
    return any((folder / name).exists() for name in (NOISE_JSON, NOISE_ARRAYS))


def _hash(weight: Array) -> str:
    return hashlib.sha256(weight.astype("<f8").tobytes()).hexdigest()
