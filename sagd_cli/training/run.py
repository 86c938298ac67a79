"""A run folder: its configuration, lock, metrics and checkpoints; training into it and opening it."""

import fcntl
import platform
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sagd_cli import __version__
from sagd_cli.config import (
    FilterConfig,
    RunConfig,
    differing_keys,
    validate,
)
from sagd_cli.console import Output
from sagd_cli.datasets import hash_images
from sagd_cli.diffusion.loss import DiffusionLoss
from sagd_cli.errors import CheckpointError, DivergedError, Interrupted, SagdError, UsageError
from sagd_cli.files import write_text
from sagd_cli.plugin.registry import registry
from sagd_cli.signals import stop_on_signal
from sagd_cli.training import checkpoint, store
from sagd_cli.training.backbones import build_backbone
from sagd_cli.training.classes import Classes
from sagd_cli.training.distributed import World, joined, own_device
from sagd_cli.training.estimate import refuse_too_large
from sagd_cli.training.generator import Model
from sagd_cli.training.loop import Callbacks, Record, TrainingState, fit
from sagd_cli.training.metrics import METRICS, MetricsLog, summary_writer
from sagd_cli.training.sheets import ContactSheets
from sagd_cli.training.store import CHECKPOINTS, CONFIG, Checkpoint, open_checkpoint, sampled_filter
from sagd_cli.training.task import Task
from sagd_cli.yaml_files import dump_yaml, read_mapping

LOCK = "run.lock"


@dataclass(frozen=True)
class Run:
    """A trained run, opened for reading: its configuration and its newest sound checkpoint."""

    path: Path
    config: RunConfig
    checkpoint: Checkpoint
    shape: tuple[int, ...]

    @property
    def filter(self) -> FilterConfig:
        """The filter to sample with: the one that training left, where it was learned."""
        return sampled_filter(self.checkpoint)

    @property
    def dtype(self) -> np.dtype:
        """The type of its data: uint8, also of early runs, which do not say so, or a float."""
        name: str = self.checkpoint.manifest.get("dtype", "uint8")
        return np.dtype(name)

    @property
    def classes(self) -> Classes | None:
        """The classes it was trained on, if it was."""
        document = self.checkpoint.manifest.get("classes")
        return None if document is None else Classes.read(document)

    def model(self, device: torch.device, ema_images: int | None = None) -> Model:
        """Return what images are drawn with, on `device`: the average of this half-life, the first by default.

        Raises UsageError, with those there are, when the run keeps no such average.
        """
        half_lives = self.config.training.ema_half_life_images
        ema_images = half_lives[0] if ema_images is None else ema_images
        if ema_images not in half_lives:
            kept = ", ".join(map(str, half_lives))
            raise UsageError(
                f"{self.path} keeps no average of a half-life of {ema_images} images", f"There are: {kept}."
            )
        network = build_backbone(self.config.backbone, self.shape, len(self.classes or ()))
        name = checkpoint.ema_names(half_lives)[ema_images]
        # Early runs did not keep the spectra of their data, which the EDM predictions need.
        needed = self.config.prediction.startswith("edm") or checkpoint.has_moments(self.checkpoint)
        return Model(
            str(self.path),
            self.config,
            checkpoint.load_ema(self.checkpoint, network, name).to(device),
            ema_images,
            checkpoint.load_filter(self.checkpoint),
            self.shape,
            self.dtype,
            self.classes,
            checkpoint.load_moments(self.checkpoint) if needed else {},
        )


def open_run(path: Path, output: Output) -> Run:
    """Open a run with the configuration it was trained with.

    Raises UsageError when it is none, or when its config.yaml no longer says what was trained; CheckpointError
    when nothing in it is sound.
    """
    found = open_checkpoint(path, output)
    written = validate(RunConfig, read_mapping(path / CONFIG), str(path / CONFIG))
    check_filter(written.filter.sha256(), found.filter_sha256, f"{path / CONFIG} names")
    _refuse_other_settings(path, written, _trained_config(found))
    return Run(path, written, found, tuple(found.manifest["shape"]))


def _refuse_other_settings(path: Path, given: RunConfig, trained: RunConfig) -> None:
    """Raise UsageError that names the settings of training that differ."""
    differing = _differing_settings(given, trained)
    if differing:
        raise UsageError(
            f"{path} was trained with other settings: {', '.join(differing)} differ",
            "Give the run's own settings, as they were, choose another --output, or say --allow-config-change.",
        )


