"""Training a configuration into a run folder, from its start or from where it was stopped."""

import platform
import signal
from collections.abc import Callable
from contextlib import ExitStack, closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from sagd_cli import __version__
from sagd_cli.config.run import RunConfig
from sagd_cli.data.datasets import hash_images
from sagd_cli.diffusion.loss import Loss
from sagd_cli.errors import CheckpointError, DivergedError, Interrupted, SagdError, UsageError
from sagd_cli.model.state import TrainingState
from sagd_cli.plugin.registry import registry
from sagd_cli.run import checkpoint
from sagd_cli.run import manifest as store
from sagd_cli.run.folder import (
    check_folder,
    differing_settings,
    locked,
    refuse_other_settings,
    trained_config,
    write_config,
)
from sagd_cli.run.log import LogRecord, MetricsLog, summary_writer
from sagd_cli.run.manifest import CHECKPOINTS, Checkpoint
from sagd_cli.system.console import Output
from sagd_cli.system.distributed import World, joined_world, own_device
from sagd_cli.system.signals import stop_on_signal
from sagd_cli.training.cost import refuse_too_large
from sagd_cli.training.loop import Callbacks, fit
from sagd_cli.training.sheets import ContactSheets
from sagd_cli.training.task import Task


def run_training(
    config: RunConfig,
    path: Path,
    device: torch.device,
    output: Output,
    allow_change: bool = False,
    check_memory: bool = True,
    tensorboard: bool = False,
    until: int | None = None,
) -> dict[str, Any]:
    """Train `config` in the run folder `path`, or go on with what is there; return the result of the run.

    Several processes that `torchrun` started train together; the first one writes and speaks. With `allow_change` a
    run goes on with other settings than it was begun with; with `tensorboard` its records are also written for
    TensorBoard. With `until` it pauses, saved, after that many steps; going on later changes nothing of the result.
    Raises UsageError when `path` holds something else, other settings or images, or is in use, when the
    package tensorboard is missing, and, with `check_memory`, when the device has less memory free than training takes;
    Interrupted, after saving, when a signal asked to stop.
    """
    if tensorboard:
        summary_writer()
    device = own_device(device)
    with joined_world(device) as world:
        quiet = output if world.is_first else Output(quiet=True)
        return _train(config, path, device, quiet, allow_change, check_memory, tensorboard, until, world)


def _train(
    config: RunConfig,
    path: Path,
    device: torch.device,
    output: Output,
    allow_change: bool,
    check_memory: bool,
    tensorboard: bool,
    until: int | None,
    world: World,
) -> dict[str, Any]:
    task = Task.of(config)
    config, settings = task.config, task.config.training
    at_once = len(world.parts(settings.batch_size, settings.accumulate)[0])
    check_folder(path, config, allow_change)
    if check_memory:
        refuse_too_large(config, task.size, device, at_once)
    about = _about(task)
    state, loss = task.start(device)
    task.warn(output)
    with ExitStack() as stack:
        if world.is_first:
            stack.enter_context(locked(path))
        stop = stack.enter_context(stop_on_signal())
        found = _resume(path, state, config, about, output, allow_change)
        world.agree(state.step)
        if world.is_first:
            if found is not None:
                store.set_aside_newer(path / CHECKPOINTS, found.step)
            # Other settings are written with the first checkpoint they lead to, so that the two always agree.
            if found is None or not differing_settings(config, trained_config(found)):
                write_config(path, config)
        log = stack.enter_context(closing(MetricsLog(path, state.step, world.is_first, tensorboard)))
        sheets = ContactSheets(path, task, at_once, output)
        end = min(settings.steps, until or settings.steps)
        if state.step < end:
            _fit(state, loss, task, path, log, sheets, about, end, stop.requested, output, world)
    task.warn_as_learned(state, output)
    if state.step < end:
        raise Interrupted(
            stop.signum or signal.SIGTERM,
            f"stopped at step {state.step} of {settings.steps}; the state is saved in {path}",
            "Run the same command again to go on.",
        )
    return _result(path, state, log)


def save_run(path: Path, task: Task, state: TrainingState) -> None:
    """Write a training that was done elsewhere as the run `path`; raise UsageError when something else is there."""
    check_folder(path, task.config, allow_change=False)
    with locked(path):
        write_config(path, task.config)
        _save(path / CHECKPOINTS, state, task, _about(task))


def _fit(
    state: TrainingState,
    loss: Loss,
    task: Task,
    path: Path,
    log: MetricsLog,
    sheets: ContactSheets,
    about: dict[str, Any],
    end: int,
    stop_requested: Callable[[], bool],
    output: Output,
    world: World,
) -> None:
    """Train up to the step `end`, or until a stop is requested; the folder is this process's."""
    settings = task.config.training
    parts = world.parts(settings.batch_size, settings.accumulate)
    batches = task.batches(state.device, parts)
    draws = world.is_first and sheets.begin(state)
    with output.progress("train", settings.steps, state.step, settings.batch_size) as bar:

        def record(figures: LogRecord) -> None:
            log.append(figures)
            bar.show(loss=figures["loss"])

        def step_done() -> None:
            bar.advance()
            if draws and sheets.is_due(state.step):
                sheets.draw(state)

        def save() -> None:
            if world.is_first:
                _save(path / CHECKPOINTS, state, task, about)
                write_config(path, task.config)

        try:
            callbacks = Callbacks(record, step_done, save, lambda: stop_requested() or state.step >= end)
            fit(state, batches.at, loss, settings, callbacks, world)
        except DivergedError as error:
            last, _ = store.newest(path / CHECKPOINTS)
            kept = f"The last good checkpoint is {last.path}." if last else "There is no checkpoint yet."
            raise SagdError(error.message, f"{kept} {error.hint}") from None


def _save(folder: Path, state: TrainingState, task: Task, about: dict[str, Any]) -> None:
    """Write a checkpoint with the filter to sample with, fixed or as learned so far, and prune the old ones."""
    learned, settings = task.learned_filter(state), task.config.training
    note = {} if learned is None else {"trained_filter": learned.document()}
    checkpoint.save(folder, state, task.sampled_filter(state), task.moments, about | note)
    store.prune(folder, settings.keep_checkpoints, settings.milestone_steps)


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
        trained = trained_config(found)
        if not allow_change:
            refuse_other_settings(path, config, trained)
        if config.training.batch_size != trained.training.batch_size:
            raise UsageError(
                f"{path} was trained with batches of {trained.training.batch_size}, and its steps are counted in them",
                "Leave the batch size as it is; training.accumulate and the number of processes may change.",
            )
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
    last = log.last or {}
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
