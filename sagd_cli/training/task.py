"""A training task: a configuration completed for its data, and the state a training starts from."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sagd_cli.config.filter import FilterConfig
from sagd_cli.config.run import RunConfig
from sagd_cli.config.trained_noise import NoiseContext
from sagd_cli.data.tensors import tensor_signal
from sagd_cli.datasets.known_hash import KnownHash
from sagd_cli.datasets.loading import DataSize, load_images
from sagd_cli.design.advice import data_moments, warn_of_omitted_signal, warn_of_scale, warn_of_terminal_snr
from sagd_cli.diffusion.loss import Loss
from sagd_cli.errors import ConfigError
from sagd_cli.model.classes import Classes
from sagd_cli.model.learned_filter import average_profile, learned_profile, trained_filter
from sagd_cli.model.model import Model, seen_power
from sagd_cli.model.network import new_backbone, resolve_backbone, seen_shape
from sagd_cli.model.state import TrainingState
from sagd_cli.plugin.records import ImageSet
from sagd_cli.run.manifest import described
from sagd_cli.spectral.filter import SpectralFilter
from sagd_cli.spectral.grid import Array
from sagd_cli.system.console import Output
from sagd_cli.system.devices import autocast_dtype
from sagd_cli.training.batches import Ahead, Batches, Labels, Views, placed
from sagd_cli.training.losses import make_loss

MOST_HELD_OUT = 128  # that are looked at


@dataclass(frozen=True)
class Task:
    """A configuration that is completed for its data, the data, their classes, and the filter for their shape.

    `held_out` are the indices of images that are not learned from: the averaged weights that do best on them are kept,
    and the training ends when these stay the best. `views` vary the images (None: as the settings say). `noise` says
    more of the noise to restore than the settings do.
    """

    config: RunConfig
    data: ImageSet
    classes: Classes | None
    filter: SpectralFilter
    held_out: NDArray[np.int64] | None = None
    views: Views | None = None
    noise: NoiseContext | None = None
    known: KnownHash | None = None

    @classmethod
    def of(cls, config: RunConfig) -> "Task":
        """Load the data of `config` and return the task.

        Raises what loading, counting classes and building the filter raise. Raises ConfigError when the network is to
        be blind, but the filter leaves no frequency out.
        """
        known = KnownHash(config.dataset)
        data = load_images(config.dataset)
        classes = Classes.of(data, config.dataset.subject) if config.class_conditional else None
        shape = data.images.shape[1:]
        built = config.filter.weights(shape[1:])
        if config.blind and built.is_complete:
            raise ConfigError(
                "a blind network needs a filter with a gap, and this one leaves no frequency out",
                "Give the band with --omit-band, or leave out --blind.",
            )
        return cls(resolve_backbone(config, seen_shape(config, shape)), data, classes, built, known=known)

    @property
    def size(self) -> DataSize:
        """The number of images, their shape (C, *spatial) and the number of classes."""
        images = self.data.images
        return DataSize(len(images), images.shape[1:], len(self.classes or ()))

    @cached_property
    def moments(self) -> Mapping[str, Array]:
        """The mean image and the spectra of the data, measured at the first use."""
        return data_moments(self.data.images)

    def described(self) -> dict[str, Any]:
        """Return the part of a manifest that describes this training."""
        classes = None if self.classes is None else self.classes.document()
        latents = {} if self.data.latents is None else {"latents": dict(self.data.latents)}
        return described(self.config, self.data.images, classes, self.known) | latents

    def warn(self, output: Output) -> None:
        """Warn of data of an odd scale, visible in the noise at t = 1, or strong in the omitted band."""
        if self.config.restoration is not None:
            return
        warn_of_scale(self.data.images, output)
        power = self.moments["power_about_mean"]
        warn_of_terminal_snr(self.filter, power, self.config.schedule, output)
        omitted = self.config.filter.omitted(self.filter.grid.shape)
        if omitted is not None:
            warn_of_omitted_signal(power, omitted, self.filter.grid, output)

    def warn_as_learned(self, state: TrainingState, output: Output) -> None:
        """Warn when the data are visible in the noise of the learned filter at t = 1."""
        if state.profile_ema is not None:
            learned, power = average_profile(state.profile_ema), self.moments["power_about_mean"]
            schedule = self.config.schedule
            warn_of_terminal_snr(learned.spectral_filter(), power, schedule, output, "the filter as learned")

    def start(self, device: torch.device) -> tuple[TrainingState, Loss]:
        """Return the state at step 0 on `device`, and the loss to minimise."""
        config, size = self.config, self.size
        profile = learned_profile(config.filter, size.shape[1:])
        power = seen_power(config, self.moments, self.filter)
        loss = make_loss(config, self.filter, profile, power, device, self.noise)
        seen = seen_shape(config, size.shape)
        network = new_backbone(config.backbone, seen, config.training.seed, size.classes)
        keeps_best = self.held_out is not None
        return TrainingState(network, config.training, device, profile, keeps_best), loss

    def batches(self, device: torch.device, parts: list[range]) -> Batches | Ahead:
        """Return the batches on `device`; when the images do not fit there, batches are fetched ahead.

        `parts` are the places of a batch that each pass asks for, in order.
        """
        settings = self.config.training
        with (
            warnings.catch_warnings()
        ):  # the images may be a read-only map of a file, but nothing writes to them
            warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
            images = placed(self._learned(self.data.images), device)
        labels = None
        if self.classes is not None and self.data.labels is not None:
            values = self._learned(self.data.labels).to(device)
            labels = Labels(values, len(self.classes), settings.label_dropout)
        batches = Batches(
            images,
            settings.batch_size,
            settings.seed,
            labels,
            device,
            self.views or Views(settings.flips, settings.turns, settings.crops),
        )
        return batches if images.device.type == device.type else Ahead(batches.at, parts)

    def _learned(self, values: NDArray[Any]) -> Tensor:
        """Return the `values` of all images (N, ...) without those of the images that are held out."""
        return torch.from_numpy(values if self.held_out is None else np.delete(values, self.held_out, axis=0))

    def held_out_images(self, device: torch.device) -> Tensor | None:
        """Return images (N, C, *spatial) on [-1, 1] that are held out, on `device`, or None when none are."""
        if self.held_out is None:
            return None
        return tensor_signal(torch.from_numpy(self.data.images[self.held_out[:MOST_HELD_OUT]]).to(device))

    def learned_filter(self, state: TrainingState) -> FilterConfig | None:
        """Return the filter as learned so far, or None when the filter is fixed."""
        return trained_filter(self.config.filter, state.profile_ema)

    def sampled_filter(self, state: TrainingState) -> SpectralFilter:
        """Return the filter to sample with: the fixed one, or the one learned so far."""
        learned = self.learned_filter(state)
        return self.filter if learned is None else learned.weights(self.size.shape[1:])

    def precision(self, state: TrainingState) -> str:
        """Return what the network of `state` is trained in: fp32 or bf16."""
        is_half = autocast_dtype(self.config.training.precision, state.device, state.network) is not None
        return "bf16" if is_half else "fp32"

    def model(self, state: TrainingState, name: str) -> Model:
        """Return the model that a checkpoint written now would hold; messages call it `name`."""
        return Model(
            name=name,
            config=self.config,
            network=state.ema.network,
            ema_images=self.config.training.ema_half_life_images[0],
            filter=self.sampled_filter(state),
            shape=self.size.shape,
            dtype=np.dtype(self.data.images.dtype),
            classes=self.classes,
            moments=self.moments,
            precision=self.precision(state),
        )
