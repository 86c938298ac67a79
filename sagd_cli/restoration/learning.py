"""Learning, for one call of `sagd omit`, to tell noise of one spectrum from the images at hand."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sagd_cli.config.noise_spectrum import WEAKEST_LEVEL, MeasuredSpectrum, NoiseSpectrum
from sagd_cli.config.run import BackboneConfig, DatasetConfig, RestorationConfig, RunConfig, TrainingConfig
from sagd_cli.config.trained_noise import NoiseContext
from sagd_cli.config.validation import digest_of
from sagd_cli.damage.fields import Fields
from sagd_cli.damage.measured_noise import MeasuredNoise, measured_hash
from sagd_cli.damage.strength import FINEST, STRONGEST
from sagd_cli.model.network import resolve_backbone, seen_shape
from sagd_cli.plugin.records import ImageSet
from sagd_cli.restoration.options import Omission
from sagd_cli.restorer.restoring_model import RestoringModel, open_model
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.grid import Array, FrequencyGrid
from sagd_cli.spectral.noise import BatchStream
from sagd_cli.system.console import Output
from sagd_cli.system.distributed import World
from sagd_cli.training.batches import Views
from sagd_cli.training.task import Task
from sagd_cli.training.train import Conduct, Training

View = Callable[[Tensor], Tensor]

LARGEST_BATCH, SMALLEST_BATCH, PIXELS_A_STEP = 64, 8, 3 << 14
HELD_OUT, FEWEST_HELD_OUT = 0.1, 8
LOOKED = 20  # steps between looks at the fields held out
SAVED = 1.0  # minutes between checkpoints
# Share of the images that are left as they are; the others are turned and mirrored at random. Turning keeps the
# network from learning a small set by heart. The unturned share keeps the most weight on the images as they are.
UNTURNED = 1 / 3
UNLIKE = 0.03  # share of the power by which two spectra that count as the same may differ


@dataclass(frozen=True)
class Lesson:
    """The noise to tell from images: one spectrum, whose levels are multiplied by strengths from `low` to `high`."""

    noise: NoiseSpectrum
    low: float
    high: float

    @classmethod
    def of(cls, noise: NoiseSpectrum, others: Sequence[float], walks_path: bool) -> "Lesson":
        """Return what has to be known of `noise`: at its levels, and at `others`, levels of its only part.

        With `walks_path`, at all levels on the way down. Parts of a millionth of the strongest are none.
        """
        parts = noise.merged
        levels = [min(level or 0.0, STRONGEST) for level in parts.levels]
        top = max(levels)
        found = [min(max(level, FINEST), STRONGEST) for level in (top, *others)]
        unit = parts.with_levels([level / top for level in levels])
        told = tuple(part for part in unit.parts if part.level and part.level >= WEAKEST_LEVEL)
        return cls(NoiseSpectrum(told), FINEST if walks_path else min(found), max(found))

    @property
    def measured(self) -> dict[str, MeasuredSpectrum]:
        """The spectra that were measured, by their path."""
        sources = (part.source for part in self.noise.parts)
        return {source.path: source for source in sources if isinstance(source, MeasuredNoise)}

    def units(self, extent: tuple[int, ...], grid: FrequencyGrid) -> list[Array]:
        """Return the power of each part on `grid`, in crops of images of the shape `extent`."""
        return [NoiseSpectrum((part,)).of_crops(extent).power(grid) for part in self.noise.parts]

    def settings(self, grid: FrequencyGrid, damaged: bool, clipped: bool) -> RestorationConfig:
        """Return the settings of a run that learns it, on `grid`, from images that are `damaged`, or else clean."""
        part, *others = self.noise.parts
        alone = isinstance(part.source, Band) and not others
        return RestorationConfig(
            bands=(str(part.source if alone else self.noise),),
            strengths=(self.low, self.high),
            damage=self.high if damaged else None,
            measured=measured_hash(self.noise, grid),
            clipped=float(clipped),
        )


def restoration_task(
    fields: Fields,
    extent: tuple[int, ...],
    dataset: DatasetConfig,
    lesson: Lesson,
    is_clipped: bool | None,
    omission: Omission,
) -> Task:
    """Return the task of learning from `fields`, which were cut from the images of `dataset`.

    The noise is that of images of the shape `extent`, to which the model is to be applied.
    `is_clipped`: the noise of the clean fields is to be clipped (None: the fields are damaged). Network and batch size
    are chosen to fit the fields. A tenth of the fields is held out, unless that is fewer than 8.
    """
    side, grid, steps, seed = max(fields.shape), FrequencyGrid(fields.shape), omission.steps, omission.seed
    pixels = fields.values.shape[1] * side**2
    batch_size = int(np.clip(PIXELS_A_STEP // pixels, SMALLEST_BATCH, LARGEST_BATCH))
    backbone = BackboneConfig(options={"channels": [32, 64, 64] if side > 16 else [32, 64], "dropout": 0.1})
    crops = () if fields.whole or side < 16 else (side - side % 16,)
    if crops:
        backbone = BackboneConfig(name="residual", options={"channels": [32, 64, 96]})
    config = RunConfig(
        dataset=dataset,
        backbone=backbone,
        restoration=lesson.settings(grid, is_clipped is None, bool(is_clipped)),
        training=TrainingConfig(
            images=steps * batch_size,
            batch_size=batch_size,
            warmup_images=50 * batch_size,
            ema_half_life_images=30 * batch_size,
            seed=seed,
            crops=crops,
            checkpoint_minutes=SAVED,
            log_steps=LOOKED,
        ),
    )
    shape = fields.values.shape[1:]
    config = resolve_backbone(config, seen_shape(config, shape))
    _, held_out = split_of(fields, seed)
    return Task(
        config,
        ImageSet(fields.values),
        None,
        config.filter.weights(shape[1:]),
        held_out if len(held_out) else None,
        Turned(crops=crops, views=views_of(lesson.units(extent, grid), grid)),
        NoiseContext(lesson.measured, extent),
    )


def learned(task: Task, path: Path, device: torch.device, output: Output) -> RestoringModel:
    """Train `task` as the run `path`, or go on with the run that is there, and return the model.

    Raises what training raises: Interrupted, after saving, when a signal asks to stop, and UsageError when `path` holds
    something else.
    """
    Training(task, path, device, output, World(), Conduct(check_memory=False)).run()
    return open_model(path, device, output)


def folder_of(task: Task, folder: Path) -> Path:
    """Return the folder in `folder` in which `task` is learned; another task, or other images, have another one."""
    return folder / digest_of({**task.config.identity(), "images": task.described()["images_sha256"]})[:12]


def split_of(fields: Fields, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the indices of the fields to learn from and of the fields held out.

    None are held out, and all are learned from, when fewer than 8 would be held out.
    """
    learned, held_out = fields.split(HELD_OUT, seed)
    if len(held_out) < FEWEST_HELD_OUT:
        return np.arange(len(fields.values)), held_out[:0]
    return learned, held_out


