"""A run folder: its configuration, lock, metrics and checkpoints; training into it and opening it."""

import fcntl
import json
import platform
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sagd_cli import __version__
from sagd_cli.config import (
    FilterConfig,
    RunConfig,
    TrainingConfig,
    differing_keys,
    validate,
)
from sagd_cli.console import Output
from sagd_cli.datasets import DataSize, hash_images, load_images
from sagd_cli.design.advice import data_moments, warn_of_scale, warn_of_terminal_snr
from sagd_cli.errors import CheckpointError, DivergedError, Interrupted, SagdError, UsageError
from sagd_cli.files import write_text
from sagd_cli.plugin.records import ImageSet
from sagd_cli.plugin.registry import registry
from sagd_cli.signals import stop_on_signal
from sagd_cli.spectral.grid import Array
from sagd_cli.training import checkpoint, store
from sagd_cli.training.backbones import build_backbone, new_backbone, resolve_backbone
from sagd_cli.training.classes import Classes
from sagd_cli.training.data import Ahead, Batches, Labels, placed
from sagd_cli.training.distributed import World, joined, own_device
from sagd_cli.training.estimate import refuse_too_large
from sagd_cli.training.learned_filter import average_profile, learned_profile, make_loss, trained_filter
from sagd_cli.training.loop import Callbacks, Record, TrainingState, fit
from sagd_cli.training.store import CHECKPOINTS, CONFIG, Checkpoint, open_checkpoint, sampled_filter
from sagd_cli.yaml_files import dump_yaml, read_mapping

METRICS, LOCK = "metrics.jsonl", "run.lock"


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
    def has_pixels(self) -> bool:
        """Whether its data are images, with a black at -1 and a white at 1."""
        return self.dtype == np.uint8

    @property
    def classes(self) -> Classes | None:
        """The classes it was trained on, if it was."""
        document = self.checkpoint.manifest.get("classes")
        return None if document is None else Classes.read(document)

    def network(self, device: torch.device) -> torch.nn.Module:
        """Return the averaged network on `device`."""
        network = build_backbone(self.config.backbone, self.shape, len(self.classes or ()))
        return checkpoint.load_ema(self.checkpoint, network).to(device)


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
) -> dict[str, Any]:
    """Train `config` in the run folder `path`, or go on with what is there; return the result of the run.

    Several processes that `torchrun` started train together; the first one writes and speaks. With `allow_change` a
    run goes on with other settings than it was begun with. Raises UsageError when `path` holds something else, other
    settings or images, or is in use, and, with `check_memory`, when the device has less memory free than training
    takes; Interrupted, after saving, when a signal asked to stop.
    """
    device = own_device(device)
    with joined(device) as world:
        quiet = output if world.is_first else Output(quiet=True)
        return _train(config, path, device, quiet, allow_change, check_memory, world)


