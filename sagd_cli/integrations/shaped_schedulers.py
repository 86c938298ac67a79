"""Schedulers of diffusers whose own steps draw shaped noise, and the timesteps of a path."""

import copy
import inspect
from typing import Any

import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler
from torch import Tensor

from sagd_cli.diffusion.time_grids import LOWEST_LOG_SNR
from sagd_cli.errors import UsageError
from sagd_cli.spectral.noise import SpectralNoise, Streams

SCHEDULERS = (DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler)


class ShapedNoiseMixin:
    """Makes the steps of a stochastic scheduler draw shaped noise; `shaped` adds it to a scheduler.

    For schedulers whose `step` takes `variance_noise`, such as DDIMScheduler and DPMSolverMultistepScheduler.
    """

    noise: SpectralNoise
    config: Any

    def step(
        self, model_output: Tensor, timestep: Any, sample: Tensor, generator: Streams = None, **options: Any
    ) -> Any:
        """Do the scheduler's own step; its noise is shaped and drawn from `generator` (see SpectralNoise.draw)."""
        if options.get("eta", 0) or str(self.config.get("algorithm_type", "")).startswith("sde"):
            options["variance_noise"] = self.noise.draw(sample.shape, generator).to(sample)
        return super().step(model_output, timestep, sample, **options)  # type: ignore[misc]


class ShapedVarianceMixin:
    """The same for DDPMScheduler, whose `step` takes no noise: its own is nil, and shaped noise is added."""

    noise: SpectralNoise

    def _get_variance(self, *given: Any, **options: Any) -> Tensor:
        return torch.zeros_like(super()._get_variance(*given, **options))  # type: ignore[misc]

    def step(
        self, model_output: Tensor, timestep: Any, sample: Tensor, generator: Streams = None, **options: Any
    ) -> Any:
        """Do the scheduler's own step; its noise is shaped and drawn from `generator` (see SpectralNoise.draw)."""
        done = super().step(model_output, timestep, sample, **options)  # type: ignore[misc]
        if timestep <= 0:
            return done
        deviation = super()._get_variance(timestep).sqrt()  # type: ignore[misc]
        added = (deviation * self.noise.draw(sample.shape, generator)).to(sample)
        if isinstance(done, tuple):
            return (done[0] + added, *done[1:])
        done.prev_sample = done.prev_sample + added
        return done


def shaped(scheduler: Any, noise: SpectralNoise) -> Any:
    """Return a copy of a diffusers scheduler whose steps draw `noise` in place of white noise.

    Deterministic schedulers stay as they are. Raises UsageError for one whose noise cannot be replaced.
    """
    kind = type(scheduler)
    if isinstance(scheduler, DDPMScheduler) and scheduler.variance_type in ("fixed_small", "fixed_large"):
        mixin: type = ShapedVarianceMixin
    elif "variance_noise" in inspect.signature(kind.step).parameters:
        mixin = ShapedNoiseMixin
    elif "generator" in inspect.signature(kind.step).parameters:
        raise UsageError(
            f"the noise of {kind.__name__} cannot be replaced",
            "Use DDIMScheduler, DDPMScheduler with a fixed variance or DPMSolverMultistepScheduler.",
        )
    else:
        return copy.copy(scheduler)
    made = copy.copy(scheduler)
    made.__class__ = type(f"Shaped{kind.__name__}", (mixin, kind), {})
    made.noise = noise
    return made


def set_timesteps(scheduler: Any, steps: int, device: torch.device | str = "cpu") -> Tensor:
    """Set the timesteps of `scheduler` for `steps` evaluations, and return them, falling integers.

    No path starts below a log-SNR of -10.2. Raises UsageError for another scheduler, and for a number of steps that it
    cannot take.
    """
    name = type(scheduler).__name__.removeprefix("Shaped")
    if not isinstance(scheduler, SCHEDULERS):
        known = ", ".join(kind.__name__ for kind in SCHEDULERS)
        raise UsageError(f"SagdPipeline does not know {name}", f"It knows {known}.")
    entries = scheduler.config.num_train_timesteps
    if not 1 <= steps <= entries:
        raise UsageError(f"{name} takes 1 to {entries} steps, not {steps}")
    if isinstance(scheduler, DDIMScheduler) and entries % steps:
        near = min((n for n in range(1, entries + 1) if entries % n == 0), key=lambda n: abs(n - steps))
        raise UsageError(
            f"{name} goes by a fixed stride, so its steps divide {entries}, which {steps} does not",
            f"Take {near} steps, or the sampler dpmpp.",
        )
    scheduler.set_timesteps(steps, device=device)
    timesteps: Tensor = scheduler.timesteps
    if isinstance(scheduler, DDIMScheduler | DDPMScheduler):  # others have lambda_min_clipped for it
        last = int((table_log_snr(scheduler) >= LOWEST_LOG_SNR).sum()) - 1
        late = max(0, int(timesteps[0]) - last)
        scheduler.timesteps = timesteps = (timesteps - late)[timesteps >= late]
    if int(timesteps[-1]) < 0:
        raise UsageError(
            f"diffusers rounds {steps} steps to one below the first", "Take one step more or less."
        )
    return timesteps


def table_log_snr(scheduler: Any) -> Tensor:
    """Return the log-SNR of the entries of the scheduler's table, float64."""
    return torch.logit(scheduler.alphas_cumprod.double().cpu())