def _differing_settings(given: RunConfig, trained: RunConfig) -> list[str]:
    """Keys of the settings of training that differ; those of sampling may be changed."""
    keys = differing_keys(given.document(), trained.document())
    return [key for key in keys if not key.startswith("sampling.")]


def _trained_config(found: Checkpoint) -> RunConfig:
    return validate(RunConfig, found.manifest["config"], str(found.path))


def check_filter(wanted: str, trained: str, subject: str) -> None:
    """Raise UsageError with both hashes when the filter asked for is not the one the run was trained with."""
    if wanted != trained:
        raise UsageError(
            f"{subject} another filter ({wanted[:12]}) than the checkpoint was trained with ({trained[:12]})",
            "A model sampled with other noise than it was trained with gives wrong spectra; train one for it.",
        )


def train(
    config: RunConfig,
    path: Path,
    device: torch.device,
    output: Output,
    allow_change: bool = False,
    check_memory: bool = True,
    tensorboard: bool = False,
) -> dict[str, Any]:
    """Train `config` in the run folder `path`, or go on with what is there; return the result of the run.

    Several processes that `torchrun` started train together; the first one writes and speaks. With `allow_change` a
    run goes on with other settings than it was begun with; with `tensorboard` its records are also written for
    TensorBoard. Raises UsageError when `path` holds something else, other settings or images, or is in use, when the
    package tensorboard is missing, and, with `check_memory`, when the device has less memory free than training takes;
    Interrupted, after saving, when a signal asked to stop.
    """
    if tensorboard:
        summary_writer()
    device = own_device(device)
    with joined(device) as world:
        quiet = output if world.is_first else Output(quiet=True)
        return _train(config, path, device, quiet, allow_change, check_memory, tensorboard, world)


def _train(
    config: RunConfig,
    path: Path,
    device: torch.device,
    output: Output,
    allow_change: bool,
    check_memory: bool,
    tensorboard: bool,
    world: World,
) -> dict[str, Any]:
    task = Task.of(config)
    config, settings = task.config, task.config.training
    at_once = len(world.parts(settings.batch_size, settings.accumulate)[0])
    _check_folder(path, config, allow_change)
    if check_memory:
        refuse_too_large(config, task.size, device, at_once)
    about = _about(task)
    state, loss = task.start(device)
    task.warn(output)
    with ExitStack() as stack:
        if world.is_first:
            stack.enter_context(_locked(path))
        stop = stack.enter_context(stop_on_signal())
        found = _resume(path, state, config, about, output, allow_change)
        world.agree(state.step)
        log = stack.enter_context(closing(MetricsLog(path, state.step, world.is_first, tensorboard)))
        if world.is_first:
            if found is not None:
                store.set_aside_newer(path / CHECKPOINTS, found.step)
            # Other settings are written with the first checkpoint they lead to, so that the two always agree.
            if found is None or not _differing_settings(config, _trained_config(found)):
                _write_config(path, config)
        sheets = ContactSheets(path, task, at_once, output)
        finished = _fit(state, loss, task, path, log, sheets, about, stop.requested, output, world)
    task.warn_as_learned(state, output)
    if not finished:
        raise Interrupted(
            stop.signum or signal.SIGTERM,
            f"stopped at step {state.step} of {settings.steps}; the state is saved in {path}",
            "Run the same command again to go on.",
        )
    return _result(path, state, log)


def _fit(
    state: TrainingState,
    loss: DiffusionLoss,
    task: Task,
    path: Path,
    log: MetricsLog,
    sheets: ContactSheets,
    about: dict[str, Any],
    stop_requested: Callable[[], bool],
    output: Output,
    world: World,
) -> bool:
    """Train to the end of the budget, or until a stop is requested, which is False; the folder is this process's."""
    settings = task.config.training
    parts = world.parts(settings.batch_size, settings.accumulate)
    batches = task.batches(state.device, parts)
    draws = world.is_first and sheets.begin(state)
    with output.progress("train", settings.steps, state.step, settings.batch_size) as bar:

        def record(figures: Record) -> None:
            log.append(figures)
            bar.show(loss=figures["loss"])

        def step_done() -> None:
            bar.advance()
            if draws and sheets.is_due(state.step):
                sheets.draw(state)

        def save() -> None:
            if world.is_first:
                _save(path / CHECKPOINTS, state, task, about)
                _write_config(path, task.config)

        try:
            callbacks = Callbacks(record, step_done, save, stop_requested)
            return fit(state, batches.at, loss, settings, callbacks, world)
        except DivergedError as error:
            last, _ = store.newest(path / CHECKPOINTS)
            kept = f"The last good checkpoint is {last.path}." if last else "There is no checkpoint yet."
            raise SagdError(error.message, f"{kept} {error.hint}") from None


