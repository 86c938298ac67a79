"""Images from a trained run: one seed an image, whatever the batch size (MATH: 5. Sampling)."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sagd_cli.console import Output
from sagd_cli.design.advice import warn_of_terminal_snr
from sagd_cli.devices import autocast_dtype
from sagd_cli.diffusion.denoiser import NetworkDenoiser, as_network
from sagd_cli.diffusion.grids import path
from sagd_cli.diffusion.prediction import Prediction, make_prediction
from sagd_cli.diffusion.samplers import SAMPLERS, Sampler, integrate
from sagd_cli.diffusion.schedule import make_schedule
from sagd_cli.errors import SagdError, UsageError, suggest
from sagd_cli.files import atomic_path, refuse_existing
from sagd_cli.images import check_output_folder, contact_sheet, write_array
from sagd_cli.spectral.noise import SpectralNoise, random_stream
from sagd_cli.training.checkpoint import has_moments, load_filter, load_moments
from sagd_cli.training.data import to_pixels
from sagd_cli.training.run import Run

GRID_IMAGES = 100
ARCHIVE = "samples.npz"


class ImageGenerator:
    """Draws images from a run with its own filter, schedule and averaged weights."""

    def __init__(
        self,
        run: Run,
        sampler: str,
        evaluations: int,
        device: torch.device,
        spacing: str | None = None,
        amounts: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """Load the run's network; `spacing` is the run's unless given, `amounts` are ddim's `eta` or heun's `churn`.

        Raises UsageError for an unknown sampler and for an amount that the sampler does not take, ConfigError for an
        unknown spacing.
        """
        self._sampler = find_sampler(sampler, amounts)
        self._amount = amounts.get(self._sampler.amount, 0.0)
        steps = self._sampler.steps(evaluations)
        self._schedule = schedule = make_schedule(run.config.schedule, device)
        self._run = run
        self._noise = SpectralNoise(load_filter(run.checkpoint), device)
        network = as_network(run.network(device), autocast_dtype(run.config.training.precision, device))
        # A filter with gaps leaves band-limited fields, which have no range of their own.
        clip = self._noise.filter.is_complete
        prediction = _prediction(run, self._noise)
        self._denoiser = NetworkDenoiser(network, schedule, self._noise, prediction, clip)
        self._levels = path(schedule, steps, device, spacing or run.config.sampling.spacing)
        self._shape, self._device, self._steps = run.shape, device, steps
        self.evaluations = self._sampler.evaluations(steps)

    def warn_of_terminal_snr(self, output: Output) -> None:
        """Warn where the run's data still showed through its noise at t = 1; early runs did not keep their spectrum."""
        if has_moments(self._run.checkpoint):
            power = load_moments(self._run.checkpoint)["power_about_mean"]
            warn_of_terminal_snr(self._noise.filter, power, self._run.config.schedule, output)

    @torch.inference_mode()
    def draw(self, seeds: range, on_step: Callable[[], None] = lambda: None) -> NDArray[np.uint8]:
        """Return one uint8 image (C, *spatial) a seed; image i depends on seed i alone.

        Frequencies that the run's filter gives no noise are zero in the image, before rounding.
        """
        streams = [random_stream(self._device, seed, "sample") for seed in seeds]
        shape = (len(seeds), *self._shape)

        def draw() -> torch.Tensor:
            return self._noise.draw(shape, streams)

        start = self._levels[0].sigma * draw()
        step = self._sampler.make(draw, self._amount, self._steps)
        drawn = integrate(self._denoiser, step, start, self._levels, on_step)
        # Rounding in the frequencies without noise grows by 1 / alpha_T on the way: put them back to zero.
        drawn = self._noise.project(drawn)
        if not bool(torch.isfinite(drawn).all()):
            raise SagdError(
                "the network gave values that are not finite", "The training has diverged; lower --lr."
            )
        return to_pixels(drawn)

    def batches(
        self, seeds: range, batch_size: int, output: Output
    ) -> Iterator[tuple[range, NDArray[np.uint8]]]:
        """Yield (seeds, images) for all `seeds`, with progress counted in steps."""
        parts = [seeds[i : i + batch_size] for i in range(0, len(seeds), batch_size)]
        with output.progress("sample", len(parts) * self._steps, 0, len(parts[0]) / self._steps) as bar:
            for part in parts:
                yield part, self.draw(part, bar.advance)


