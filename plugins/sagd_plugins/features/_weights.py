"""Weights of networks that others trained: read from files that people name, never downloaded, nothing executed."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from sagd_cli.errors import DataError, UsageError
from sagd_cli.system.files import has_suffix

if TYPE_CHECKING:
    from torch import Tensor


def read_weights(path: Path, source: str) -> "dict[str, Tensor]":
    """Read a state dict from .safetensors, or from a .pth without executing anything in it.

    `source` is where the right file is. Raises DataError when `path` cannot be read, or holds anything but tensors.
    """
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
            f"Fetch {source} anew.",
        ) from None


def given_weights(path: Path | None, features: str, network: str, source: str) -> Path:
    """Return `path`; raise UsageError, which says where the weights of `network` are, when it is None."""
    if path is None:
        raise UsageError(
            f"the features {features} need the weights of {network}, which are not part of sagd",
            f"Fetch {source} and give it with --weights FILE.",
        )
    return path


def other_weights(path: Path, network: str, error: Exception, source: str) -> DataError:
    """Return the error for a file that holds the weights of something else than `network`."""
    reason = (str(error).splitlines() or [""])[0]
    return DataError(
        f"{path} does not hold the weights of {network} ({reason})", f"The official file is {source}."
    )
