"""The training loop: pure optimisation, no files. What it computes at a step depends on (seed, step) alone."""

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from sagd_cli.config import TrainingConfig
from sagd_cli.devices import autocast_dtype, peak_memory
from sagd_cli.diffusion.denoiser import as_network
from sagd_cli.diffusion.loss import DiffusionLoss, Errors
from sagd_cli.errors import DivergedError
from sagd_cli.spectral.grid import Array, FrequencyGrid
from sagd_cli.spectral.noise import BatchStream, SpectralNoise, random_stream
from sagd_cli.spectral.region import PRESETS, indicator
from sagd_cli.training.backbones import laid_out
from sagd_cli.training.data import Batch
from sagd_cli.training.distributed import World, unsynchronised
from sagd_cli.training.ema import Ema
from sagd_cli.training.learned_filter import LearnedProfile

# Steps of Adam on the knots of a filter are as long as those on weights, but the loss is much flatter there.
PROFILE_LEARNING_RATE = 5.0


class TrainingState:
    """A network in training with its averages, its optimiser and the number of steps done.

    `averages` has one a half-life, by images; `ema` is the first. `profile`, when given, is the learned filter that is
    trained with it, with an average of its own, of the first half-life.
    """

    def __init__(
        self,
        network: nn.Module,
        settings: TrainingConfig,
        device: torch.device,
        profile: LearnedProfile | None = None,
    ) -> None:
        """Put the network on `device`, on CUDA with channels last for images, and start at step 0."""
        self.device = device
        self.network = laid_out(network.to(device), device)
        half_lives = settings.ema_half_life_images
        self.averages = {half_life: Ema(self.network, half_life) for half_life in half_lives}
        self.ema = self.averages[half_lives[0]]
        self.profile = None if profile is None else profile.to(device)
        self.profile_ema = None if profile is None else Ema(profile, half_lives[0])
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


BatchAt = Callable[[int, range], Batch]
# The parts of a step, as a profile names them.
DATA, FORWARD, BACKWARD, OPTIMIZER, AVERAGE, METRICS = (
    f"sagd/{part}" for part in ("data", "forward", "backward", "optimizer", "average", "metrics")
)


@dataclass
class _Window:
    """Sums since the last record; they stay on the device until then, so that no step waits for them.

    `power` is that of the whitened error, on the half spectrum.
    """

    loss: Tensor
    power: Tensor
    steps: int = 0
    started: float = field(default_factory=time.monotonic)


def fit(
    state: TrainingState,
    batch_at: BatchAt,
    loss: DiffusionLoss,
    settings: TrainingConfig,
    callbacks: Callbacks,
    world: World | None = None,
) -> bool:
    """Train until the budget is spent; return False when `stop_requested` ended it earlier, in any process.

    `batch_at(step, places)` gives the images at some places of a step's batch. However a batch is divided, into
    `accumulate` passes and among the processes of `world`, only the rounding of sums changes. Raises DivergedError as
    soon as a recorded loss is not finite, ConfigError when the batch does not divide evenly.
    """
    world = world or World()
    parts = world.parts(settings.batch_size, settings.accumulate)
    module = world.wrapped(state.network, state.device)
    module = torch.compile(module) if settings.compile else module  # type: ignore[assignment]
    window = _new_window(state, loss)
    with torch.random.fork_rng(devices=[state.device] if state.device.type == "cuda" else []):
        while state.step < settings.steps:
            gradient_norm = _step(state, module, batch_at, loss, settings, window, parts, world)
            callbacks.step_done()
            last = state.step == settings.steps
            stopped = world.any(callbacks.stop_requested()) and not last
            saves = last or stopped or state.step % settings.checkpoint_steps == 0
            # Recording checks loss and gradient, so a training that has diverged is not saved.
            if saves and not _is_finite(state):
                raise DivergedError(state.step, learning_rate(settings, state.step - 1))
            if saves or state.step % settings.log_steps == 0:
                world.average(window.loss, window.power)
                callbacks.record(_record(state, settings, loss, window, gradient_norm))
                window = _new_window(state, loss)
            if saves:
                callbacks.checkpoint()
            if stopped:
                return False
    return True


