"""A run folder: what it holds, whether a training may use it, and how it is opened for reading."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sagd_cli.config.filter import FilterConfig
from sagd_cli.config.layers import differing_keys
from sagd_cli.config.run import RunConfig
from sagd_cli.config.validation import validate
from sagd_cli.diffusion.catalogue import PREDICTIONS
from sagd_cli.errors import UsageError
from sagd_cli.model.classes import Classes
from sagd_cli.model.model import Model
from sagd_cli.model.network import build_backbone, seen_shape
from sagd_cli.plugin.registry import registry
from sagd_cli.run import checkpoint
from sagd_cli.run.log import METRICS_FILE
from sagd_cli.run.manifest import CONFIG, Checkpoint, has_run, open_checkpoint
from sagd_cli.spectral.grid import Array
from sagd_cli.system.console import Output
from sagd_cli.system.files import try_lock, write_text
from sagd_cli.system.yaml import dump_yaml, read_mapping

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
        """The filter to sample with: the fixed one, or the one that was learned."""
        return self.checkpoint.filter

    @property
    def dtype(self) -> np.dtype:
        """The type of its data: uint8 or a floating type."""
        return np.dtype(self.checkpoint.manifest.dtype)

    @property
    def classes(self) -> Classes | None:
        """The classes it was trained on, or None without classes."""
        document = self.checkpoint.manifest.classes
        return None if document is None else Classes.read(document)

    @property
    def latents(self) -> dict[str, Any] | None:
        """What its data tell of the autoencoder that made them, None of data that are not latents."""
        return self.checkpoint.manifest.latents

    def model(self, device: torch.device, ema_images: int | None = None) -> Model:
        """Return the trained model on `device`, with the average of half-life `ema_images` (None: the run's first).

        Raises UsageError, which lists the averages, when the run keeps no such average.
        """
        half_lives = self.config.training.ema_half_life_images
        ema_images = half_lives[0] if ema_images is None else ema_images
        if ema_images not in half_lives:
            kept = ", ".join(map(str, half_lives))
            raise UsageError(
                f"{self.path} keeps no average of a half-life of {ema_images} images", f"There are: {kept}."
            )
        shape = seen_shape(self.config, self.shape)
        network = build_backbone(self.config.backbone, shape, len(self.classes or ()))
        name = checkpoint.ema_names(half_lives)[ema_images]
        return Model(
            name=str(self.path),
            config=self.config,
            network=checkpoint.load_ema(self.checkpoint, network, name).to(device),
            ema_images=ema_images,
            filter=checkpoint.load_filter(self.checkpoint),
            shape=self.shape,
            dtype=self.dtype,
            classes=self.classes,
            moments=self._moments(),
            precision=self.checkpoint.manifest.precision,
        )

    def _moments(self) -> dict[str, Array]:
        """Return the mean image and the spectra of the data. An early run that kept none and needs none gives none."""
        if PREDICTIONS[self.config.prediction].needs_power or checkpoint.has_moments(self.checkpoint):
            return checkpoint.load_moments(self.checkpoint)
        return {}


def names_run(text: str) -> bool:
    """Whether `text` names the folder of a run. The name of a data set never does, but ./NAME may."""
    try:
        return text not in registry().names("dataset") and has_run(Path(text))
    except (OSError, ValueError):
        return False


def open_run(path: Path, output: Output) -> Run:
    """Open the run at `path`.

    Raises UsageError when `path` is not a run, or when its config.yaml has other settings than the checkpoint was
    trained with. Raises CheckpointError when it holds no sound checkpoint.
    """
    found = open_checkpoint(path, output)
    written = read_config(path)
    check_same_filter(written.filter.sha256(), found.manifest.filter_sha256, f"{path / CONFIG} names")
    refuse_other_settings(path, written, found.config)
    return Run(path, written, found, tuple(found.manifest.shape))


def refuse_other_settings(
    path: Path, given: RunConfig, trained: RunConfig, same_images: bool = False
) -> None:
    """Raise UsageError, which names the settings of training that differ, when there are any.

    With `same_images`, the data may be named otherwise: what counts is what they are.
    """
    keys = differing_settings(given, trained)
    differing = [key for key in keys if not (same_images and key.startswith("dataset."))]
    if differing:
        raise UsageError(
            f"{path} was trained with other settings: {', '.join(differing)} differ",
            "Give the run's own settings, as they were, choose another --output, or say --allow-config-change.",
        )


def differing_settings(given: RunConfig, trained: RunConfig) -> list[str]:
    """Return the keys of the settings that differ, except those of sampling and of the clock, which may be changed."""
    keys = differing_keys(given.identity(), trained.identity())
    return [key for key in keys if not key.startswith("sampling.")]


def check_same_filter(wanted: str, trained: str, subject: str) -> None:
    """Raise UsageError, with both hashes, when the filter `wanted` is not the filter the run was `trained` with.

    `subject` begins the message and says who names the filter.
    """
    if wanted != trained:
        raise UsageError(
            f"{subject} another filter ({wanted[:12]}) than the checkpoint was trained with ({trained[:12]})",
            "A model sampled with other noise than it was trained with gives wrong spectra; train one for it.",
        )


def check_folder(path: Path, config: RunConfig, allow_change: bool, images_are_known: bool = False) -> None:
    """Raise UsageError when `path` holds something other than a run.

    Without `allow_change`, also raise UsageError when it is a run with other settings than `config`. When
    `images_are_known` by their hash, which the caller compares, the data may be named otherwise.
    """
    if has_run(path) and not allow_change:
        refuse_other_settings(path, config, read_config(path), images_are_known)
    elif not has_run(path) and path.exists() and not _is_unused(path):
        raise UsageError(f"{path} exists and is not a run", "Choose another --output.")


def _is_unused(path: Path) -> bool:
    """Whether the folder is empty, or holds only the files of a training that was killed before its first step."""
    names = {item.name for item in path.iterdir()} if path.is_dir() else {"a file"}
    return names - {item.name for item in _half_written(path)} <= {LOCK}


def _half_written(path: Path) -> list[Path]:
    """Return the temporary files of config.yaml and metrics.jsonl that a killed process left."""
    return [left for name in (CONFIG, METRICS_FILE) for left in path.glob(f".sagd-*{Path(name).suffix}")]


def read_config(path: Path) -> RunConfig:
    """Read config.yaml of the run `path`; raise ConfigError when it is not valid."""
    return validate(RunConfig, read_mapping(path / CONFIG), str(path / CONFIG))


def write_config(path: Path, config: RunConfig) -> None:
    """Write config.yaml into the run `path`, whole or not at all."""
    write_text(path / CONFIG, dump_yaml(config.document()))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lock the run `path` until the block ends; make the folder if it is missing.

    Raises UsageError when another process has locked it.
    """
    path.mkdir(parents=True, exist_ok=True)
    with try_lock(path / LOCK) as held:
        if not held:
            raise UsageError(f"another process is training {path}", "Wait for it or choose --output.")
        for left in _half_written(path):
            left.unlink()
        yield