def _save(folder: Path, state: TrainingState, task: Task, about: dict[str, Any]) -> None:
    """Write a checkpoint with the filter to sample with, fixed or as learned so far, and prune the old ones."""
    learned, settings = task.learned_filter(state), task.config.training
    note = {} if learned is None else {"trained_filter": learned.document()}
    checkpoint.save(folder, state, task.sampled_filter(state), task.moments, about | note)
    every = settings.keep_every
    milestone = every and every * settings.checkpoint_steps
    store.prune(folder, settings.keep_checkpoints, milestone)


def _check_folder(path: Path, config: RunConfig, allow_change: bool) -> None:
    if (path / CONFIG).is_file() and not allow_change:
        _refuse_other_settings(
            path, config, validate(RunConfig, read_mapping(path / CONFIG), str(path / CONFIG))
        )
    elif not (path / CONFIG).is_file() and path.exists() and not _is_unused(path):
        raise UsageError(f"{path} exists and is not a run", "Choose another --output.")


def _is_unused(path: Path) -> bool:
    """Whether there is nothing in it but what a training leaves that was killed before it had begun."""
    names = {item.name for item in path.iterdir()} if path.is_dir() else {"a file"}
    return names - {item.name for item in _half_written(path)} <= {LOCK}


def _half_written(path: Path) -> list[Path]:
    """What a killed process left of a configuration or metrics, which are written beside their place."""
    return [left for name in (CONFIG, METRICS) for left in path.glob(f".sagd-*{Path(name).suffix}")]


def _write_config(path: Path, config: RunConfig) -> None:
    write_text(path / CONFIG, dump_yaml(config.document()))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.mkdir(parents=True, exist_ok=True)
    with (path / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"another process is training {path}", "Wait for it or choose --output."
            ) from None
        for left in _half_written(path):
            left.unlink()
        yield


def _resume(
    path: Path,
    state: TrainingState,
    config: RunConfig,
    about: dict[str, Any],
    output: Output,
    allow_change: bool,
) -> Checkpoint | None:
    """Restore the newest sound checkpoint, if there is any, and return it."""
    found, skipped = store.newest(path / CHECKPOINTS)
    for reason in skipped:
        output.warn(f"skipped: {reason}")
    if found is None and skipped:
        raise CheckpointError(
            f"{path} holds checkpoints, but none that is sound",
            "Nothing was changed. Restore one from a copy, or start anew with another --output.",
        )
    if found is not None:
        if not allow_change:
            _refuse_other_settings(path, config, _trained_config(found))
        if any(found.manifest.get(key) != about[key] for key in ("images_sha256", "classes")):
            raise UsageError(
                f"the images of {config.dataset.name}, or their labels, are not those {path} was trained on",
                "Restore them, or choose another --output.",
            )
        checkpoint.restore(found, state)
        done = state.step >= config.training.steps
        output.note(f"{path} is finished" if done else f"resuming {path} at step {state.step}")
    return found


def _result(path: Path, state: TrainingState, log: MetricsLog) -> dict[str, Any]:
    last = log.records[-1] if log.records else {}
    return {
        "run": str(path),
        "step": state.step,
        "images": last.get("images"),
        "loss": last.get("loss"),
        "whitened_loss": last.get("whitened_loss"),
        "images_per_second": last.get("images_per_second"),
        "checkpoint": str(store.path_of(path / CHECKPOINTS, state.step)),
    }


def _about(task: Task) -> dict[str, Any]:
    """What a manifest says besides the files: configuration, filter, versions and the plug-ins it needs."""
    config, images, classes = task.config, task.data.images, task.classes
    needed = [
        ("filter", config.filter.type),
        ("dataset", config.dataset.name),
        ("backbone", config.backbone.name),
    ]
    entries = [registry().entry(kind, name) for kind, name in needed]
    return {
        "shape": list(images.shape[1:]),
        "dtype": str(images.dtype),
        "images_sha256": hash_images(images),
        "classes": None if classes is None else classes.document(),
        "config": config.document(),
        "filter_sha256": config.filter.sha256(),
        "versions": {
            "sagd": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "diffusers", "numpy")},
        },
        "plugins": [
            {
                "kind": e.kind,
                "name": e.name,
                "distribution": e.provider.distribution,
                "version": e.provider.version,
            }
            for e in entries
        ],
    }
