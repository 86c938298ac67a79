"""The training loop: pure optimisation, no files. What it computes at a step depends on (seed, step) alone."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sagd_cli.config import TrainingConfig
from sagd_cli.devices import autocast_dtype
from sagd_cli.diffusion.denoiser import as_network
from sagd_cli.diffusion.loss import DiffusionLoss
from sagd_cli.errors import SagdError
from sagd_cli.spectral.noise import random_stream
from sagd_cli.training.data import Batch
from sagd_cli.training.ema import Ema
from sagd_cli.training.learned_filter import LearnedProfile

# Steps of Adam on the knots of a filter are as long as those on weights, but the loss is much flatter there.
PROFILE_LEARNING_RATE = 5.0


class TrainingState:
    """A network in training with its average, its optimiser and the number of steps done.

    `profile`, when given, is the learned filter that is trained with it, with an average of its own.
    """

    def __init__(
        self,
        network: nn.Module,
        settings: TrainingConfig,
        device: torch.device,
        profile: LearnedProfile | None = None,
    ) -> None:
        """Put the network on `device`, channels last for images, and start at step 0."""
        self.device = device
        self.network = network.to(device).train()
        if any(parameter.ndim == 4 for parameter in network.parameters()):
            self.network.to(memory_format=torch.channels_last)
        self.ema = Ema(self.network, settings.ema_half_life_images)
        self.profile = None if profile is None else profile.to(device)
        self.profile_ema = None if profile is None else Ema(profile, settings.ema_half_life_images)
        groups: list[dict[str, Any]] = [
            {"params": list(self.network.parameters()), "weight_decay": settings.weight_decay, "scale": 1.0}
        ]
        if profile is not None:
            knots = list(profile.parameters())
            groups.append({"params": knots, "weight_decay": 0.0, "scale": PROFILE_LEARNING_RATE})
        self.optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)
        self.step = 0


def learning_rate(settings: TrainingConfig, step: int) -> float:
    """Linear warm-up, for at most a fifth of the budget, under half a cosine down to zero at its end."""
    images = (step + 1) * settings.batch_size
    warm_up = min(1.0, images / max(min(settings.warmup_images, settings.images // 5), 1))
    done = min(1.0, step / max(settings.steps, 1))
    return settings.learning_rate * warm_up * (0.5 + 0.5 * math.cos(math.pi * done))


Record = dict[str, Any]


@dataclass
class Callbacks:
    """What the outside does with a training: each is called from the loop."""

    record: Callable[[Record], None] = lambda record: None
    step_done: Callable[[], None] = lambda: None
    checkpoint: Callable[[], None] = lambda: None
    stop_requested: Callable[[], bool] = lambda: False


@dataclass
class _Window:
    """Sums since the last record; the loss stays on the device until then, so that no step waits for it."""

    loss: Tensor
    whitened: Tensor
    steps: int = 0
    started: float = field(default_factory=time.monotonic)


def fit(
    state: TrainingState,
    batch_at: Callable[[int], Batch],
    loss: DiffusionLoss,
    settings: TrainingConfig,
    callbacks: Callbacks,
) -> bool:
    """Train until the budget is spent; return False when `stop_requested` ended it earlier.

    Raises SagdError as soon as a recorded loss is not finite.
    """
    module: nn.Module = torch.compile(state.network) if settings.compile else state.network  # type: ignore[assignment]
    window = _new_window(state)
    checkpoint_steps = max(1, settings.checkpoint_images // settings.batch_size)
    with torch.random.fork_rng(devices=[state.device] if state.device.type == "cuda" else []):
        while state.step < settings.steps:
            gradient_norm = _step(state, module, batch_at(state.step), loss, settings, window)
            callbacks.step_done()
            last = state.step == settings.steps
            stopped = callbacks.stop_requested() and not last
            saves = last or stopped or state.step % checkpoint_steps == 0
            # Recording checks loss and gradient, so a training that has diverged is not saved.
            if saves or state.step % settings.log_steps == 0:
                callbacks.record(_record(state, settings, window, gradient_norm))
                window = _new_window(state)
            if saves:
                callbacks.checkpoint()
            if stopped:
                return False
    return True


def _step(
    state: TrainingState,
    module: nn.Module,
    batch: Batch,
    loss: DiffusionLoss,
    settings: TrainingConfig,
    window: _Window,
) -> Tensor:
    """Do one step, add its losses to `window` and return the gradient's norm."""
    generator = random_stream(state.device, settings.seed, "train", state.step)
    torch.manual_seed(generator.initial_seed())  # for dropout and its like, which take no generator
    network = as_network(module, autocast_dtype(settings.precision, state.device), batch.labels)
    errors = loss.errors(network, batch.images, generator)
    gradient_norm = _optimise(state, loss.objective(errors), settings)
    with torch.no_grad():
        window.loss += errors.output.square().mean()
        window.whitened += loss.whitened(errors)
    window.steps += 1
    state.step += 1
    return gradient_norm


def _new_window(state: TrainingState) -> _Window:
    return _Window(torch.zeros((), device=state.device), torch.zeros((), device=state.device))


def _optimise(state: TrainingState, value: Tensor, settings: TrainingConfig) -> Tensor:
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(settings, state.step) * group["scale"]
    state.optimizer.zero_grad()
    value.backward()  # type: ignore[no-untyped-call]
    norm = nn.utils.clip_grad_norm_(state.network.parameters(), settings.gradient_clip)
    state.optimizer.step()
    seen = (state.step + 1) * settings.batch_size
    state.ema.update(state.network, settings.batch_size, seen)
    if state.profile is not None and state.profile_ema is not None:
        state.profile_ema.update(state.profile, settings.batch_size, seen)
    return norm


def _record(state: TrainingState, settings: TrainingConfig, window: _Window, gradient_norm: Tensor) -> Record:
    mean_loss, norm = float(window.loss) / window.steps, float(gradient_norm)
    if not (math.isfinite(mean_loss) and math.isfinite(norm)):
        rate = learning_rate(settings, state.step)
        raise SagdError(
            f"the loss or its gradient is not finite at step {state.step} (learning rate {rate:g})",
            "Lower the learning rate with --lr, or resume from the last checkpoint with other data.",
        )
    return {
        "step": state.step,
        "images": state.step * settings.batch_size,
        "loss": mean_loss,
        "whitened_loss": float(window.whitened) / window.steps,
        "gradient_norm": norm,
        "learning_rate": learning_rate(settings, state.step - 1),
        "images_per_second": window.steps * settings.batch_size / (time.monotonic() - window.started),
        # What a filter that collapses shows first: the noise leaves a band.
        **({"noise_bands": state.profile.spectral_filter().band_shares} if state.profile else {}),
    }
