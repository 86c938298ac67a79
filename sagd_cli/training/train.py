"""Training a configuration in a run folder, from the start or from its newest checkpoint."""

import signal
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from sagd_cli.config.run import RunConfig, TrainingConfig
from sagd_cli.config.validation import digest_of
from sagd_cli.diffusion.loss import Loss
from sagd_cli.errors import CheckpointError, DivergedError, Interrupted, SagdError, UsageError
from sagd_cli.model.state import TrainingState
from sagd_cli.run import checkpoint
from sagd_cli.run.folder import check_folder, differing_settings, locked, refuse_other_settings, write_config
from sagd_cli.run.log import LogRecord, MetricsLog, scalars
from sagd_cli.run.manifest import (
    CHECKPOINTS,
    Checkpoint,
    has_checkpoints,
    newest,
    path_of,
    prune,
    set_aside_newer,
)
from sagd_cli.run.trackers import Trackers
from sagd_cli.system.console import Output
from sagd_cli.system.devices import trained_precision
from sagd_cli.system.distributed import World, joined_world, own_device
from sagd_cli.system.signals import stop_on_signal
from sagd_cli.training.cost import refuse_full_disk, refuse_too_large
from sagd_cli.training.held_out import HeldOut
from sagd_cli.training.initial import InitialWeights, initialise, weights_of_run
from sagd_cli.training.loop import Callbacks, run_loop
from sagd_cli.training.sheets import ContactSheets
from sagd_cli.training.task import Task

_REDUCED = " If they are the same JPEG files: earlier versions reduced them otherwise (docs/files.md)."


@dataclass(frozen=True)
class Conduct:
    """How a training is carried out. These settings are no part of the run's configuration.

    `allow_change`: go on with a run though its settings differ. `check_memory`: refuse to start when the device has
    too little free memory. `track`: names of the trackers that follow it. `until`: save and stop after that many
    steps. `initial` reads the weights of the configuration's `init`; None: they are those of a run.
    """

    allow_change: bool = False
    check_memory: bool = True
    track: Sequence[str] = ()
    until: int | None = None
    initial: Callable[[], InitialWeights] | None = None


def run_training(
    config: RunConfig, path: Path, device: torch.device, output: Output, conduct: Conduct | None = None
) -> dict[str, Any]:
    """Train `config` in the run folder `path`, or go on with the run that is there; return the result of the run.

    Several processes that `torchrun` started train together; only the first one writes files and messages. Raises
    UsageError when `path` holds something else than a run, a run with other settings or images, or is in use, and when
    memory or disk is too small. Raises Interrupted, after
    saving, when a signal asked to stop or `until` is reached.
    """
    conduct = conduct or Conduct()
    device = own_device(device)
    with joined_world(device) as world:
        quiet = output if world.is_first else Output(quiet=True)
        return Training(Task.of(config), path, device, quiet, world, conduct).run()


