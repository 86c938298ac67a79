"""Drawing images from a trained run: one seed per image, whatever the batch size (docs/theory.md, section 5)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sagd_cli.config.run import RunConfig, SamplingConfig
from sagd_cli.config.validation import validate
from sagd_cli.data.tensors import tensor_pixels
from sagd_cli.datasets.alike import is_drawable
from sagd_cli.design.advice import warn_of_terminal_snr
from sagd_cli.diffusion.catalogue import PREDICTIONS, SAMPLERS
from sagd_cli.diffusion.denoiser import NetworkDenoiser, as_network, guided
from sagd_cli.diffusion.prediction import Network, Prediction, make_prediction
from sagd_cli.diffusion.process import ForwardProcess
from sagd_cli.diffusion.samplers import integrate, make_sampler
from sagd_cli.diffusion.schedule import make_schedule
from sagd_cli.diffusion.time_grids import sampling_levels
from sagd_cli.errors import SagdError, UsageError
from sagd_cli.latents.autoencoder import Autoencoder
from sagd_cli.model.model import Model, seen_power
from sagd_cli.spectral.noise import SpectralNoise, random_stream
from sagd_cli.system.console import Output
from sagd_cli.system.devices import autocast_dtype, exact_arithmetic, trained_precision

RESOLVED = ("precision", "noise_device")  # settings whose auto depends on the device; they are no options


@dataclass(frozen=True)
class Prior:
    """Draws the frequencies that a filter leaves out, given the rest of the image.

    `fill(images, seeds)` returns the images (B, C, *spatial) with these frequencies filled in. Each result is a
    function of its image and its seed. `name`: what messages and folders call the prior. `evaluations`: network
    evaluations per image. `digest`: a hash of its weights.
    """

    name: str
    fill: Callable[[torch.Tensor, Sequence[int]], torch.Tensor]
    evaluations: int
    digest: str = ""


class ImageGenerator:
    """Draws images from a model with its own filter, schedule and averaged weights."""

    def __init__(
        self,
        model: Model,
        sampling: SamplingConfig,
        classes: str | None = None,
        prior: Prior | None = None,
        decoder: Autoencoder | None = None,
    ) -> None:
        """Sample from `model` as `sampling` says; see `sampling_of`.

        `classes` is NAME[,NAME...]: successive seeds take these classes in turn. Without it, each class is drawn as
        often as it is in the data. `prior` is needed for `fill="prior"` and only for it. `decoder` makes images of
        what is drawn. Raises UsageError for a class that the model does not know, for guidance that it was not trained
        for, for a fill when the filter leaves nothing out, for the mean image when the run did not keep it, and for
        latents that the decoder does not take.
        """
        _check_purpose(model)
        _check_guidance(model, classes, sampling.guidance)
        _check_fill(model, sampling.fill, prior)
        device = model.device
        self.sampling = sampling = sampling.resolved(model.config.schedule)
        self._sampler = SAMPLERS[sampling.sampler]
        schedule = make_schedule(model.config.schedule, device)
        self.model = model
        self._noise = SpectralNoise(model.filter, device)
        self._process = ForwardProcess(schedule, self._noise)
        precision = _precision(model) if sampling.precision == "auto" else sampling.precision
        self._autocast = autocast_dtype(precision, device, model.network)
        self._noise_device = (
            device if sampling.noise_device == "auto" else torch.device(sampling.noise_device)
        )
        self.classes = model.classes
        self.chosen = [] if self.classes is None or classes is None else self.classes.chosen(classes)
        # x0 is clipped only where images have a range: neither band-limited fields nor float data have one.
        self._clip = self._noise.filter.is_complete and model.has_pixels
        self.fill = None if self._noise.filter.is_complete else sampling.fill or "zero"
        self.prior, self.decoder = prior, decoder
        # What is drawn: the images of the decoder, or fields like the data.
        self.shape = model.shape if decoder is None else decoder.image_shape(model.shape)
        self.dtype = model.dtype if decoder is None else np.dtype(np.uint8)
        self._prediction = _prediction(model, self._noise)
        steps = self._sampler.steps(sampling.steps)
        self._levels = sampling_levels(schedule, steps, device, sampling.spacing)
        self._device, self._steps = device, len(self._levels) - 1
        self.evaluations = self._sampler.evaluations(self._steps)
        self.network_evaluations = self.evaluations * (1 if sampling.guidance in (0, 1) else 2)
        self.network_evaluations += 0 if prior is None else prior.evaluations

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of sampling, with what their `auto` stands for on this device."""
        return {
            **self.sampling.document(),
            "precision": "fp32" if self._autocast is None else "bf16",
            "noise_device": self._noise_device.type,
        }

    @property
    def has_pixels(self) -> bool:
        """Whether it draws bytes."""
        return self.dtype == np.uint8

    @property
    def is_drawable(self) -> bool:
        """Whether it draws grey or RGB images."""
        return is_drawable(self.shape)

    def warn_of_terminal_snr(self, output: Output) -> None:
        """Warn when the data are visible in the noise at t = 1; early runs, which kept no spectrum, are not checked."""
        if self.model.moments:
            power = self.model.moments["power_about_mean"]
            warn_of_terminal_snr(self.model.filter, power, self.model.config.schedule, output)

    def draw(self, seeds: range, on_step: Callable[[], None] = lambda: None) -> NDArray[Any]:
        """Return one image for each seed, (B, *shape): uint8, or float32 where float data are not decoded.

        Each image depends on its own seed alone.
        """
        signals = self.signals(seeds, on_step)
        signals = signals if self.decoder is None else self.decoder.decode(signals)
        return tensor_pixels(signals) if self.has_pixels else signals.cpu().numpy()

    @torch.inference_mode()
    def signals(self, seeds: range, on_step: Callable[[], None] = lambda: None) -> torch.Tensor:
        """Return the images of `draw` before decoding and rounding, float32 (B, C, *spatial).

        Pixels are on the [-1, 1] range, float data on their own scale. Frequencies to which the run's filter gives no
        noise are zero, or filled as `sampling.fill` says. Raises SagdError when a value is not finite.
        """
        streams = [random_stream(self._noise_device, seed, "sample") for seed in seeds]
        shape = (len(seeds), *self.model.shape)

        def draw() -> torch.Tensor:
            return self._noise.draw(shape, streams)

        start = self._process.start(self._levels[0], shape, streams)
        amount = getattr(self.sampling, self._sampler.amount) if self._sampler.amount else 0.0
        step = make_sampler(self.sampling.sampler, draw, self._steps, amount)
        network = self._network(self.labels(seeds), len(seeds))
        blind = self.model.config.blind
        denoiser = NetworkDenoiser(network, self._process, self._prediction, self._clip, blind)
        with exact_arithmetic(self._device):
            drawn = integrate(denoiser, step, start, self._levels, on_step)
        # Rounding errors at frequencies without noise grow by 1 / alpha_T on the way: set them back to zero.
        drawn = self._noise.project(drawn)
        drawn = drawn + self._filling(drawn, seeds)
        if not torch.isfinite(drawn).all():
            raise SagdError(
                "the network gave values that are not finite", "The training has diverged; lower --lr."
            )
        return drawn

    def _filling(self, images: torch.Tensor, seeds: range) -> torch.Tensor:
        """Return what is added at the frequencies without noise; it is zero at all others."""
        if self.fill == "mean":
            mean = self.model.moments["mean"]
            filled = torch.as_tensor(mean, dtype=torch.float32, device=self._device)
        elif self.prior is not None:
            filled = self.prior.fill(images, seeds)
        else:
            return torch.zeros((), device=self._device)
        return filled - self._noise.project(filled)

    def labels(self, seeds: range) -> NDArray[np.int64] | None:
        """Return the class of each seed (B,), or None when images are drawn without classes."""
        if self.classes is None or self.sampling.guidance == 0:
            return None
        return np.array([self.classes.of_seed(seed, self.chosen) for seed in seeds], dtype=np.int64)

    def _network(self, labels: NDArray[np.int64] | None, count: int) -> Network:
        """Return the network for a batch of `count` images with the classes `labels`, guided, or without classes."""
        if self.classes is None:
            return as_network(self.model.network, self._autocast)
        no_class = torch.full((count,), len(self.classes), device=self._device)
        unconditional = as_network(self.model.network, self._autocast, no_class)
        if labels is None:
            return unconditional
        conditional = as_network(
            self.model.network, self._autocast, torch.from_numpy(labels).to(self._device)
        )
        scale = self.sampling.guidance
        return conditional if scale == 1 else guided(conditional, unconditional, scale)

    def batches(self, seeds: range, batch_size: int, output: Output) -> Iterator[tuple[range, NDArray[Any]]]:
        """Yield (seeds, images) for all `seeds`, with progress counted in steps."""
        return self.drawn(seed_batches(seeds, batch_size), output)

    def drawn(self, parts: Sequence[range], output: Output) -> Iterator[tuple[range, NDArray[Any]]]:
        """Yield (seeds, images) for each of `parts`, which are drawn together, with progress counted in steps."""
        at_once = len(parts[0]) if parts else 0
        with output.progress("sample", len(parts) * self._steps, 0, at_once / self._steps) as bar:
            for part in parts:
                yield part, self.draw(part, bar.advance)