def find_sampler(name: str, amounts: Mapping[str, float]) -> Sampler:
    """Return the sampler called `name`; raise UsageError when there is none, or when it takes no such amount."""
    if name not in SAMPLERS:
        raise UsageError(f"unknown sampler {name!r}", suggest(name, SAMPLERS))
    for amount in amounts:
        if amount != SAMPLERS[name].amount:
            takers = [key for key, known in SAMPLERS.items() if known.amount == amount]
            raise UsageError(f"the sampler {name} takes no --{amount}", f"It belongs to {', '.join(takers)}.")
    return SAMPLERS[name]


def _prediction(run: Run, noise: SpectralNoise) -> Prediction:
    """What the run's network predicts; the EDM ones need the spectrum of its data."""
    name = run.config.prediction
    power = load_moments(run.checkpoint)["power"] if name.startswith("edm") else np.zeros(0)
    return make_prediction(name, power, noise)


@dataclass(frozen=True)
class SampleTarget:
    """Where samples go: a folder of PNG files or a folder with one samples.npz, and perhaps a contact sheet."""

    folder: Path
    format: str = "png"
    grid: Path | None = None
    force: bool = False

    def name(self, seed: int) -> str:
        """Name of the PNG file of a seed."""
        return f"{seed:06d}.png"

    def check(self, shape: tuple[int, ...], seeds: range) -> None:
        """Raise UsageError, before anything is drawn, when images of `shape` cannot go there."""
        if self.format not in ("png", "npz"):
            raise UsageError(f"unknown format {self.format!r}", "Formats are png and npz.")
        drawable = len(shape) == 3 and shape[0] in (1, 3)
        if not drawable and (self.format == "png" or self.grid is not None):
            raise UsageError(
                f"fields of shape {shape} cannot be drawn as images", "Use --format npz without --grid."
            )
        if self.grid is not None:
            if self.grid.suffix.lower() != ".png":
                raise UsageError(f"the contact sheet {self.grid} must be a .png file")
            if self.grid.resolve().parent == self.folder.resolve():
                raise UsageError(
                    "the contact sheet would lie among the images", "Choose another folder for --grid."
                )
            refuse_existing(self.grid, self.force)
        names = [ARCHIVE] if self.format == "npz" else map(self.name, seeds)
        check_output_folder(self.folder, names, self.force)


def save_samples(
    generator: ImageGenerator, seeds: range, batch_size: int, target: SampleTarget, output: Output
) -> None:
    """Draw one image a seed and write them where the checked `target` says."""
    target.folder.mkdir(parents=True, exist_ok=True)
    kept: list[NDArray[np.uint8]] = []
    for part, pixels in generator.batches(seeds, batch_size, output):
        if target.format == "png":
            for seed, image in zip(part, pixels, strict=True):
                write_array(image, target.folder / target.name(seed))
        if target.format == "npz" or (target.grid is not None and sum(map(len, kept)) < GRID_IMAGES):
            kept.append(pixels)
    if target.format == "npz":
        with atomic_path(target.folder / ARCHIVE) as temporary:
            np.savez_compressed(temporary, images=np.concatenate(kept), seeds=np.array(seeds))
    if target.grid is not None:
        target.grid.parent.mkdir(parents=True, exist_ok=True)
        write_array(contact_sheet(np.concatenate(kept)[:GRID_IMAGES]), target.grid)


def describe(
    run: Run, generator: ImageGenerator, sampler: str, seeds: range, target: SampleTarget
) -> dict[str, Any]:
    """Return the JSON object of `sagd sample` (CLI: JSON)."""
    return {
        "output": str(target.folder),
        "count": len(seeds),
        "sampler": sampler,
        "steps": generator.evaluations,
        "seeds": [seeds.start, seeds.stop - 1],
        "filter_sha256": run.filter.sha256(),
    }
