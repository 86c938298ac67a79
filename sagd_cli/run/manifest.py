"""Which checkpoints a run holds and whether they are sound: names, manifests and hashes, without torch."""

import hashlib
import json
import os
import platform
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from sagd_cli import __version__
from sagd_cli.config.documents import Document
from sagd_cli.config.filter import FilterConfig
from sagd_cli.config.run import RunConfig
from sagd_cli.config.validation import validate
from sagd_cli.datasets.known_hash import KnownHash
from sagd_cli.datasets.loading import hash_images
from sagd_cli.errors import CheckpointError, ConfigError, PluginError, UsageError
from sagd_cli.plugin.registry import registry
from sagd_cli.run.log import METRICS_FILE
from sagd_cli.system.console import Output

CONFIG, CHECKPOINTS = "config.yaml", "checkpoints"
FORMAT = 1
MANIFEST = "manifest.json"


def has_run(path: Path) -> bool:
    """Whether the folder `path` holds a run."""
    return (path / CONFIG).is_file()


def run_files(path: Path) -> Iterator[Path]:
    """Yield the files that make the folder `path` a run: configuration, metrics and checkpoints."""
    yield from (path / CONFIG, path / METRICS_FILE)
    yield from (path / CHECKPOINTS).rglob("*")


class NewerVersionError(CheckpointError):
    """The checkpoint was written by a newer version, in a format that this version does not know."""


class FileRecord(Document):
    """Size in bytes and hash of one file of a checkpoint."""

    size: int
    sha256: str


class PluginRecord(Document):
    """A plug-in that a run needs, with its distribution and version."""

    kind: str
    name: str
    distribution: str
    version: str


