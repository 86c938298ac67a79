"""Images from a trained run: one seed an image, whatever the batch size (MATH: 5. Sampling)."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from sagd_cli.console import Output
from sagd_cli.devices import autocast_dtype
from sagd_cli.diffusion.denoiser import NoiseDenoiser, as_network
from sagd_cli.diffusion.samplers import SAMPLERS, integrate, path
from sagd_cli.diffusion.schedule import make_schedule
from sagd_cli.errors import UsageError, suggest
from sagd_cli.spectral.noise import SpectralNoise, random_stream
from sagd_cli.training.data import to_pixels
from sagd_cli.training.run import Run


class Generator:
    """Draws images from a run with its own filter, schedule and averaged weights."""

    def __init__(self, run: Run, sampler: str, steps: int, device: torch.device) -> None:
        """Load the run's network; raise UsageError for an unknown sampler."""
        if sampler not in SAMPLERS:
            raise UsageError(f"unknown sampler {sampler!r}", suggest(sampler, SAMPLERS))
        schedule = make_schedule(run.config.schedule, device)
        self._noise = SpectralNoise(run.checkpoint.load_filter(), device)
        network = as_network(run.network(device), autocast_dtype(run.config.training.precision, device))
        self._denoiser = NoiseDenoiser(network, schedule, self._noise)
        self._levels = path(schedule, steps, device)
        self._sampler, self._shape, self._device = sampler, run.shape, device
        self.steps = steps

    @torch.inference_mode()
    def draw(self, seeds: range, on_step: Callable[[], None] = lambda: None) -> NDArray[np.uint8]:
        """Return one uint8 image (C, *spatial) a seed; image i depends on seed i alone."""
        streams = [random_stream(self._device, seed, "sample") for seed in seeds]
        shape = (len(seeds), *self._shape)

        def draw() -> torch.Tensor:
            return self._noise.draw(shape, streams)

        start = self._levels[0].sigma * draw()
        step = SAMPLERS[self._sampler](draw)
        return to_pixels(integrate(self._denoiser, step, start, self._levels, on_step))

    def batches(self, count: int, seed: int, batch_size: int, output: Output) -> Iterator[tuple[range, NDArray[np.uint8]]]:
        """Yield (seeds, images) for seeds `seed` to `seed + count - 1`, with progress."""
        starts = range(seed, seed + count, batch_size)
        with output.progress("sample", len(starts) * self.steps, 0, max(1, batch_size // self.steps)) as bar:
            for start in starts:
                seeds = range(start, min(start + batch_size, seed + count))
                yield seeds, self.draw(seeds, bar.advance)
