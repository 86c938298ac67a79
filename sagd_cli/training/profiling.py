"""How long each part of a training step takes, measured by torch.profiler; nothing is written."""

import math
import time
from bisect import bisect_right
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

from sagd_cli.config.run import RunConfig, TrainingConfig
from sagd_cli.diffusion.loss import NOISE
from sagd_cli.errors import UsageError
from sagd_cli.system.distributed import World
from sagd_cli.system.environment import world_size
from sagd_cli.training.cost import refuse_too_large
from sagd_cli.training.loop import AVERAGE, BACKWARD, DATA, FORWARD, OPTIMIZER, RECORDING, Callbacks, run_loop
from sagd_cli.training.task import Task

# The first steps choose kernels, compile and fill the allocator.
WARM_UP = 5
# Noise is drawn within the forward pass, but its time is counted separately.
MARKS = (DATA, NOISE, FORWARD, BACKWARD, OPTIMIZER, AVERAGE, RECORDING)
REST = "rest"


@dataclass(frozen=True)
class StepProfile:
    """Milliseconds per step, by the parts of a step and `rest`.

    `cpu` is the time of this process; its parts sum to the whole step. `cuda` is the time of the kernels, or None
    without CUDA; its parts sum to the time the device was busy.
    """

    steps: int
    batch_size: int
    device: str
    cpu: dict[str, float]
    cuda: dict[str, float] | None

    @property
    def step_ms(self) -> float:
        """Milliseconds of a step."""
        return sum(self.cpu.values())

    def document(self) -> dict[str, Any]:
        """Return the JSON object of `sagd train --profile`."""
        return {
            "steps": self.steps,
            "batch_size": self.batch_size,
            "device": self.device,
            "step_ms": self.step_ms,
            "images_per_second": 1000 * self.batch_size / self.step_ms,
            "cpu": _with_shares(self.cpu),
            "cuda": None if self.cuda is None else _with_shares(self.cuda),
        }


def _with_shares(parts: dict[str, float]) -> dict[str, dict[str, float]]:
    total = sum(parts.values()) or 1.0
    return {name: {"ms": ms, "share": ms / total} for name, ms in parts.items()}


def profile_training(
    config: RunConfig, device: torch.device, steps: int, check_memory: bool = True
) -> StepProfile:
    """Train `steps` steps of `config` under the profiler, after 5 steps of warm-up, and keep nothing of the training.

    Raises what starting a training raises, and UsageError when torchrun has started several processes.
    """
    if world_size() > 1:
        raise UsageError(
            "a profile is of one process, and torchrun has started several", "Leave torchrun out."
        )
    task = Task.of(config)
    settings = task.config.training
    if check_memory:
        refuse_too_large(task.config, task.size, device)
    state, loss = task.start(device)
    batches = task.batches(device, World().parts(settings.batch_size, settings.accumulate))
    on_cuda = device.type == "cuda"

    def train_until(step: int) -> float:
        begun = time.perf_counter()
        run_loop(state, batches.at, loss, _budget(settings, step), Callbacks())
        if on_cuda:
            torch.cuda.synchronize(device)
        return 1000 * (time.perf_counter() - begun)

    train_until(WARM_UP)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_cuda else [])]
    with profile(activities=activities, acc_events=True) as profiler:
        total = train_until(WARM_UP + steps)
    events = list(profiler.events() or ())
    marks = [event for event in events if event.name in MARKS and event.device_type.name == "CPU"]
    cpu = _parts(_durations(marks), total)
    cuda = _parts(*_kernel_times(events, marks)) if on_cuda else None
    return StepProfile(
        steps,
        settings.batch_size,
        str(device),
        {name: ms / steps for name, ms in cpu.items()},
        None if cuda is None else {name: ms / steps for name, ms in cuda.items()},
    )


def _budget(settings: TrainingConfig, steps: int) -> TrainingConfig:
    return settings.model_copy(update={"images": steps * settings.batch_size})


def _parts(times: dict[str, float], total: float) -> dict[str, float]:
    """Return the milliseconds of each part and of the rest; they sum to `total`.

    The time of the noise is taken out of that of the forward pass.
    """
    times = {**times, FORWARD: times[FORWARD] - times[NOISE]}
    parts = {mark.removeprefix("sagd/"): times[mark] for mark in MARKS}
    return {**parts, REST: total - sum(parts.values())}


def _durations(marks: list[FunctionEvent]) -> dict[str, float]:
    """Return the milliseconds between beginning and end, summed over the events of each mark."""
    times = dict.fromkeys(MARKS, 0.0)
    for mark in marks:
        times[mark.name] += (mark.time_range.end - mark.time_range.start) / 1000
    return times


def _kernel_times(events: list[FunctionEvent], marks: list[FunctionEvent]) -> tuple[dict[str, float], float]:
    """Return the milliseconds of the kernels launched during each mark, from any thread, and of all kernels."""
    times, total = dict.fromkeys(MARKS, 0.0), 0.0
    by_name = {
        name: sorted((m.time_range.start, m.time_range.end) for m in marks if m.name == name)
        for name in MARKS
    }
    for event in events:
        busy = sum(kernel.duration for kernel in event.kernels) / 1000
        total += busy
        for name in MARKS if busy else ():
            spans = by_name[name]
            i = bisect_right(spans, (event.time_range.start, math.inf)) - 1
            if i >= 0 and event.time_range.start <= spans[i][1]:
                times[name] += busy
    return times, total