class Manifest(Document):
    """The manifest of a checkpoint: all that it holds besides its tensors.

    `shape` is (C, *spatial) of the data. `trained_filter` is the learned filter, or None when the filter is fixed.
    `precision` is what the network was trained in, fp32 or bf16, last. `init` says what weights it started from, None
    for random ones. `latents` tells of the autoencoder of data that are latents. Early versions did not write `dtype`,
    `images_sha256`, `classes` and `precision`; an imported model whose data are not known has no `images_sha256`.
    """

    format: int
    step: int
    shape: list[int]
    dtype: str = "uint8"
    images_sha256: str | None = None
    classes: dict[str, Any] | None = None
    precision: str | None = None
    init: dict[str, Any] | None = None
    latents: dict[str, Any] | None = None
    config: dict[str, Any]
    filter_sha256: str
    trained_filter: dict[str, Any] | None = None
    versions: dict[str, str]
    plugins: list[PluginRecord]
    files: dict[str, FileRecord]
    digest: str


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose hashes have been verified."""

    path: Path
    manifest: Manifest

    @property
    def step(self) -> int:
        """Optimiser steps done."""
        return self.manifest.step

    @property
    def config(self) -> RunConfig:
        """The configuration it was trained with; raises ConfigError when this version does not know it."""
        return validate(RunConfig, self.manifest.config, str(self.path))

    @property
    def filter(self) -> FilterConfig:
        """The filter to sample with: the fixed one, or the one that was learned."""
        document = self.manifest.trained_filter or self.manifest.config["filter"]
        return validate(FilterConfig, document, str(self.path))


def described(
    config: RunConfig, images: NDArray[Any], classes: dict[str, Any] | None, known: KnownHash | None = None
) -> dict[str, Any]:
    """Return the part of a manifest that describes a training: its data, settings, versions and plug-ins.

    `images` are (N, C, *spatial); `classes` is the document of their classes, or None. `known` may know their hash.
    """
    needed = {"filter": config.filter.type, "dataset": config.dataset.name, "backbone": config.backbone.name}
    entries = [registry().entry(kind, name) for kind, name in needed.items()]
    return {
        "shape": list(images.shape[1:]),
        "dtype": str(images.dtype),
        "images_sha256": hash_images(images) if known is None else known.of(images),
        "classes": classes,
        "config": config.document(),
        "filter_sha256": config.filter.sha256(),
        "versions": {
            "sagd": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "diffusers", "numpy")},
        },
        "plugins": [
            {
                "kind": entry.kind,
                "name": entry.name,
                "distribution": entry.provider.distribution,
                "version": entry.provider.version,
            }
            for entry in entries
        ],
    }


def path_of(folder: Path, step: int) -> Path:
    """Return the path of the checkpoint of `step` in `folder`."""
    return folder / f"step-{step:08d}"


def temporary_path(folder: Path, step: int, purpose: str) -> Path:
    """Return a temporary path for a checkpoint that is being written or removed.

    `prune` removes such paths of dead processes.
    """
    return folder / f".tmp-{step:08d}-{purpose}-{os.getpid()}"


def _steps(folder: Path) -> list[int]:
    """Return the steps that have a checkpoint, sound or not, in order. A copy under another name does not count."""
    names = [re.fullmatch(r"step-(\d{8,})", path.name) for path in folder.glob("step-*")]
    return sorted(int(name[1]) for name in names if name)


def prune(folder: Path, keep: int, milestone_steps: int | None = None) -> None:
    """Remove all checkpoints but the newest `keep` and those at multiples of `milestone_steps`.

    Also remove what dead processes left half written or half removed.
    """
    for step in _steps(folder)[:-keep]:
        if milestone_steps is None or step % milestone_steps:
            with suppress(OSError):  # renamed first, as a checkpoint that is half removed would look damaged
                path_of(folder, step).rename(temporary_path(folder, step, "old"))
    for path in folder.glob(".tmp-*"):
        shutil.rmtree(path, ignore_errors=True)


def set_aside_newer(folder: Path, step: int) -> None:
    """Rename the checkpoints past `step`, which were found damaged. They no longer count, but their files are kept."""
    for newer in _steps(folder):
        if newer > step:
            path = path_of(folder, newer)
            path.rename(path.with_name(f"damaged-{path.name}-{time.time_ns()}"))


def has_checkpoints(folder: Path) -> bool:
    """Whether there is any checkpoint in `folder`, sound or not."""
    return bool(_steps(folder))


def newest(folder: Path, output: Output) -> Checkpoint | None:
    """Return the newest sound checkpoint, or None; warn of each newer one that is damaged.

    Raises NewerVersionError when a checkpoint has a later format. To go on from an older one would discard the steps
    trained since.
    """
    for path in (path_of(folder, step) for step in reversed(_steps(folder))):
        try:
            return Checkpoint(path, _verified(path))
        except NewerVersionError:
            raise
        except CheckpointError as error:
            output.warn(f"skipped: {error.message}")
    return None


def _verified(path: Path) -> Manifest:
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        if manifest["digest"] != digest(manifest):
            raise CheckpointError(f"{path} is damaged: the manifest does not match its own hash")
        if manifest["format"] > FORMAT:
            raise NewerVersionError(f"{path} was written by a newer version of sagd", "Update sagd.")
        read = validate(Manifest, manifest, MANIFEST)
        recorded, found = manifest["files"], describe_files(path)
    except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
        raise CheckpointError(f"{path} is damaged: its manifest cannot be read ({error})") from None
    for name in sorted({*recorded, *found}):
        if recorded.get(name) != found.get(name):
            raise CheckpointError(f"{path} is damaged: {name} does not match its recorded hash")
    return read


def digest(manifest: dict[str, Any]) -> str:
    """Return the hash of a manifest without its own `digest`."""
    body = {key: value for key, value in manifest.items() if key != "digest"}
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def describe_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the size in bytes and the hash of each tensor file of a checkpoint, by file name."""
    return {
        path.name: {"size": path.stat().st_size, "sha256": _sha256(path)}
        for path in sorted(folder.glob("*.safetensors"))
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_checkpoint(run: Path, output: Output) -> Checkpoint:
    """Return a run's newest sound checkpoint, and warn of newer ones that were skipped.

    Raises UsageError when `run` is not a run. Raises CheckpointError when it holds no sound checkpoint. Raises
    PluginError when it needs a plug-in that is not installed.
    """
    if not has_run(run):
        raise UsageError(f"{run} is not a run: it has no {CONFIG}", "Train one with `sagd train`.")
    found = newest(run / CHECKPOINTS, output)
    if found is None:
        hint = "Run the same `sagd train` command again to train it."
        raise CheckpointError(f"{run} holds no sound checkpoint", hint)
    _check_plugins(found.manifest.plugins)
    return found


def _check_plugins(needed: Sequence[PluginRecord]) -> None:
    """Raise PluginError, which says what to install, when a plug-in in `needed` is missing."""
    for item in needed:
        if item.name not in registry().names(item.kind):
            source = f"{item.distribution} {item.version}".strip()
            raise PluginError(
                f"the run needs the {item.kind} {item.name!r} of {source}, which is not installed or not enabled",
                f"Install {source}, or name its file with --plugin.",
            )


@dataclass(frozen=True)
class RunFilter:
    """The filter of a run, the filter its training started from, and the spatial shape of its fields."""

    filter: FilterConfig
    initial: FilterConfig
    shape: tuple[int, ...]

    @property
    def is_learned(self) -> bool:
        """Whether training has changed the filter."""
        return self.filter != self.initial


def read_run_filter(run: Path, output: Output) -> RunFilter:
    """Return the filter of a run; raises what `open_checkpoint` raises."""
    found = open_checkpoint(run, output)
    initial = validate(FilterConfig, found.manifest.config["filter"], str(found.path))
    return RunFilter(found.filter, initial, tuple(found.manifest.shape[1:]))
