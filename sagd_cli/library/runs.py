"""Trained runs, opened to draw from (docs/theory.md, section 5)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sagd_cli.config.run import RunConfig
from sagd_cli.errors import UsageError
from sagd_cli.model.model import Model
from sagd_cli.run.folder import open_run
from sagd_cli.sampling.generator import ImageGenerator, sampling_of
from sagd_cli.spectral.filter import SpectralFilter
from sagd_cli.system.console import Output
from sagd_cli.system.devices import choose_device

AT_ONCE = 250


@dataclass(frozen=True)
class LoadedRun:
    """A trained run on its device."""

    path: Path
    model: Model

    @property
    def config(self) -> RunConfig:
        """The configuration it was trained with."""
        return self.model.config

    @property
    def filter(self) -> SpectralFilter:
        """The filter of its noise: the fixed one, or the one that was learned."""
        return self.model.filter

    def sample(
        self, n: int, *, seed: int = 0, classes: str | None = None, batch_size: int = AT_ONCE, **settings: Any
    ) -> NDArray[Any]:
        """Draw `n` images (n, C, *spatial): uint8, or float32 of a run on float data.

        Image i depends on `seed` + i alone, not on `n` or `batch_size`. `classes` is NAME[,NAME...] for a run with
        classes. `settings` are keys of SamplingConfig, such as sampler="heun" and steps=50; the others are the run's
        own. fill="prior" is for the command line alone. Raises ConfigError for an unknown or invalid setting. Raises
        UsageError for n or `batch_size` below 1, and for a setting or a class that the run does not support.
        """
        for name, value in (("n", n), ("batch_size", batch_size)):
            if value < 1:
                raise UsageError(f"{name} is at least 1, not {value}")
        generator = ImageGenerator(self.model, sampling_of(self.config, settings), classes)
        parts = generator.batches(range(seed, seed + n), batch_size, Output(quiet=True))
        return np.concatenate([images for _, images in parts])


def load(path: Path | str, device: str = "auto", ema_images: int | None = None) -> LoadedRun:
    """Open the run folder `path` on `device`: auto, cpu, cuda or cuda:N.

    `ema_images` is the half-life of the averaged weights, in images; the run's first by default. Raises UsageError
    when there is no run or no such average, PluginError when a plug-in of it is missing, and CheckpointError when no
    checkpoint in it is sound.
    """
    run = open_run(Path(path), Output(quiet=True))
    return LoadedRun(run.path, run.model(choose_device(device), ema_images))
