"""Receipts: what two sets of images were, in hashes and counts, so that a figure can be reproduced."""

import hashlib
from importlib.metadata import version
from typing import Any

import torch
from numpy.typing import NDArray

from sagd_cli import __version__
from sagd_cli.datasets import hash_images


def describe_images(source: str, images: NDArray[Any]) -> dict[str, Any]:
    """Return path, count, shape and the sha256 of the pixels, in order."""
    return {
        "path": source,
        "count": len(images),
        "shape": list(images.shape[1:]),
        "sha256": hash_images(images),
    }


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