def views_of(powers: Sequence[Array], grid: FrequencyGrid) -> list[View]:
    """Return the mirrorings and turns of images that leave noise of each of the spectra `powers` as it is.

    Not all of them do for every noise: a turn moves a stripe to another direction.
    """
    views: list[View] = []
    if all(_alike(grid.full(power), grid.full(grid.mirrored(power))) for power in powers):
        views += [lambda v: v.flip(-1), lambda v: v.flip(-2)]
    if len(set(grid.shape)) == 1 and all(_alike(grid.full(power), grid.full(power).T) for power in powers):
        views.append(lambda v: v.transpose(-1, -2))
    return views


def _alike(power: Array, other: Array) -> bool:
    """Whether two spectra are the same; those of crops of oblong images differ a little at the ends of a ring."""
    return float(np.abs(power - other).sum()) <= UNLIKE * float(power.sum())


@dataclass(frozen=True)
class Turned(Views):
    """The images as `Views` cuts them; some of `views`, at random, of each of two thirds (B, C, H, W)."""

    views: Sequence[View] = ()

    def at(self, images: Tensor, places: range, seed: int, step: int) -> Tensor:
        """Return the images, which are at `places` of the batch of `step`, as they are seen there."""
        images = super().at(images, places, seed, step)
        stream = BatchStream(torch.device("cpu"), places, seed, "turn", step)
        drawn = torch.stack([stream.rand() for _ in range(4)])
        touched, *turns = drawn.to(images.device, non_blocking=True)
        for chosen, view in zip(turns, self.views, strict=False):
            turn = (touched >= UNTURNED) & (chosen < 0.5)
            images = torch.where(turn.view(-1, 1, 1, 1), view(images), images)
        return images