@dataclass(frozen=True)
class Training:
    """A training of `task` in the folder `path`, by this process as one of the processes of `world`."""

    task: Task
    path: Path
    device: torch.device
    output: Output
    world: World
    conduct: Conduct

    @property
    def _settings(self) -> TrainingConfig:
        return self.task.config.training

    @property
    def _checkpoints(self) -> Path:
        return self.path / CHECKPOINTS

    @property
    def _parts(self) -> list[range]:
        return self.world.parts(self._settings.batch_size, self._settings.accumulate)

    def run(self) -> dict[str, Any]:
        """Train to the end of the budget and return the result; raise Interrupted when stopped earlier."""
        at_once = len(self._parts[0])
        known = has_checkpoints(self._checkpoints)
        check_folder(self.path, self.task.config, self.conduct.allow_change, known)
        if self.conduct.check_memory:
            refuse_too_large(self.task.config, self.task.size, self.device, at_once)
        state, loss = self.task.start(self.device)
        about = self.world.after_first(self.task.described) | {"precision": self.task.precision(state)}
        self._check_alike(about)
        end = min(self._settings.steps, self.conduct.until or self._settings.steps)

        def is_done() -> bool:
            return state.step >= end or self._is_finished(state)

        if self.world.is_first and not path_of(self._checkpoints, end).exists():
            refuse_full_disk(checkpoint.size_of(state), self.path)
        self.task.warn(self.output)
        with ExitStack() as stack:
            if self.world.is_first:
                stack.enter_context(locked(self.path))
            stop = stack.enter_context(stop_on_signal())
            self._resume(state, about)
            trackers = Trackers(self.path, self.output)
            log = MetricsLog(self.path, state.step, self.world.is_first, trackers)
            if not is_done():
                if self.world.is_first:
                    trackers.begin(self.conduct.track, self.task.config.document())
                stack.callback(lambda: trackers.end(self._final(log, is_done()), state.step))
                callbacks = Callbacks(
                    record=log.append,
                    checkpoint=lambda: self._checkpoint(state, about),
                    stop_requested=lambda: stop.requested() or is_done(),
                )
                held_out = self.task.held_out_images(self.device)
                if held_out is not None:
                    callbacks = HeldOut(held_out, state, loss, self._settings).watched(callbacks)
                sheets = ContactSheets(self.path, self.task, at_once, self.output, trackers.image)
                self._run_loop(state, loss, callbacks, sheets)
        self.task.warn_as_learned(state, self.output)
        if not is_done():
            raise Interrupted(
                stop.signum or signal.SIGTERM,
                f"stopped at step {state.step} of {self._settings.steps}; the state is saved in {self.path}",
                "Run the same command again to go on.",
            )
        return self._result(state, log)

    def _check_alike(self, about: dict[str, Any]) -> None:
        """Raise SagdError when others have other images, settings or precision; their data may lie elsewhere."""
        settings = digest_of(self.task.config.identity() | {"dataset": None})
        facts = {
            "images": about["images_sha256"],
            "labels": about["classes"],
            "precision": about["precision"],
        }
        self.world.check_alike({"settings": settings, **facts})

    def _resume(self, state: TrainingState, about: dict[str, Any]) -> None:
        """Restore the newest sound checkpoint, if there is any, and write config.yaml if the run's settings are kept.

        Raises CheckpointError when there are checkpoints, but none is sound.
        """
        found = newest(self._checkpoints, self.output)
        if found is None and has_checkpoints(self._checkpoints):
            raise CheckpointError(
                f"{self.path} holds checkpoints, but none that is sound",
                "Nothing was changed. Restore one from a copy, or start anew with another --output.",
            )
        if found is not None:
            self._check_same(found, about)
            checkpoint.restore_state(found, state)
            self._warn_of_precision(found, about["precision"])
            finished = f"{self.path} is finished"
            going_on = f"resuming {self.path} at step {state.step}"
            self.output.note(finished if self._is_finished(state) else going_on)
        if self.task.config.init is not None:
            about["init"] = (
                self._begun(state, self.task.config.init) if found is None else found.manifest.init
            )
        self.world.agree(state.step)
        if not self.world.is_first:
            return
        if found is not None:
            set_aside_newer(self._checkpoints, found.step)
        # Changed settings are written with the next checkpoint, so that config.yaml always agrees with the newest one.
        if found is None or not differing_settings(self.task.config, found.config):
            write_config(self.path, self.task.config)

    def _begun(self, state: TrainingState, init: str) -> dict[str, Any]:
        """Set `state` to the weights of `init` and return what the manifest says of them."""
        initial = self.conduct.initial
        weights = weights_of_run(Path(init), self.output) if initial is None else initial()
        return initialise(state, weights, self.output)

    def _is_finished(self, state: TrainingState) -> bool:
        """Whether the budget is spent, or the weights that did best on images held out stay the best."""
        return state.step >= self._settings.steps or (state.best is not None and state.best.is_past)

    def _check_same(self, found: Checkpoint, about: dict[str, Any]) -> None:
        """Raise UsageError when the checkpoint `found` has other settings, another batch size or other images."""
        config, trained = self.task.config, found.config
        known = (found.manifest.images_sha256, found.manifest.classes)
        same_images = known == (about["images_sha256"], about["classes"])
        if not self.conduct.allow_change:
            refuse_other_settings(self.path, config, trained, same_images)
        if config.training.batch_size != trained.training.batch_size:
            raise UsageError(
                f"{self.path} was trained with batches of {trained.training.batch_size}, and its steps are counted in "
                "batches",
                "Leave the batch size as it is; training.accumulate and the number of processes may change.",
            )
        if not same_images:
            raise UsageError(
                f"the images of {config.dataset.subject}, or their labels, are not those {self.path} was trained on",
                "Restore them, or choose another --output."
                + (_REDUCED if config.dataset.options.get("size") is not None else ""),
            )

    def _warn_of_precision(self, found: Checkpoint, now: str) -> None:
        """Warn when auto stands for another precision here than on the machine of the checkpoint `found`."""
        setting = self._settings.precision
        before = trained_precision(found.manifest.precision, setting, self.device)
        if setting == "auto" and before not in (None, now):
            self.output.warn(
                f"{self.path} was trained in {before} until step {found.step}, and goes on in {now}, which auto means "
                f"on this machine. --precision {before} --allow-config-change goes on as before"
            )

    def _run_loop(
        self, state: TrainingState, loss: Loss, callbacks: Callbacks, sheets: ContactSheets
    ) -> None:
        """Train until the budget is spent or a stop is requested; show the progress and draw contact sheets."""
        settings = self._settings
        batches = self.task.batches(state.device, self._parts)
        draws = self.world.is_first and sheets.begin(state)
        with self.output.progress("train", settings.steps, state.step, settings.batch_size) as bar:

            def record(figures: LogRecord) -> None:
                callbacks.record(figures)
                shown = {key: figures[key] for key in ("loss", "held_out_loss") if key in figures}
                bar.show(**shown)

            def step_done() -> None:
                bar.advance()
                if draws and sheets.is_due(state.step):
                    sheets.draw(state)

            shown = replace(callbacks, record=record, step_done=step_done)
            try:
                run_loop(state, batches.at, loss, settings, shown, self.world)
            except DivergedError as error:
                last = newest(self._checkpoints, self.output)
                kept = f"The last good checkpoint is {last.path}." if last else "There is no checkpoint yet."
                raise SagdError(error.message, f"{kept} {error.hint}") from None

    def _checkpoint(self, state: TrainingState, about: dict[str, Any]) -> None:
        if self.world.is_first:
            _save(self._checkpoints, state, self.task, about)
            write_config(self.path, self.task.config)

    def _final(self, log: MetricsLog, done: bool) -> dict[str, float]:
        """Return the figures of a training that is done, none of one that will go on."""
        return dict(scalars(log.last)) if done and log.last else {}

    def _result(self, state: TrainingState, log: MetricsLog) -> dict[str, Any]:
        last = log.last or {}
        figures = {key: last.get(key) for key in ("images", "loss", "whitened_loss", "images_per_second")}
        saved = str(path_of(self._checkpoints, state.step))
        return {"run": str(self.path), "step": state.step, **figures, "checkpoint": saved}


def _save(folder: Path, state: TrainingState, task: Task, about: dict[str, Any]) -> None:
    """Write a checkpoint with the filter to sample with, and remove the old checkpoints."""
    learned, settings = task.learned_filter(state), task.config.training
    note = {} if learned is None else {"trained_filter": learned.document()}
    checkpoint.save(folder, state, task.sampled_filter(state), task.moments, about | note)
    prune(folder, settings.keep_checkpoints, settings.milestone_steps)
