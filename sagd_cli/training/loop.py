"""The training loop: optimisation only, no files. The random numbers of a step depend on (seed, step) alone."""

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import nn
from torch.profiler import record_function

from sagd_cli.config.run import TrainingConfig
from sagd_cli.diffusion.denoiser import as_network
from sagd_cli.diffusion.loss import Errors, Loss
from sagd_cli.errors import DivergedError
from sagd_cli.model.state import TrainingState
from sagd_cli.run.log import LogRecord
from sagd_cli.spectral.grid import Array, FrequencyGrid
from sagd_cli.spectral.noise import BatchStream, SpectralNoise, random_stream
from sagd_cli.spectral.region import PRESETS, indicator
from sagd_cli.system.devices import autocast_dtype, peak_memory, training_arithmetic
from sagd_cli.system.distributed import World, unsynchronised
from sagd_cli.training.batches import Batch


def learning_rate(settings: TrainingConfig, step: int) -> float:
    """Return the learning rate of `step`: a linear warm-up times half a cosine.

    The warm-up takes at most a fifth of the budget. The cosine falls to zero at the end of the budget.
    """
    images = (step + 1) * settings.batch_size
    warm_up = min(1.0, images / max(min(settings.warmup_images, settings.images // 5), 1))
    done = min(1.0, step / max(settings.steps, 1))
    return settings.learning_rate * warm_up * (0.5 + 0.5 * math.cos(math.pi * done))


@dataclass
class Callbacks:
    """Functions that the loop calls: for a record, after each step, for a checkpoint, and to ask whether to stop."""

    record: Callable[[LogRecord], None] = lambda record: None
    step_done: Callable[[], None] = lambda: None
    checkpoint: Callable[[], None] = lambda: None
    stop_requested: Callable[[], bool] = lambda: False


BatchAt = Callable[[int, range], Batch]

# The parts of a step, as a profile names them.
DATA, FORWARD, BACKWARD, OPTIMIZER, AVERAGE, RECORDING = (
    f"sagd/{part}" for part in ("data", "forward", "backward", "optimizer", "average", "metrics")
)


def run_loop(
    state: TrainingState,
    batch_at: BatchAt,
    loss: Loss,
    settings: TrainingConfig,
    callbacks: Callbacks,
    world: World | None = None,
) -> bool:
    """Train until the budget is spent; return False when `stop_requested` ended the training earlier, in any process.

    `batch_at(step, places)` returns the images at `places` of the batch of `step`. A batch may be divided into
    `accumulate` passes and among the processes of `world`. This changes only the rounding of sums and the masks of
    dropout. Checkpoints by the clock change nothing that is trained. Raises DivergedError when a recorded loss or
    gradient is not finite, or when weights to be saved are not. Raises ConfigError when the batch does not divide
    evenly.
    """
    devices = [state.device] if state.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), training_arithmetic(state.device, settings.deterministic):
        trainer = _Trainer(state, batch_at, loss, settings, world or World())
        while state.step < settings.steps:
            trainer.step()
            callbacks.step_done()
            last = state.step == settings.steps
            asked, late = trainer.world.any(callbacks.stop_requested(), trainer.is_late())
            stopped = asked and not last
            saves = last or stopped or late or state.step % settings.checkpoint_steps == 0
            if saves:
                trainer.check_weights()
            # Recording checks loss and gradient, so no checkpoint is saved after the training has diverged.
            if saves or state.step % settings.log_steps == 0:
                callbacks.record(trainer.record())
            if saves:
                callbacks.checkpoint()
                trainer.saved = time.monotonic()
                # Until the first one has saved: when one process ends, the others are ended too, and their devices do
                # not wait long for each other.
                trainer.world.wait()
            if stopped:
                return False
    return True


class _Trainer:
    """The steps of one training, and the sums of their figures since the last record.

    The sums stay on the device until the next record, so that no step waits for them. `saved` is the time from which
    the minutes to the next checkpoint count.
    """

    def __init__(
        self,
        state: TrainingState,
        batch_at: BatchAt,
        loss: Loss,
        settings: TrainingConfig,
        world: World,
    ) -> None:
        """Divide the batch, and wrap and compile the network as the settings say."""
        self._state, self._batch_at, self._loss, self._settings = state, batch_at, loss, settings
        self.world = world
        self._parts = world.parts(settings.batch_size, settings.accumulate)
        self._autocast = autocast_dtype(settings.precision, state.device, state.network)
        self._module: nn.Module = state.network
        self._wrapped = module = world.wrapped(
            state.network, state.device, world.size > 1 and self._has_idle()
        )
        self._module = torch.compile(module) if settings.compile else module  # type: ignore[assignment]
        # The first checkpoint comes soon, after a tenth of the time between two: until then, all can be lost.
        self.saved = time.monotonic() - 0.9 * 60 * settings.checkpoint_minutes
        self._start_sums()

    def _start_sums(self) -> None:
        device = self._state.device
        self._loss_sum = torch.zeros((), device=device)
        self._power_sum = torch.zeros(
            self._loss.noise.grid.half_shape, device=device
        )  # of the whitened error
        self._steps, self._started = 0, time.monotonic()

    def _has_idle(self) -> bool:
        """Whether some weights get no gradient: one pass shows it. It changes nothing."""
        self._pass(self._parts[0])
        found = any(p.requires_grad and p.grad is None for p in self._state.network.parameters())
        self._state.optimizer.zero_grad()
        return found

    def is_late(self) -> bool:
        """Whether the clock of the first process asks for a checkpoint."""
        minutes = self._settings.checkpoint_minutes
        return 0 < minutes <= (time.monotonic() - self.saved) / 60 and self.world.is_first

    def step(self) -> None:
        """Do one optimiser step, with one pass for each part of the batch."""
        self._state.optimizer.zero_grad()
        for places in self._parts:
            with nullcontext() if places is self._parts[-1] else unsynchronised(self._wrapped):
                errors = self._pass(places)
            with torch.no_grad(), record_function(RECORDING):
                self._loss_sum += errors.output.square().mean() / len(self._parts)
                self._power_sum += self._loss.noise.whitened_power(errors.eps) / len(self._parts)
        self._steps += 1
        self._optimise()
        self._state.step += 1

    def _pass(self, places: range) -> Errors:
        """Add the share of the batch's gradient that comes from the images at `places`; return their errors."""
        state, seed = self._state, self._settings.seed
        with record_function(DATA):
            batch = self._batch_at(state.step, places)
        stream = BatchStream(state.device, places, seed, "train", state.step)
        _seed_network(state.device, seed, state.step, places.start)
        with record_function(FORWARD):
            network = as_network(self._module, self._autocast, batch.labels)
            errors = self._loss.errors(network, batch.images, stream)
            value = self._loss.objective(errors) / len(self._parts)
        with record_function(BACKWARD):
            value.backward()  # type: ignore[no-untyped-call]
        return errors

    def _optimise(self) -> None:
        """Take one step along the gradient and move the averages."""
        state, settings = self._state, self._settings
        with record_function(OPTIMIZER):
            for group in state.optimizer.param_groups:
                group["lr"] = learning_rate(settings, state.step) * group["scale"]
            if state.profile is not None:
                self.world.average(state.profile.raw.grad)
            self._norm = nn.utils.clip_grad_norm_(state.network.parameters(), settings.gradient_clip)
            state.optimizer.step()
        with record_function(AVERAGE):
            seen = (state.step + 1) * settings.batch_size
            for average in state.averages.values():
                average.update(state.network, settings.batch_size, seen)
            if state.profile is not None and state.profile_ema is not None:
                state.profile_ema.update(state.profile, settings.batch_size, seen)

    def record(self) -> LogRecord:
        """Return the figures since the last record and start new sums.

        Raises DivergedError when the loss or the gradient norm is not finite.
        """
        state, settings, noise = self._state, self._settings, self._loss.noise
        self.world.average(self._loss_sum, self._power_sum)
        loss, norm = float(self._loss_sum) / self._steps, float(self._norm)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise DivergedError(state.step, learning_rate(settings, state.step - 1))
        power = self._power_sum.cpu().double().numpy() / self._steps
        images = self._steps * settings.batch_size
        figures = {
            "step": state.step,
            "images": state.step * settings.batch_size,
            "loss": loss,
            "whitened_loss": noise.grid.total(power) / noise.grid.total(noise.support),
            "band_losses": _band_losses(noise, power),
            "gradient_norm": norm,
            "learning_rate": learning_rate(settings, state.step - 1),
            "images_per_second": images / (time.monotonic() - self._started),
            "memory_bytes": peak_memory(state.device),
            # A learned filter that collapses shows here first: the noise leaves a band.
            **({"noise_bands": state.profile.spectral_filter().band_shares} if state.profile else {}),
        }
        self._start_sums()
        return figures

    def check_weights(self) -> None:
        """Raise DivergedError unless all weights are finite.

        A step can make them overflow even when its loss and its gradient are finite.
        """
        state = self._state
        tensors = [*state.network.parameters(), *(state.profile.parameters() if state.profile else ())]
        if not torch.stack([tensor.isfinite().all() for tensor in tensors]).all():
            raise DivergedError(state.step, learning_rate(self._settings, state.step - 1))


def _seed_network(device: torch.device, seed: int, *key: int) -> None:
    """Seed torch's own generator of `device`, from which dropout draws; it takes no other generator.

    torch.manual_seed would do the same, but costs 0.4 ms.
    """
    generators = torch.cuda.default_generators if device.type == "cuda" else (torch.default_generator,)
    number = random_stream("cpu", seed, "network", *key).initial_seed()
    generators[device.index or 0].manual_seed(number)


def _band_losses(noise: SpectralNoise, power: Array) -> dict[str, float]:
    """Return the whitened loss in each preset band that holds noise; a network that predicts zero has loss 1."""
    losses, grid = {}, FrequencyGrid(noise.grid.shape)
    for name, edges in PRESETS.items():
        inside = indicator(*edges, grid) & noise.support
        if inside.any():
            losses[name] = grid.total(power * inside) / grid.total(inside)
    return losses
