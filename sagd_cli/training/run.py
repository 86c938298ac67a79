"""A run folder: its configuration, lock, metrics and checkpoints; training into it and opening it."""

import fcntl
import json
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from sagd_cli import __version__
from sagd_cli.config import BackboneConfig, RunConfig, differing_keys, validate
from sagd_cli.console import Output
from sagd_cli.diffusion.loss import NoiseLoss
from sagd_cli.diffusion.schedule import make_schedule
from sagd_cli.errors import CheckpointError, Interrupted, PluginError, UsageError
from sagd_cli.files import write_text
from sagd_cli.plugin.records import BackbonePlugin
from sagd_cli.plugin.registry import registry
from sagd_cli.signals import stop_on_signal
from sagd_cli.spectral.noise import SpectralNoise, random_stream
from sagd_cli.training import checkpoint
from sagd_cli.training.checkpoint import Checkpoint
from sagd_cli.training.data import Batches, load_images
from sagd_cli.training.loop import Callbacks, Record, TrainingState, fit
from sagd_cli.yaml_files import dump_yaml, read_mapping

CONFIG, METRICS, LOCK, CHECKPOINTS = "config.yaml", "metrics.jsonl", "run.lock", "checkpoints"


@dataclass(frozen=True)
class Run:
    """A trained run, opened for reading: its configuration and its newest sound checkpoint."""

    path: Path
    config: RunConfig
    checkpoint: Checkpoint
    shape: tuple[int, ...]

    def network(self, device: torch.device) -> torch.nn.Module:
        """Return the averaged network on `device`."""
        return self.checkpoint.load_ema(build_backbone(self.config.backbone, self.shape)).to(device)


def open_run(path: Path, output: Output) -> Run:
    """Open a run; raise UsageError when it is none or its filter was changed, CheckpointError when damaged."""
    if not (path / CONFIG).is_file():
        raise UsageError(f"{path} is not a run: it has no {CONFIG}", "Train one with `sagd train`.")
    found, skipped = checkpoint.newest(path / CHECKPOINTS)
    for reason in skipped:
        output.warn(f"skipped: {reason}")
    if found is None:
        hint = "Run the same `sagd train` command again to train it."
        raise CheckpointError(f"{path} holds no sound checkpoint", hint)
    check_plugins(found.manifest["plugins"])
    config = validate(RunConfig, read_mapping(path / CONFIG), str(path / CONFIG))
    check_filter(config.filter.sha256(), found.filter_sha256, f"{path / CONFIG} names")
    return Run(path, config, found, tuple(found.manifest["shape"]))


def check_filter(wanted: str, trained: str, subject: str) -> None:
    """Raise UsageError with both hashes when the filter asked for is not the one the run was trained with."""
    if wanted != trained:
        raise UsageError(
            f"{subject} another filter ({wanted[:12]}) than the checkpoint was trained with ({trained[:12]})",
            "A model sampled with other noise than it was trained with gives wrong spectra; train one for it.",
        )


def build_backbone(config: BackboneConfig, shape: tuple[int, ...]) -> torch.nn.Module:
    """Build the network for images of `shape` = (C, *spatial)."""
    plugin: BackbonePlugin = registry().get("backbone", config.name)
    return plugin.load()(plugin.options.model_validate(config.options), shape)  # type: ignore[no-any-return]


def resolve_backbone(config: RunConfig, shape: tuple[int, ...]) -> RunConfig:
    """Write the network's size-dependent defaults out into the configuration."""
    plugin: BackbonePlugin = registry().get("backbone", config.backbone.name)
    if plugin.resolve is None:
        return config
    options = plugin.resolve(plugin.options.model_validate(config.backbone.options), shape)
    backbone = BackboneConfig(name=config.backbone.name, options=options.model_dump(mode="json"))
    return config.model_copy(update={"backbone": backbone})


