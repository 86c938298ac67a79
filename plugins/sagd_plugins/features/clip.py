"""The images' encoder of CLIP (Radford et al. 2103.00020), through torch-fidelity."""

import hashlib
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZipFile, is_zipfile

from pydantic import Field

from sagd_cli.errors import DataError
from sagd_cli.plugin import FeaturePlugin, Options, hookimpl
from sagd_plugins.features._weights import given_weights, other_weights, read_weights

if TYPE_CHECKING:
    from torch import Tensor
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase

NETWORK = "CLIP"


class ClipOptions(Options):
    """Where the weights are; they are never downloaded."""

    weights: Path | None = Field(
        None, description="OpenAI's own .pt, or a .safetensors or .pth of weights under OpenAI's names."
    )


def build(options: ClipOptions, layers: tuple[str, ...]) -> "FeatureExtractorBase":
    """Return the extractor; raise UsageError without weights, DataError when they do not fit."""
    import torch
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase
    from torch_fidelity.feature_extractor_clip import MODEL_URLS, FeatureExtractorCLIP, build_model

    source = MODEL_URLS["clip-vit-b-32"]

    class Features(FeatureExtractorCLIP):
        """torch-fidelity's extractor, of weights that were read; its own reads a file."""

        def __init__(self, state: "dict[str, Tensor]") -> None:
            FeatureExtractorBase.__init__(self, NETWORK, list(layers))
            self.feature_extractor_internal_dtype = torch.float32
            self.model = build_model(state, torch.float32)
            self.resolution = self.model.visual.input_resolution

    path = given_weights(options.weights, "clip", NETWORK, source)
    state = _official(path) or read_weights(path, source)
    try:
        return Features(dict(state))
    except (RuntimeError, KeyError, AttributeError, TypeError, ValueError, ZeroDivisionError) as error:
        raise other_weights(path, NETWORK, error, source) from None


def _official(path: Path) -> "dict[str, Tensor] | None":
    """Return the weights of OpenAI's own file, or None for another kind of file.

    It is a program of TorchScript. So it is loaded only when it is, by its hash, one of those that OpenAI published.
    Raises DataError on another program.
    """
    import torch
    from torch_fidelity.feature_extractor_clip import MODEL_METADATA

    if not _is_program(path):
        return None
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found not in {known["hash"] for known in MODEL_METADATA.values()}:
        raise DataError(
            f"{path} is a program of TorchScript, and none of those that OpenAI published",
            "Give OpenAI's own file, or its weights as .safetensors.",
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit")
        state: dict[str, Tensor] = torch.jit.load(path, map_location="cpu").state_dict()  # type: ignore[no-untyped-call]
    return state


def _is_program(path: Path) -> bool:
    try:
        if not is_zipfile(path):
            return False
        with ZipFile(path) as archive:
            return any(name.endswith("constants.pkl") for name in archive.namelist())
    except OSError:
        return False  # reading the weights says what is wrong


@hookimpl
def sagd_features() -> Iterable[FeaturePlugin]:
    """Provide `clip`."""
    yield FeaturePlugin(
        "clip",
        "CLIP's encoder of images; needs --weights FILE",
        ClipOptions,
        build,
        layers=("clip",),
        channels=3,
        distance="FD-CLIP",
        preprocessing="bilinear, as in TensorFlow 1, to the network's size, no crop; mean and deviation of CLIP",
    )
