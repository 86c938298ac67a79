"""Inception-v3 with the weights of the original FID (Heusel et al. 1706.08500), through torch-fidelity."""

import io
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from sagd_cli.errors import DataError, UsageError
from sagd_cli.plugin import FeaturePlugin, Options, hookimpl
from sagd_cli.system.files import has_suffix

if TYPE_CHECKING:
    from torch import Tensor
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase

SOURCE = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"


class InceptionOptions(Options):
    """Where the weights are; they are never downloaded."""

    weights: Path | None = Field(None, description="torch-fidelity's or pytorch-fid's .pth, or .safetensors.")


def build(options: InceptionOptions, layers: tuple[str, ...]) -> "FeatureExtractorBase":
    """Return the extractor of `layers`; raise UsageError without weights, DataError when they do not fit."""
    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    if options.weights is None:
        raise UsageError(
            "the features inception need the weights of Inception-v3, which are not part of sagd",
            f"Fetch {SOURCE} and give it with --weights FILE.",
        )
    # torch-fidelity would unpickle whatever the file holds; it gets what was read safely, as a file in memory.
    buffer = io.BytesIO()
    torch.save(read_weights(options.weights), buffer)
    buffer.seek(0)
    try:
        network = FeatureExtractorInceptionV3(
            "inception-v3-compat", list(layers), feature_extractor_weights_path=buffer
        )
    except (RuntimeError, AttributeError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{options.weights} does not hold the weights of the FID's Inception-v3 ({reason})",
            f"The official file is {SOURCE}.",
        ) from None
    return network.to(memory_format=torch.channels_last)


def read_weights(path: Path) -> "dict[str, Tensor]":
    """Read a state dict from .safetensors, or from a .pth without executing anything in it."""
    import torch
    from safetensors.torch import load_file

    try:
        if has_suffix(path, ".safetensors"):
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch remarks on old pickle protocols
            state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        return state
    except OSError as error:
        raise DataError(f"cannot read the weights {path}: {error.strerror or error}") from None
    except Exception as error:  # the unpickler raises anything on what is not a file of weights
        # Not torch's own words, which advise to load it unsafely.
        kind = type(error).__name__
        raise DataError(
            f"{path} is no file of weights that can be read safely: it holds more than tensors, or is damaged ({kind})",
            f"Fetch {SOURCE} anew.",
        ) from None


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
