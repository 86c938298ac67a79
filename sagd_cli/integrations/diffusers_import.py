"""A model of diffusers as a run that has not been trained yet (`sagd import`), or as the start of a training."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sagd_cli.config.layers import kept_settings
from sagd_cli.config.run import DatasetConfig, RunConfig
from sagd_cli.config.validation import validate
from sagd_cli.errors import SagdError, UsageError
from sagd_cli.integrations.diffusers_folder import DiffusersModel, open_diffusers
from sagd_cli.model.classes import Classes
from sagd_cli.model.network import build_backbone
from sagd_cli.model.state import TrainingState
from sagd_cli.run import checkpoint
from sagd_cli.run.folder import open_run, write_config
from sagd_cli.run.manifest import CHECKPOINTS, described, has_run
from sagd_cli.spectral.filter import SpectralFilter
from sagd_cli.spectral.grid import Array, format_shape
from sagd_cli.system.console import Output
from sagd_cli.system.files import atomic_folder, reason_of, refuse_existing
from sagd_cli.training.initial import InitialWeights, weights_of_run
from sagd_cli.training.task import Task

UNKNOWN = DatasetConfig(name="unknown")


@dataclass(frozen=True)
class ImportedData:
    """What a run knows of the data that its model was trained on; `images_sha256` is None where it knows no image."""

    about: Mapping[str, Any]
    filter: SpectralFilter
    moments: Mapping[str, Array]
    classes: Classes | None


def import_run(
    model: DiffusersModel, run: Path, data: DatasetConfig | None, output: Output
) -> dict[str, Any]:
    """Write `model` as the run `run`, whole or not at all, and return what it is.

    `data` are the images that it was trained on: then the run has their spectra and the names of their classes. Raises
    UsageError when `run` exists or when the data are none of the model's.
    """
    refuse_existing(run, force=False)
    config = _run_config(model, data)
    known = _without_images(model, config) if data is None else _with_images(model, config)
    count = len(known.classes or ())
    if model.noise is None and model.embeddings == count + 1:  # so the last embedding is that of no class
        config = _run_config(replace(model, knows_no_class=True), data)
    weights = model.weights(count)
    with torch.random.fork_rng(devices=[]):
        network = build_backbone(config.backbone, model.shape, count)
    network.load_state_dict(weights.tensors)
    state = TrainingState(network, config.training, torch.device("cpu"))
    origin = {"source": str(model.folder), "class": model.class_name, "sha256": weights.sha256()}
    about = {**known.about, "config": config.document(), "precision": "fp32", "imported": origin}
    try:
        run.parent.mkdir(parents=True, exist_ok=True)
        with atomic_folder(run) as folder:
            checkpoint.save(folder / CHECKPOINTS, state, known.filter, known.moments, about)
            write_config(folder, config)
    except OSError as error:
        raise SagdError(f"{run} could not be written: {reason_of(error)}") from error
    for note in model.notes:
        output.note(note)
    return {
        "run": str(run),
        "class": model.class_name,
        "shape": list(model.shape),
        "parameters": sum(tensor.numel() for tensor in weights.tensors.values()),
        "schedule": config.schedule,
        "prediction": config.prediction,
        "sampler": config.sampling.sampler,
        "classes": count,
        "data": None if data is None else data.subject,
        "notes": list(model.notes),
    }


def _run_config(model: DiffusersModel, data: DatasetConfig | None = None) -> RunConfig:
    """Return the settings of the run of `model`; guidance needs a model that knows "no class"."""
    process = model.process
    sampling, training = dict(process.sampling), dict[str, Any]()
    document: dict[str, Any] = {
        "dataset": (data or UNKNOWN).document(),
        "backbone": model.backbone.document(),
        "filter": {"type": "white"},
        "class_conditional": model.embeddings > 0,
        "schedule": process.schedule,
        "prediction": process.prediction,
    }
    if model.noise is not None:
        noise = model.noise
        assert noise.family is not None
        document |= {
            "filter": noise.family.document(),
            "class_conditional": noise.classes is not None,
            "blind": noise.blind,
        }
        if process.scheduler == "DDPMScheduler":  # of a pipeline that draws by it, and not of a training
            sampling["sampler"] = "ddpm"
        sampling |= {"steps": noise.steps, "eta": noise.eta, "guidance": noise.guidance}
        training = {} if noise.drops_labels or noise.classes is None else {"label_dropout": 0.0}
    elif model.embeddings and not model.knows_no_class:
        training = {"label_dropout": 0.0}
    document |= {"training": training, "sampling": sampling}
    return validate(RunConfig, document, str(model.folder))


def _without_images(model: DiffusersModel, config: RunConfig) -> ImportedData:
    """Return what is known without images: classes have numbers, and each is drawn as often."""
    has_pixels, count = model.shape[0] in (1, 3), model.embeddings
    classes = Classes(tuple(map(str, range(count))), (1,) * count, "") if count else None
    weight = config.filter.weights(model.shape[1:])
    if model.noise is not None:
        has_pixels, classes, weight = model.noise.has_pixels, model.noise.classes, model.noise.filter
    dtype = np.uint8 if has_pixels else np.float32
    document = None if classes is None else classes.document()
    about = described(config, np.empty((0, *model.shape), dtype), document)
    return ImportedData(about | {"images_sha256": None}, weight, {}, classes)


def _with_images(model: DiffusersModel, config: RunConfig) -> ImportedData:
    """Return what the images of `config` say; raise UsageError when the model cannot have been trained on them."""
    task = Task.of(config)
    if task.size.shape != model.shape:
        raise UsageError(
            f"{config.dataset.subject} holds images of {format_shape(task.size.shape)}, and the model was trained on "
            f"{format_shape(model.shape)}",
            "Name the data as the model saw them, or leave out --data.",
        )
    count = task.size.classes
    fitting = (count, count + 1) if model.knows_no_class is None else (count,)
    if model.embeddings not in fitting:
        raise UsageError(
            f"{config.dataset.subject} has {count} classes, and the model takes {model.embeddings} labels",
            "Name the data it was trained on, or leave out --data.",
        )
    return ImportedData(task.described(), task.filter, task.moments, task.classes)


@dataclass(frozen=True)
class InitialModel:
    """A model to start a training from: the settings it brings along, and what reads its weights."""

    settings: Mapping[str, Any]
    read: Callable[[], InitialWeights]


def initial_model(path: Path, output: Output) -> InitialModel:
    """Open the run or folder of diffusers `path`; raise UsageError when it is neither, and what opening it raises."""
    if has_run(path):
        return InitialModel(
            kept_settings(open_run(path, output).config), lambda: weights_of_run(path, output)
        )
    try:
        model = open_diffusers(path)
    except UsageError as error:
        raise UsageError(f"--init {path} is no run, and {error.message}", error.hint) from None
    settings = kept_settings(_run_config(model))
    return InitialModel(settings, lambda: model.weights(model.embeddings))
