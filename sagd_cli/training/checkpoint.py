"""Checkpoints that no kill can tear: safetensors and JSON, hashed, renamed into place when whole."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sagd_cli.errors import CheckpointError
from sagd_cli.files import sync, write_text
from sagd_cli.spectral.filter import SpectralFilter
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.training.loop import TrainingState

FORMAT = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose hashes hold."""

    path: Path
    manifest: dict[str, Any]

    @property
    def step(self) -> int:
        """Optimiser steps done."""
        return int(self.manifest["step"])

    @property
    def filter_sha256(self) -> str:
        """Hash of the filter it was trained with."""
        return str(self.manifest["filter_sha256"])

    def load_filter(self) -> SpectralFilter:
        """Return the filter the weights were trained with."""
        arrays = load_arrays(self.path / "filter.safetensors")
        grid = FrequencyGrid(tuple(int(n) for n in arrays["shape"]))
        return SpectralFilter.from_weight(grid, arrays["weight"])

    def load_ema(self, network: nn.Module) -> nn.Module:
        """Load the averaged weights into `network`; raise CheckpointError when they belong to another."""
        _load_into(network, load_file(self.path / "ema.safetensors"), self.path)
        return network.eval().requires_grad_(False)

    def restore(self, state: TrainingState) -> None:
        """Set network, average, optimiser and step as they were saved."""
        _load_into(state.network, load_file(self.path / "model.safetensors"), self.path)
        _load_into(state.ema.network, load_file(self.path / "ema.safetensors"), self.path)
        _load_optimizer(state.optimizer, load_file(self.path / "optimizer.safetensors"))
        state.step = self.step


def save(folder: Path, state: TrainingState, spectral_filter: SpectralFilter, about: dict[str, Any]) -> Path:
    """Write checkpoints/step-N under `folder`; `about` goes into the manifest.

    The files are on the disk before the manifest, the manifest before the name; raises CheckpointError, leaving
    nothing behind, when the disk is full or not writable.
    """
    final = folder / f"step-{state.step:08d}"
    temporary = folder / f".tmp-{state.step:08d}-{os.getpid()}"
    try:
        temporary.mkdir(parents=True)
        _write_tensors(temporary, state, spectral_filter)
        manifest = {"format": FORMAT, "step": state.step, **about, "files": _describe(temporary)}
        manifest["digest"] = _digest(manifest)
        write_text(temporary / MANIFEST, json.dumps(manifest, indent=1))
        sync(temporary)
        if final.exists():  # a damaged one of this step, or load would have resumed past it
            shutil.rmtree(final)
        temporary.rename(final)
        sync(folder)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CheckpointError(
            f"the checkpoint of step {state.step} could not be written to {folder}: {reason}",
            "The earlier checkpoints are intact: make room and run the same command again.",
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return final


def prune(folder: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints, and what dead processes left half written."""
    for path in sorted(folder.glob("step-*"))[:-keep]:
        shutil.rmtree(path, ignore_errors=True)
    for path in folder.glob(".tmp-*"):
        shutil.rmtree(path, ignore_errors=True)


def set_aside_newer(folder: Path, step: int) -> None:
    """Rename the checkpoints past `step`, which were found damaged: they no longer count, and nothing is lost."""
    for path in folder.glob("step-*"):
        if int(path.name.removeprefix("step-")) > step:
            path.rename(path.with_name(f"damaged-{path.name}-{os.getpid()}"))


def newest(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """Return the newest checkpoint whose hashes hold, and why each newer one was skipped."""
    skipped: list[str] = []
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            return Checkpoint(path, _verified(path)), skipped
        except CheckpointError as error:
            skipped.append(error.message)
    return None, skipped


def _verified(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        if manifest["format"] > FORMAT:
            raise CheckpointError(f"{path} was written by a newer version of sagd")
        recorded = manifest["files"]
        found = _describe(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged: its manifest cannot be read ({error})") from None
    for name in sorted({*recorded, *found}):
        if recorded.get(name) != found.get(name):
            raise CheckpointError(f"{path} is damaged: {name} does not match its recorded hash")
    if manifest.get("digest") != _digest(manifest):
        raise CheckpointError(f"{path} is damaged: the manifest does not match its own hash")
    return dict(manifest)


def _digest(manifest: dict[str, Any]) -> str:
    body = {key: value for key, value in manifest.items() if key != "digest"}
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _describe(folder: Path) -> dict[str, dict[str, Any]]:
    return {
        path.name: {"size": path.stat().st_size, "sha256": _sha256(path)}
        for path in sorted(folder.glob("*.safetensors"))
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_tensors(folder: Path, state: TrainingState, spectral_filter: SpectralFilter) -> None:
    save_file(_contiguous(state.network.state_dict()), folder / "model.safetensors")
    save_file(_contiguous(state.ema.network.state_dict()), folder / "ema.safetensors")
    save_file(dict(_optimizer_tensors(state.optimizer)), folder / "optimizer.safetensors")
    shape = np.array(spectral_filter.grid.shape, dtype=np.int64)
    save_arrays({"weight": spectral_filter.weight.copy(), "shape": shape}, folder / "filter.safetensors")
    for path in folder.iterdir():
        sync(path)


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    for index, slots in optimizer.state_dict()["state"].items():
        for name, value in slots.items():
            yield f"{index}.{name}", torch.as_tensor(value).contiguous().cpu()


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    document = optimizer.state_dict()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    slots: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        slots.setdefault(int(index), {})[name] = _laid_out_like(value, parameters[int(index)])
    optimizer.load_state_dict({**document, "state": slots})


def _laid_out_like(value: Tensor, parameter: Tensor) -> Tensor:
    """Give `value` the memory layout of its parameter: fused AdamW pairs the two by address, not by index."""
    return torch.empty_like(parameter, device="cpu").copy_(value) if value.shape == parameter.shape else value


def _load_into(network: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path} holds the weights of another network ({str(error).splitlines()[0]})",
            "Its network's plug-in may have changed: the manifest names the versions it was trained with.",
        ) from None