def seed_batches(seeds: range, batch_size: int) -> list[range]:
    """Return `seeds` in batches, of which only the last may be smaller.

    A batch is drawn alike by whoever draws it: on a CPU bit by bit, with as many threads. So work is divided by batches
    (`World.share`).
    """
    return [seeds[i : i + batch_size] for i in range(0, len(seeds), batch_size)]


def sampling_of(config: RunConfig, chosen: Mapping[str, Any]) -> SamplingConfig:
    """Return the run's own sampling settings, replaced by those in `chosen` (keys of SamplingConfig).

    Raises ConfigError for an invalid setting. Raises UsageError for a setting (eta, churn) that belongs to another
    sampler.
    """
    sampling = validate(SamplingConfig, {**config.sampling.document(), **chosen}, "sampling")
    amounts = {record.amount for record in SAMPLERS.values() if record.amount}
    for amount in amounts & chosen.keys() - {SAMPLERS[sampling.sampler].amount}:
        takers = ", ".join(name for name, record in SAMPLERS.items() if record.amount == amount)
        raise UsageError(f"the sampler {sampling.sampler} takes no --{amount}", f"It belongs to {takers}.")
    return sampling


def _precision(model: Model) -> str:
    """Return the precision that auto stands for: that of training, where this device gains by it."""
    is_exact = trained_precision(model.precision, model.config.training.precision, model.device) == "fp32"
    return "fp32" if is_exact else model.config.training.precision


