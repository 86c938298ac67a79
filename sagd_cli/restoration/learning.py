"""Learning, for one call of `sagd omit`, to tell noise in its band from the images at hand."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sagd_cli.config.run import BackboneConfig, DatasetConfig, RestorationConfig, RunConfig, TrainingConfig
from sagd_cli.damage.fields import Fields
from sagd_cli.diffusion.denoiser import as_network
from sagd_cli.diffusion.loss import Loss
from sagd_cli.errors import Interrupted
from sagd_cli.model.network import resolve_backbone, seen_shape
from sagd_cli.model.state import TrainingState
from sagd_cli.plugin.records import ImageSet
from sagd_cli.run.log import LogRecord
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.noise import random_stream, uniform
from sagd_cli.system.console import Output
from sagd_cli.system.signals import stop_on_signal
from sagd_cli.training.batches import Batch, Batches
from sagd_cli.training.loop import Callbacks, run_loop
from sagd_cli.training.task import Task

View = Callable[[Tensor], Tensor]

LARGEST_BATCH, SMALLEST_BATCH, PIXELS_A_STEP = 64, 8, 3 << 14
HELD_OUT = 0.1
FEWEST_HELD_OUT, MOST_HELD_OUT = 8, 128
HELD_OUT_DRAWS = 256  # images per comparison: each held-out image is used with several draws of the noise
PATIENCE_RECORDS = 5
# Share of the images that are left as they are; the others are turned and mirrored at random. Turning keeps the
# network from learning a small set by heart. The unturned share keeps the most weight on the images as they are.
UNTURNED = 1 / 3


def restoration_task(
    fields: Fields, dataset: DatasetConfig, wanted: RestorationConfig, steps: int, seed: int
) -> Task:
    """Return the task of learning from `fields`, which were cut from the images of `dataset`.

    Network and batch size are chosen to fit the fields. `wanted` gives the bands and strengths, `steps` the most
    optimiser steps.
    """
    side = max(fields.shape)
    pixels = fields.values.shape[1] * side**2
    batch_size = int(np.clip(PIXELS_A_STEP // pixels, SMALLEST_BATCH, LARGEST_BATCH))
    backbone = BackboneConfig(options={"channels": [32, 64, 64] if side > 16 else [32, 64], "dropout": 0.1})
    crops = () if fields.whole or side < 16 else (side - side % 16,)
    if crops:
        backbone = BackboneConfig(name="residual", options={"channels": [32, 64, 96]})
    config = RunConfig(
        dataset=dataset,
        backbone=backbone,
        restoration=wanted,
        training=TrainingConfig(
            images=steps * batch_size,
            batch_size=batch_size,
            warmup_images=50 * batch_size,
            ema_half_life_images=30 * batch_size,
            seed=seed,
            crops=crops,
            checkpoint_minutes=0,  # with each of them the loss on held-out fields is looked at
        ),
    )
    shape = fields.values.shape[1:]
    config = resolve_backbone(config, seen_shape(config, shape))
    return Task(config, ImageSet(fields.values), None, config.filter.weights(shape[1:]))


def learn(task: Task, fields: Fields, device: torch.device, output: Output) -> TrainingState:
    """Train a network on `fields` as `task` says; return the state, whose average holds the best weights.

    A tenth of the fields is held out. The averaged weights with the smallest loss on them are kept. Training ends
    early when that loss has not improved for a while. Raises Interrupted when a signal asks to stop.
    """
    settings, values = task.config.training, torch.from_numpy(fields.values).to(device)
    state, loss = task.start(device)
    learned, held_out = split_of(fields, settings.seed)
    views = views_of(_bands(task), FrequencyGrid(fields.shape))
    batches = Batches(values[torch.from_numpy(learned)], settings.batch_size, settings.seed)
    best = _Best(state, loss, values[torch.from_numpy(held_out)], settings.seed)
    with stop_on_signal() as stop, output.progress("learn", settings.steps, 0, settings.batch_size) as bar:

        def record(figures: LogRecord) -> None:
            best.record()
            bar.show(loss=figures["loss"], **best.figures)

        callbacks = Callbacks(record, bar.advance, stop_requested=lambda: stop.requested() or best.is_past)
        run_loop(
            state,
            lambda step, places: Batch(turned(batches.at(step, places).images, views, settings.seed, step)),
            loss,
            settings,
            callbacks,
        )
    if stop.signum is not None:
        raise Interrupted(stop.signum, "stopped while learning the images; nothing was written")
    output.detail(f"kept the weights of step {best.step} of {state.step}")
    state.ema.network.load_state_dict(best.weights)
    return state


def split_of(fields: Fields, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the indices of the fields to learn from and of the fields held out.

    None are held out, and all are learned from, when fewer than 8 would be held out.
    """
    learned, held_out = fields.split(HELD_OUT, MOST_HELD_OUT, seed)
    if len(held_out) < FEWEST_HELD_OUT:
        return np.arange(len(fields.values)), held_out[:0]
    return learned, held_out


