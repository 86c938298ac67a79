"""Receipts: what a figure was computed from, in hashes and versions, so that it can be reproduced."""

import hashlib
from importlib.metadata import version

import torch

from sagd_cli import __version__


def hash_weights(module: torch.nn.Module) -> str:
    """Hash of the weights by value: the same for any file format they came in."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Versions of what computed a figure."""
    return {"sagd": __version__, **{name: version(name) for name in ("torch", "torch-fidelity", "numpy")}}