def _check_purpose(model: Model) -> None:
    """Raise UsageError when the model restores images instead of making them."""
    if model.config.restoration is not None:
        raise UsageError(
            f"{model.name} was trained to restore images, not to make them",
            f"Use `sagd omit --model {model.name}`.",
        )


def _check_guidance(model: Model, classes: str | None, guidance: float) -> None:
    """Raise UsageError when classes or guidance are asked for that the model was not trained for."""
    if model.classes is None and (classes is not None or guidance != 1):
        raise UsageError(
            f"{model.name} was trained without classes",
            "Leave out --class and --guidance, or train with --class-conditional on labelled data.",
        )
    if model.classes is not None and guidance != 1 and not model.config.training.label_dropout:
        raise UsageError(
            f"{model.name} was trained with label_dropout 0, so it knows no images without a class to guide away from",
            "Give --guidance 1.",
        )
    if guidance == 0 and classes is not None:
        raise UsageError("guidance 0 leaves classes out, so none can be chosen", "Leave out --class.")


def _check_fill(model: Model, fill: str | None, prior: Prior | None) -> None:
    """Raise UsageError when there is nothing to fill, nothing to fill it with, or a prior that is not used."""
    if fill is not None and model.filter.is_complete:
        raise UsageError(
            f"the filter of {model.name} leaves no frequency out, so there is nothing to fill",
            "Leave out --fill.",
        )
    if fill == "mean" and "mean" not in model.moments:
        raise UsageError(
            f"{model.name} was written before the mean image of the data was kept",
            "Give --fill zero, or train it again.",
        )
    if fill == "prior" and prior is None:
        raise UsageError(
            "--fill prior needs a model of what is filled in",
            "Give --prior RUN, a run of `sagd train --restore` or `sagd omit --save-model`.",
        )
    if fill != "prior" and prior is not None:
        raise UsageError(f"the prior {prior.name} is for --fill prior", "Give that, or leave out --prior.")


def _prediction(model: Model, noise: SpectralNoise) -> Prediction:
    """Return what the network of `model` predicts. The EDM predictions need the spectrum of the data."""
    name = model.config.prediction
    needed = PREDICTIONS[name].needs_power
    power = seen_power(model.config, model.moments, model.filter) if needed else None
    return make_prediction(name, power, noise)
