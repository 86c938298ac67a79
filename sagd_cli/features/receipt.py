"""Receipts: what a figure was computed from, in hashes and versions, so that it can be reproduced."""

import hashlib
from importlib.metadata import version

import torch

from sagd_cli import __version__


def hash_weights(module: torch.nn.Module) -> str:
    """Return the hash of the weights by value, which is the same for any file format."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Return the versions of the packages that compute figures."""
    return {"sagd": __version__, **{name: version(name) for name in ("torch", "torch-fidelity", "numpy")}}