def _train(
    config: RunConfig,
    path: Path,
    device: torch.device,
    output: Output,
    allow_change: bool,
    check_memory: bool,
    world: World,
) -> dict[str, Any]:
    loaded = load_images(config.dataset)
    data, shape = loaded.images, loaded.images.shape[1:]
    classes = Classes.of(loaded, config.dataset.subject) if config.class_conditional else None
    config = resolve_backbone(config, shape)
    spectral_filter = config.filter.weights(shape[1:])
    parts = world.parts(config.training.batch_size, config.training.accumulate)
    _check_folder(path, config, allow_change)
    if check_memory:
        refuse_too_large(config, DataSize(len(data), shape, len(classes or ())), device, len(parts[0]))
    about = _about(config, data, classes)
    profile = learned_profile(config.filter, shape[1:])
    moments = data_moments(data)
    loss = make_loss(config, spectral_filter, profile, moments["power"], device)
    warn_of_scale(data, output)
    warn_of_terminal_snr(spectral_filter, moments["power_about_mean"], config.schedule, output)
    with _locked(path) if world.is_first else nullcontext(), stop_on_signal() as stop:
        network = new_backbone(config.backbone, shape, config.training.seed, len(classes or ()))
        state = TrainingState(network, config.training, device, profile)
        found = _resume(path, state, config, about, output, allow_change)
        world.agree(state.step)
        # With other settings, config.yaml is that of the checkpoint until there is one of theirs.
        config_agrees = found is None or not _differing_settings(config, _trained_config(found))
        if world.is_first:
            if found is not None:
                store.set_aside_newer(path / CHECKPOINTS, found.step)
            if config_agrees:
                _write_config(path, config)
        log = _MetricsLog(path / METRICS, state.step, world.is_first)
        batches = _batches(config.training, loaded, classes, device, parts)
        with output.progress("train", config.training.steps, state.step, config.training.batch_size) as bar:

            def record(figures: Record) -> None:
                log.append(figures)
                bar.show(loss=figures["loss"])

            def save() -> None:
                if world.is_first:
                    _save(path / CHECKPOINTS, state, config, shape[1:], moments, about)
                    if not config_agrees:
                        _write_config(path, config)

            callbacks = Callbacks(record, bar.advance, save, stop.requested)
            try:
                finished = fit(state, batches.at, loss, config.training, callbacks, world)
            except DivergedError as error:
                last, _ = store.newest(path / CHECKPOINTS)
                kept = f"The last good checkpoint is {last.path}." if last else "There is no checkpoint yet."
                raise SagdError(error.message, f"{kept} {error.hint}") from None
        if state.profile_ema is not None:
            learned = average_profile(state.profile_ema).spectral_filter()
            warn_of_terminal_snr(
                learned, moments["power_about_mean"], config.schedule, output, "the filter as learned"
            )
        if not finished:
            raise Interrupted(
                stop.signum or signal.SIGTERM,
                f"stopped at step {state.step} of {config.training.steps}; the state is saved in {path}",
                "Run the same command again to go on.",
            )
    return _result(path, state, log)


def _batches(
    settings: TrainingConfig,
    data: ImageSet,
    classes: Classes | None,
    device: torch.device,
    parts: list[range],
) -> Batches | Ahead:
    with warnings.catch_warnings():  # the images may be a read-only map of a file, and are only read
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        images = placed(torch.from_numpy(data.images), device)
    labels = None
    if classes is not None and data.labels is not None:
        values = torch.from_numpy(data.labels).to(device)
        labels = Labels(values, len(classes), settings.label_dropout)
    batches = Batches(images, settings.batch_size, settings.seed, labels, device, settings.flips)
    return batches if images.device.type == device.type else Ahead(batches.at, parts)


def _save(
    folder: Path,
    state: TrainingState,
    config: RunConfig,
    shape: tuple[int, ...],
    moments: dict[str, Array],
    about: dict[str, Any],
) -> None:
    """Write a checkpoint with the filter to sample with, fixed or as learned so far, and prune the old ones."""
    learned = trained_filter(config.filter, state.profile_ema)
    note = {} if learned is None else {"trained_filter": learned.document()}
    checkpoint.save(folder, state, (learned or config.filter).weights(shape), moments, about | note)
    every = config.training.keep_every
    milestone = every and every * config.training.checkpoint_steps
    store.prune(folder, config.training.keep_checkpoints, milestone)


class _MetricsLog:
    """metrics.jsonl: one JSON object a line, flushed at once; lines past the resumed step are dropped."""

    def __init__(self, path: Path, step: int, writes: bool) -> None:
        self._path, self._writes = path, writes
        lines = path.read_text().splitlines() if path.exists() else []
        self.records = [record for record in map(_parsed, lines) if record and record["step"] <= step]
        if writes:
            write_text(path, "".join(json.dumps(record) + "\n" for record in self.records))

    def append(self, record: Record) -> None:
        self.records.append(record)
        if not self._writes:
            return
        with self._path.open("a") as file:
            file.write(json.dumps(record) + "\n")


def _parsed(line: str) -> Record | None:
    try:
        record = json.loads(line)
        return record if isinstance(record, dict) and isinstance(record.get("step"), int) else None
    except ValueError:
        return None


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


def _result(path: Path, state: TrainingState, log: _MetricsLog) -> dict[str, Any]:
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


def _about(config: RunConfig, images: NDArray[Any], classes: Classes | None) -> dict[str, Any]:
    """What a manifest says besides the files: configuration, filter, versions and the plug-ins it needs."""
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
