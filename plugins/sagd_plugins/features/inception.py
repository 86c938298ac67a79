"""Inception-v3 with the weights of the original FID (Heusel et al. 1706.08500), through torch-fidelity."""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from sagd_cli.plugin import FeaturePlugin, Options, hookimpl
from sagd_plugins.features._weights import given_weights, other_weights, read_weights

if TYPE_CHECKING:
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase

SOURCE = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"


class InceptionOptions(Options):
    """Where the weights are; they are never downloaded."""

    weights: Path | None = Field(None, description="torch-fidelity's or pytorch-fid's .pth, or .safetensors.")


def build(options: InceptionOptions, layers: tuple[str, ...]) -> "FeatureExtractorBase":
    """Return the extractor of `layers`; raise UsageError without weights, DataError when they do not fit."""
    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    path = given_weights(options.weights, "inception", "Inception-v3", SOURCE)
    # torch-fidelity would unpickle whatever the file holds; it gets what was read safely, as a file in memory.
    buffer = io.BytesIO()
    torch.save(read_weights(path, SOURCE), buffer)
    buffer.seek(0)
    try:
        network = FeatureExtractorInceptionV3(
            "inception-v3-compat", list(layers), feature_extractor_weights_path=buffer
        )
    except (RuntimeError, AttributeError, TypeError) as error:
        raise other_weights(path, "the FID's Inception-v3", error, SOURCE) from None
    return network.to(memory_format=torch.channels_last)


@hookimpl
def sagd_features() -> Iterable[FeaturePlugin]:
    """Provide `inception`."""
    yield FeaturePlugin(
        "inception",
        "Inception-v3 of the original FID; needs --weights FILE",
        InceptionOptions,
        build,
        layers=("2048", "64", "192", "768"),
        channels=3,
        distance="FID",
        logits="logits_unbiased",
    )