@dataclass
class _Best:
    """The averaged weights with the smallest loss on held-out fields, always with the same noise.

    Without held-out fields, the newest averaged weights.
    """

    state: TrainingState
    loss: Loss
    held_out: Tensor
    seed: int
    step: int = 0
    smallest: float = math.inf
    misses: int = 0
    figures: dict[str, float] = field(default_factory=dict)
    kept: dict[str, Tensor] | None = None

    @property
    def weights(self) -> dict[str, Tensor]:
        """The best weights."""
        return self.kept or self.state.ema.network.state_dict()

    @property
    def is_past(self) -> bool:
        """Whether the held-out loss has not improved for `PATIENCE_RECORDS` records."""
        return self.misses >= PATIENCE_RECORDS

    @torch.no_grad()
    def record(self) -> None:
        """Compare the present averaged weights with the best so far."""
        self.step = self.step if len(self.held_out) else self.state.step
        if not len(self.held_out):
            return
        network = as_network(self.state.ema.network)
        draws = [
            self.loss.errors(
                network, self.held_out, random_stream(self.held_out.device, self.seed, "held-out", i)
            ).output
            for i in range(-(-HELD_OUT_DRAWS // len(self.held_out)))
        ]
        value = float(torch.stack(draws).square().mean())
        self.figures = {"held-out": value}
        self.misses += 1
        if value < self.smallest:
            self.smallest, self.misses, self.step = value, 0, self.state.step
            self.kept = copy.deepcopy(self.state.ema.network.state_dict())


def _bands(task: Task) -> list[Band]:
    assert task.config.restoration is not None
    return [Band.parse(band) for band in task.config.restoration.bands]


def views_of(bands: list[Band], grid: FrequencyGrid) -> list[View]:
    """Return the mirrorings and turns of images that leave the law of the noise in each of `bands` unchanged.

    Not all of them do for every band: a turn moves a stripe to another direction.
    """
    masks = [band.mask(grid).astype(np.float64) for band in bands]
    views: list[View] = []
    if all(np.array_equal(grid.full(mask), grid.full(grid.mirrored(mask))) for mask in masks):
        views += [lambda v: v.flip(-1), lambda v: v.flip(-2)]
    if all(np.array_equal(grid.full(mask), grid.full(mask).T) for mask in masks):
        views.append(lambda v: v.transpose(-1, -2))
    return views


def turned(x: Tensor, views: list[View], seed: int, step: int) -> Tensor:
    """Apply some of `views` to each of the images `x` (B, C, H, W), at random.

    The choice is a function of `seed` and `step`.
    """
    stream = random_stream("cpu", seed, "turn", step)
    touched, *turns = (uniform(len(x), stream, torch.device("cpu")).to(x.device) for _ in range(4))
    touched = touched >= UNTURNED
    for chosen, view in zip(turns, views, strict=False):
        x = torch.where((touched & (chosen < 0.5)).view(-1, 1, 1, 1), view(x), x)
    return x
