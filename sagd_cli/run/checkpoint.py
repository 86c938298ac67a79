"""Checkpoints that no kill can damage: hashed safetensors and JSON, renamed into place when they are whole."""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sagd_cli.errors import CheckpointError, SagdError
from sagd_cli.model.state import TrainingState
from sagd_cli.run.manifest import (
    FORMAT,
    MANIFEST,
    Checkpoint,
    describe_files,
    digest,
    path_of,
    temporary_path,
)
from sagd_cli.spectral.filter import SpectralFilter
from sagd_cli.spectral.grid import Array, FrequencyGrid
from sagd_cli.system.files import sync, write_text

DATA_FILE = "data.safetensors"


def load_filter(checkpoint: Checkpoint) -> SpectralFilter:
    """Return the filter to sample with, which belongs to the averaged weights."""
    arrays = load_arrays(checkpoint.path / "filter.safetensors")
    grid = FrequencyGrid(tuple(int(n) for n in arrays["shape"]))
    return SpectralFilter.from_weight(grid, arrays["weight"])


def load_ema(checkpoint: Checkpoint, network: nn.Module, name: str = "ema") -> nn.Module:
    """Load the averaged weights called `name` into `network` and return it.

    Raises CheckpointError when they belong to another network.
    """
    _load_into(network, load_weights(checkpoint, name), checkpoint.path)
    return network.eval().requires_grad_(False)


def load_weights(checkpoint: Checkpoint, name: str = "ema") -> dict[str, Tensor]:
    """Return the tensors of the averaged weights called `name`."""
    return read_tensors(checkpoint.path / f"{name}.safetensors")


def has_moments(checkpoint: Checkpoint) -> bool:
    """Whether the checkpoint holds the spectra of its data. Only those of early versions do not."""
    return (checkpoint.path / DATA_FILE).is_file()


def load_moments(checkpoint: Checkpoint) -> dict[str, Array]:
    """Return the moments of the training data: `power` and `power_about_mean` (half spectrum), and the `mean` image.

    Checkpoints of early versions lack the mean image, or all moments. Raises CheckpointError when all are missing.
    """
    if not has_moments(checkpoint):
        raise CheckpointError(
            f"{checkpoint.path} was written before spectra of the data were kept", "Train it again."
        )
    return dict(load_arrays(checkpoint.path / DATA_FILE))


def ema_names(half_lives: Iterable[int]) -> dict[int, str]:
    """Return the file name of each average by its half-life in images: ema for the first, ema-IMAGES for the others."""
    return {images: f"ema-{images}" if i else "ema" for i, images in enumerate(half_lives)}


def restore_state(checkpoint: Checkpoint, state: TrainingState) -> None:
    """Set the networks, averages, optimiser and step of `state` to those of the checkpoint.

    Raises CheckpointError when the checkpoint is of another network or another kind of filter, or when it lacks an
    average. So no half-life can be added to a run that has begun: there is no average to go on from.
    """
    was_learned = "profile.safetensors" in checkpoint.manifest.files
    if was_learned != (state.profile is not None):
        other = "given" if was_learned else "learned"
        raise CheckpointError(
            f"{checkpoint.path} was trained with another kind of filter and cannot go on with a {other} one",
            "Choose another --output.",
        )
    for name, module in _modules(state).items():
        if not (checkpoint.path / f"{name}.safetensors").is_file():
            raise CheckpointError(
                f"{checkpoint.path} holds no {name}.safetensors",
                "Train with the half-lives it was begun with.",
            )
        _load_into(module, read_tensors(checkpoint.path / f"{name}.safetensors"), checkpoint.path)
    _load_optimizer(state.optimizer, read_tensors(checkpoint.path / "optimizer.safetensors"))
    state.step = checkpoint.step


def size_of(state: TrainingState) -> int:
    """Return the bytes of the tensors of `state` in a checkpoint: networks, averages and AdamW's two moments."""
    networks = [tensor for module in _modules(state).values() for tensor in module.state_dict().values()]
    trained: list[Tensor] = [p for group in state.optimizer.param_groups for p in group["params"]]
    return sum(tensor.nbytes for tensor in [*networks, *trained, *trained])


def save(
    folder: Path,
    state: TrainingState,
    spectral_filter: SpectralFilter,
    moments: Mapping[str, Array],
    about: dict[str, Any],
) -> Path:
    """Write the checkpoint `folder`/step-N and return its path.

    `spectral_filter` is the filter to sample with, `moments` are those of the data, and `about` goes into the
    manifest. The data files are flushed to the disk before the manifest is written, and the manifest before the
    folder gets its name. Raises CheckpointError, and leaves nothing behind, when the disk is full or not writable.
    """
    final = path_of(folder, state.step)
    temporary, replaced = (temporary_path(folder, state.step, purpose) for purpose in ("new", "old"))
    try:
        temporary.mkdir(parents=True)
        _write_tensors(temporary, state, spectral_filter, moments)
        manifest = {"format": FORMAT, "step": state.step, **about, "files": describe_files(temporary)}
        manifest["digest"] = digest(manifest)
        write_text(temporary / MANIFEST, json.dumps(manifest, indent=1))
        sync(temporary)
        if final.exists():
            final.rename(replaced)
        temporary.rename(final)
        sync(folder)
    except (OSError, SafetensorError, SagdError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CheckpointError(
            f"the checkpoint of step {state.step} could not be written to {folder}: {reason}",
            "Checkpoints from before, if any, are intact: make room and run the same command again.",
        ) from error
    finally:
        if replaced.exists() and not final.exists():
            replaced.rename(final)
        for path in (temporary, replaced):
            shutil.rmtree(path, ignore_errors=True)
    return final


def _write_tensors(
    folder: Path, state: TrainingState, spectral_filter: SpectralFilter, moments: Mapping[str, Array]
) -> None:
    for name, module in _modules(state).items():
        save_file(_contiguous(module.state_dict()), folder / f"{name}.safetensors")
    save_file(dict(_optimizer_tensors(state.optimizer)), folder / "optimizer.safetensors")
    shape = np.array(spectral_filter.grid.shape, dtype=np.int64)
    save_arrays({"weight": spectral_filter.weight.copy(), "shape": shape}, folder / "filter.safetensors")
    save_arrays({name: values.copy() for name, values in moments.items()}, folder / DATA_FILE)
    for path in folder.iterdir():
        sync(path)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file by name."""
    with path.open("rb") as file:
        # Not by its path, which safetensors opens only in UTF-8.
        return load_file(f"/dev/fd/{file.fileno()}")


def _modules(state: TrainingState) -> dict[str, nn.Module]:
    """Return the networks, the profile, their averages and the best one, by file name."""
    names = ema_names(state.averages)
    modules = {"model": state.network} | {names[k]: ema.network for k, ema in state.averages.items()}
    modules |= {} if state.best is None else {"best": state.best}
    if state.profile is not None and state.profile_ema is not None:
        modules |= {"profile": state.profile, "profile-ema": state.profile_ema.network}
    return modules


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
    """Return `value` in the memory layout of its parameter: fused AdamW pairs the two by address, not by index."""
    return torch.empty_like(parameter, device="cpu").copy_(value) if value.shape == parameter.shape else value


def _load_into(network: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path} holds the weights of another network ({str(error).splitlines()[0]})",
            "Its network's plug-in may have changed: the manifest names the versions it was trained with.",
        ) from None
