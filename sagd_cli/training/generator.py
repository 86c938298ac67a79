"""Drawing images from a trained run: one seed an image, whatever the batch size (MATH: 5. Sampling)."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sagd_cli.config import SamplingConfig, validate
from sagd_cli.console import Output
from sagd_cli.design.advice import warn_of_terminal_snr
from sagd_cli.devices import autocast_dtype
from sagd_cli.diffusion.denoiser import NetworkDenoiser, as_network, guided
from sagd_cli.diffusion.grids import path
from sagd_cli.diffusion.prediction import Network, Prediction, make_prediction
from sagd_cli.diffusion.samplers import SAMPLERS, integrate
from sagd_cli.diffusion.schedule import make_schedule
from sagd_cli.errors import SagdError, UsageError
from sagd_cli.spectral.noise import SpectralNoise, random_stream
from sagd_cli.training.checkpoint import has_moments, load_filter, load_moments
from sagd_cli.training.data import to_pixels
from sagd_cli.training.run import Run


class ImageGenerator:
    """Draws images from a run with its own filter, schedule and averaged weights."""

    def __init__(
        self, run: Run, sampling: SamplingConfig, device: torch.device, classes: str | None = None
    ) -> None:
        """Load the run's network, to sample with as `sampling` says; see `sampling_of`.

        Of a run on classes, those of NAME[,NAME...] are drawn in turn, by seed; without any, as often as in the data.
        Raises UsageError for a class that the run does not know and for guidance that it is not made for.
        """
        _check_guidance(run, classes, sampling.guidance)
        self.sampling = sampling = sampling.resolved(run.config.schedule)
        self._sampler = SAMPLERS[sampling.sampler]
        steps = self._sampler.steps(sampling.steps)
        self._schedule = schedule = make_schedule(run.config.schedule, device)
        self._run = run
        self._noise = SpectralNoise(load_filter(run.checkpoint), device)
        self._autocast = autocast_dtype(run.config.training.precision, device)
        self.classes = run.classes
        self.chosen = [] if self.classes is None or classes is None else self.classes.chosen(classes)
        self._module = run.network(device)
        # A filter with gaps leaves band-limited fields, which have no range of their own; nor do float data.
        self._clip = self._noise.filter.is_complete and run.has_pixels
        self._prediction = _prediction(run, self._noise)
        self._levels = path(schedule, steps, device, sampling.spacing)
        self._shape, self._device, self._steps = run.shape, device, steps
        self.evaluations = self._sampler.evaluations(steps)
        self.network_evaluations = self.evaluations * (1 if sampling.guidance in (0, 1) else 2)

    def warn_of_terminal_snr(self, output: Output) -> None:
        """Warn where the run's data still showed through its noise at t = 1; early runs did not keep their spectrum."""
        if has_moments(self._run.checkpoint):
            power = load_moments(self._run.checkpoint)["power_about_mean"]
            warn_of_terminal_snr(self._noise.filter, power, self._run.config.schedule, output)

    def draw(self, seeds: range, on_step: Callable[[], None] = lambda: None) -> NDArray[Any]:
        """Return one image (C, *spatial) a seed, uint8, or float32 of a run on float data.

        Image i depends on seed i alone.
        """
        signals = self.signals(seeds, on_step)
        return to_pixels(signals) if self._run.has_pixels else signals.cpu().numpy()

    @torch.inference_mode()
    def signals(self, seeds: range, on_step: Callable[[], None] = lambda: None) -> torch.Tensor:
        """Return the images of `draw` before rounding, float32; images have the range [-1, 1], float data their own.

        Frequencies that the run's filter gives no noise are zero.
        """
        streams = [random_stream(self._device, seed, "sample") for seed in seeds]
        shape = (len(seeds), *self._shape)

        def draw() -> torch.Tensor:
            return self._noise.draw(shape, streams)

        start = self._levels[0].sigma * draw()
        amount = getattr(self.sampling, self._sampler.amount) if self._sampler.amount else 0.0
        step = self._sampler.make(draw, amount, self._steps)
        network = self._network(self.labels(seeds), len(seeds))
        denoiser = NetworkDenoiser(network, self._schedule, self._noise, self._prediction, self._clip)
        drawn = integrate(denoiser, step, start, self._levels, on_step)
        # Rounding in the frequencies without noise grows by 1 / alpha_T on the way: put them back to zero.
        drawn = self._noise.project(drawn)
        if not bool(torch.isfinite(drawn).all()):
            raise SagdError(
                "the network gave values that are not finite", "The training has diverged; lower --lr."
            )
        return drawn

    def labels(self, seeds: range) -> NDArray[np.int64] | None:
        """Return the class of each seed (B,), or None where none is asked for."""
        if self.classes is None or self.sampling.guidance == 0:
            return None
        return np.array([self.classes.of_seed(seed, self.chosen) for seed in seeds], dtype=np.int64)

    def _network(self, labels: NDArray[np.int64] | None, count: int) -> Network:
        """The network for a batch of `count` images, of these classes and guided, or of none."""
        if self.classes is None:
            return as_network(self._module, self._autocast)
        no_class = torch.full((count,), len(self.classes), device=self._device)
        unconditional = as_network(self._module, self._autocast, no_class)
        if labels is None:
            return unconditional
        conditional = as_network(self._module, self._autocast, torch.from_numpy(labels).to(self._device))
        scale = self.sampling.guidance
        return conditional if scale == 1 else guided(conditional, unconditional, scale)

    def batches(self, seeds: range, batch_size: int, output: Output) -> Iterator[tuple[range, NDArray[Any]]]:
        """Yield (seeds, images) for all `seeds`, with progress counted in steps."""
        parts = [seeds[i : i + batch_size] for i in range(0, len(seeds), batch_size)]
        with output.progress("sample", len(parts) * self._steps, 0, len(parts[0]) / self._steps) as bar:
            for part in parts:
                yield part, self.draw(part, bar.advance)