def _step(
    state: TrainingState,
    module: nn.Module,
    batch_at: BatchAt,
    loss: DiffusionLoss,
    settings: TrainingConfig,
    window: _Window,
    parts: list[range],
    world: World,
) -> Tensor:
    """Do one step, in a pass for each of `parts`, add its losses to `window` and return the gradient's norm."""
    state.optimizer.zero_grad()
    for places in parts:
        with nullcontext() if places is parts[-1] else unsynchronised(module):
            errors = _pass(state, module, batch_at, loss, settings, places, len(parts))
        with torch.no_grad(), record_function(METRICS):
            window.loss += errors.output.square().mean() / len(parts)
            window.power += loss.noise.whitened_power(errors.eps) / len(parts)
    window.steps += 1
    norm = _optimise(state, settings, world)
    state.step += 1
    return norm


def _pass(
    state: TrainingState,
    module: nn.Module,
    batch_at: BatchAt,
    loss: DiffusionLoss,
    settings: TrainingConfig,
    places: range,
    passes: int,
) -> Errors:
    """Add the gradient of the images at `places`, as a share of the batch's."""
    with record_function(DATA):
        batch = batch_at(state.step, places)
    stream = BatchStream(state.device, places, settings.seed, "train", state.step)
    _seed_network(state.device, settings.seed, state.step, places.start)
    with record_function(FORWARD):
        network = as_network(module, autocast_dtype(settings.precision, state.device), batch.labels)
        errors = loss.errors(network, batch.images, stream)
        value = loss.objective(errors) / passes
    with record_function(BACKWARD):
        value.backward()  # type: ignore[no-untyped-call]
    return errors


def _seed_network(device: torch.device, *key: int) -> None:
    """Seed what dropout and its like draw from, which take no generator; torch.manual_seed costs 0.4 ms."""
    seed, *rest = key
    number = random_stream("cpu", seed, "network", *rest).initial_seed()
    (
        torch.cuda.default_generators[device.index or 0] if device.type == "cuda" else torch.default_generator
    ).manual_seed(number)


def _new_window(state: TrainingState, loss: DiffusionLoss) -> _Window:
    power = torch.zeros(loss.noise.grid.half_shape, device=state.device)
    return _Window(torch.zeros((), device=state.device), power)


def _optimise(state: TrainingState, settings: TrainingConfig, world: World) -> Tensor:
    """Take one step along the gradient and move the averages; return the gradient's norm before clipping."""
    with record_function(OPTIMIZER):
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(settings, state.step) * group["scale"]
        if state.profile is not None:
            world.average(state.profile.raw.grad)
        norm = nn.utils.clip_grad_norm_(state.network.parameters(), settings.gradient_clip)
        state.optimizer.step()
    with record_function(AVERAGE):
        seen = (state.step + 1) * settings.batch_size
        for average in state.averages.values():
            average.update(state.network, settings.batch_size, seen)
        if state.profile is not None and state.profile_ema is not None:
            state.profile_ema.update(state.profile, settings.batch_size, seen)
    return norm


def _record(
    state: TrainingState,
    settings: TrainingConfig,
    loss: DiffusionLoss,
    window: _Window,
    gradient_norm: Tensor,
) -> Record:
    mean_loss, norm = float(window.loss) / window.steps, float(gradient_norm)
    if not (math.isfinite(mean_loss) and math.isfinite(norm)):
        raise DivergedError(state.step, learning_rate(settings, state.step - 1))
    power = window.power.cpu().double().numpy() / window.steps
    return {
        "step": state.step,
        "images": state.step * settings.batch_size,
        "loss": mean_loss,
        "whitened_loss": loss.noise.grid.total(power) / loss.noise.grid.total(loss.noise.support),
        "band_losses": _band_losses(loss.noise, power),
        "gradient_norm": norm,
        "learning_rate": learning_rate(settings, state.step - 1),
        "images_per_second": window.steps * settings.batch_size / (time.monotonic() - window.started),
        "memory_bytes": peak_memory(state.device),
        # What a filter that collapses shows first: the noise leaves a band.
        **({"noise_bands": state.profile.spectral_filter().band_shares} if state.profile else {}),
    }


def _is_finite(state: TrainingState) -> bool:
    """Whether what is trained is: a step can overflow after a loss and a gradient that are finite."""
    tensors = [*state.network.parameters(), *(state.profile.parameters() if state.profile else ())]
    return bool(torch.stack([tensor.isfinite().all() for tensor in tensors]).all())


def _band_losses(noise: SpectralNoise, power: Array) -> dict[str, float]:
    """The whitened loss in each band that holds noise; 1 is that of a network which predicts nothing."""
    losses, grid = {}, FrequencyGrid(noise.grid.shape)
    for name, edges in PRESETS.items():
        inside = indicator(*edges, grid) & noise.support
        if inside.any():
            losses[name] = grid.total(power * inside) / grid.total(inside)
    return losses
