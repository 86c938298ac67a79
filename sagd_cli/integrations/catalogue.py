"""The forms a run is exported to, one record each. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sagd_cli.system.choices import Choice, choices

PACKAGED_MODEL = Path("restorer")  # the restorer of the package, where there is no run of this name


@dataclass(frozen=True)
class ExportRequest:
    """What `sagd export` is asked for.

    `run` (a folder, or PACKAGED_MODEL) is exported to `target`, which is replaced only with `force`. `ema_images`: the
    half-life of the averaged weights, in images (None: the run's first). `sampling`: keys of SamplingConfig that
    replace the run's own.
    """

    run: Path
    target: Path
    force: bool
    ema_images: int | None
    sampling: Mapping[str, Any]


# `build` names a function of (ExportRequest, Output) that returns what the command prints.
EXPORTS = choices(
    Choice(
        "diffusers", "a folder of diffusers", "sagd_cli.integrations.diffusers_export:export_to_diffusers"
    ),
    Choice("onnx", "the network as an ONNX file", "sagd_cli.integrations.onnx_export:export_to_onnx"),
)