def train(config: RunConfig, path: Path, device: torch.device, output: Output) -> dict[str, Any]:
    """Train `config` in the run folder `path`, or go on with what is there; return the result of the run.

    Raises UsageError when `path` holds something else, another configuration, or is in use; Interrupted, after
    saving, when a signal asked to stop.
    """
    images = torch.from_numpy(load_images(config.dataset).images).to(device)
    shape = tuple(images.shape[1:])
    config = resolve_backbone(config, shape)
    spectral_filter = config.filter.weights(shape[1:])
    _check_folder(path, config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(random_stream("cpu", config.training.seed, "weights").initial_seed()))
        network = build_backbone(config.backbone, shape)
    with _locked(path), stop_on_signal() as stop:
        write_text(path / CONFIG, dump_yaml(config.document()))
        state = TrainingState(network, config.training, device)
        log = _resume(path, state, output)
        loss = NoiseLoss(make_schedule(config.schedule, device), SpectralNoise(spectral_filter, device))
        about = _about(config, shape)
        batches = Batches(images, config.training.batch_size, config.training.seed)
        with output.progress("train", config.training.steps, state.step, config.training.batch_size) as bar:

            def record(figures: Record) -> None:
                log.append(figures)
                bar.show(loss=figures["loss"])

            callbacks = Callbacks(
                record=record,
                step_done=bar.advance,
                checkpoint=lambda: _save(path, state, spectral_filter, about, config),
                stop_requested=stop.requested,
            )
            finished = fit(state, batches.at, loss, config.training, callbacks)
        if not finished and stop.signum is not None:
            raise Interrupted(
                stop.signum,
                f"stopped at step {state.step} of {config.training.steps}; the state is saved in {path}",
                "Run the same command again to go on.",
            )
    return _result(path, state, log)


class _MetricsLog:
    """metrics.jsonl: one JSON object a line, flushed at once; lines past the resumed step are dropped."""

    def __init__(self, path: Path, step: int) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.records = [record for record in map(_parsed, lines) if record and record["step"] <= step]
        write_text(path, "".join(json.dumps(record) + "\n" for record in self.records))

    def append(self, record: Record) -> None:
        self.records.append(record)
        with self._path.open("a") as file:
            file.write(json.dumps(record) + "\n")


def _parsed(line: str) -> Record | None:
    try:
        record = json.loads(line)
        return record if isinstance(record, dict) and isinstance(record.get("step"), int) else None
    except ValueError:
        return None


def _check_folder(path: Path, config: RunConfig) -> None:
    if (path / CONFIG).is_file():
        differing = differing_keys(read_mapping(path / CONFIG), config.document())
        if differing:
            raise UsageError(
                f"{path} was made with other settings: {', '.join(differing)} differ",
                "Give the run's own settings to resume it, or choose another --output.",
            )
    elif path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UsageError(f"{path} exists and is not a run", "Choose another --output.")


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
        yield


def _resume(path: Path, state: TrainingState, output: Output) -> _MetricsLog:
    found, skipped = checkpoint.newest(path / CHECKPOINTS)
    for reason in skipped:
        output.warn(f"skipped: {reason}")
    if found is not None:
        found.restore(state)
        output.note(f"resuming {path} at step {state.step}")
    return _MetricsLog(path / METRICS, state.step)


def _save(
    path: Path, state: TrainingState, spectral_filter: Any, about: dict[str, Any], config: RunConfig
) -> None:
    checkpoint.save(path / CHECKPOINTS, state, spectral_filter, about)
    checkpoint.prune(path / CHECKPOINTS, config.training.keep_checkpoints)


def _result(path: Path, state: TrainingState, log: _MetricsLog) -> dict[str, Any]:
    last = log.records[-1] if log.records else {}
    return {
        "run": str(path),
        "step": state.step,
        "images": last.get("images"),
        "loss": last.get("loss"),
        "whitened_loss": last.get("whitened_loss"),
        "images_per_second": last.get("images_per_second"),
        "checkpoint": str(path / CHECKPOINTS / f"step-{state.step:08d}"),
    }


def _about(config: RunConfig, shape: tuple[int, ...]) -> dict[str, Any]:
    """What a manifest says besides the files: configuration, filter, versions and the plug-ins it needs."""
    needed = [
        ("filter", config.filter.type),
        ("dataset", config.dataset.name),
        ("backbone", config.backbone.name),
    ]
    entries = [registry().entry(kind, name) for kind, name in needed]
    return {
        "shape": list(shape),
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


def check_plugins(needed: list[dict[str, str]]) -> None:
    """Raise PluginError that says what to install when a plug-in a checkpoint needs is not here."""
    for item in needed:
        if item["name"] not in registry().names(item["kind"]):
            source = f"{item['distribution']} {item['version']}".strip()
            raise PluginError(
                f"the run needs the {item['kind']} {item['name']!r} of {source}, which is not installed or not enabled",
                f"Install {source}, or name its file with --plugin.",
            )