def sampling_of(run: Run, chosen: Mapping[str, Any]) -> SamplingConfig:
    """Return how to sample from a run: as it is set to, but for what is `chosen`, keys of SamplingConfig.

    Raises ConfigError for a setting that cannot be, UsageError for the amount of another sampler than the one chosen.
    """
    sampling = validate(SamplingConfig, {**run.config.sampling.document(), **chosen}, "sampling")
    amounts = {record.amount for record in SAMPLERS.values() if record.amount}
    for amount in amounts & chosen.keys() - {SAMPLERS[sampling.sampler].amount}:
        takers = ", ".join(name for name, record in SAMPLERS.items() if record.amount == amount)
        raise UsageError(f"the sampler {sampling.sampler} takes no --{amount}", f"It belongs to {takers}.")
    return sampling


def _check_guidance(run: Run, classes: str | None, guidance: float) -> None:
    """Raise UsageError when the run knows no classes, or no images without one, and is asked for them."""
    if run.classes is None and (classes is not None or guidance != 1):
        raise UsageError(
            f"{run.path} was trained without classes",
            "Leave out --class and --guidance, or train with --class-conditional on labelled data.",
        )
    if run.classes is not None and guidance != 1 and not run.config.training.label_dropout:
        raise UsageError(
            f"{run.path} was trained with label_dropout 0, so it knows no images without a class to guide away from",
            "Give --guidance 1.",
        )
    if guidance == 0 and classes is not None:
        raise UsageError("guidance 0 leaves classes out, so none can be chosen", "Leave out --class.")


def _prediction(run: Run, noise: SpectralNoise) -> Prediction:
    """What the run's network predicts; the EDM ones need the spectrum of its data."""
    name = run.config.prediction
    power = load_moments(run.checkpoint)["power"] if name.startswith("edm") else np.zeros(0)
    return make_prediction(name, power, noise)
