"""What `sagd omit` finds out before it restores: the band, how strong its noise is, and a model of the images."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isinf
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sagd_cli.config.run import DatasetConfig, RestorationConfig
from sagd_cli.damage.fields import CROP, SMALLEST_SIDE, Fields, make_fields
from sagd_cli.damage.find_band import find_band
from sagd_cli.damage.gauge import Gauge
from sagd_cli.damage.strength import Strength
from sagd_cli.damage.thin import is_thin, thin_strength
from sagd_cli.data.images import Image
from sagd_cli.data.ranges import image_signal
from sagd_cli.errors import DataError, UsageError
from sagd_cli.restoration.band_model import BandModel
from sagd_cli.restoration.calibration import calibrated
from sagd_cli.restoration.estimates import finest_level
from sagd_cli.restoration.learning import learn, restoration_task, split_of
from sagd_cli.restoration.options import Omission
from sagd_cli.restoration.restorer import FINEST, STRONGEST, Restorer
from sagd_cli.spectral.band import Band
from sagd_cli.system.console import Output
from sagd_cli.training.train import save_run

SATURATED_SHARE = 0.01


@dataclass(frozen=True)
class Preparation:
    """A prepared omission; `strength` is None where a band is only removed and nothing could be measured."""

    band: Band
    strength: Strength | None
    restorer: Restorer
    gauge: Gauge | None
    omission: Omission
    device: torch.device

    def strength_of(self, signal: NDArray[np.float32]) -> float:
        """Strength of the noise in an image (C, H, W), its own or that of all; infinite where the band is lost.

        Raises DataError when it is more than the model knows.
        """
        if self.strength is None:
            return 0.0
        found = self.gauge.one(signal) if self.omission.per_image and self.gauge is not None else None
        found = found or self.strength
        value = inf if found.lost else found.value
        if self.restorer.model is not None:
            self.restorer.model.check_level(min(value, STRONGEST))
        return value


def prepare_omission(
    omission: Omission,
    source: Path,
    run: Path | None,
    images: Sequence[Image],
    device: torch.device,
    output: Output,
) -> Preparation:
    """Find the band and the strength of its noise in `images`, some of those of `source`, and learn what is needed.

    A model that was learned is kept as `run`, if given. Raises DataError when there is nothing to omit.
    """
    if not images:
        raise DataError(
            f"no image of {source} can be read", "The files are damaged, or not what their names say."
        )
    images = _large_enough(images)
    band = omission.band or find_band(images, source)
    if omission.band is None:
        output.note(f"band {band}")
    _warn_of_clipping(images, output)
    if omission.is_untrained:
        return _removal(omission, source, band, images, device, output)
    damaged, reference = _fields(images, omission)
    gauge = Gauge(damaged, reference, band)
    strength = _strength(omission, images, band, gauge, output)
    if strength.lost and omission.is_self_supervised:
        raise DataError(
            f"the band {band} is lost in all images, and damaged images cannot say what was there",
            "Give clean images of their kind with --reference or --model, or use --estimate notch.",
        )
    if omission.is_self_supervised and is_thin(band):
        output.warn(
            "peaks and stripes are alike all over an image: a network that knows no clean one keeps them, or adds to "
            "them; --estimate wiener removes them, without training"
        )
    levels = _levels(omission, strength, gauge, images)
    model = omission.model
    if model is None:
        model = _learned(omission, source, run, band, levels, reference or damaged, device, output)
    elif omission.draws_samples:
        levels = max(FINEST, finest_level(levels[1], model.power_in(band))), levels[1]
    model.check(band, levels)
    restorer = Restorer(band, model, omission.restoring)
    if omission.uncertain:
        restorer = _with_uncertainty(restorer, omission, reference, strength, output)
    return Preparation(band, strength, restorer, gauge, omission, device)


def _large_enough(images: Sequence[Image]) -> Sequence[Image]:
    """Leave out images so small among the others that crops of their size would tell little of them."""
    sides = np.array([min(image.pixels.shape[1:]) for image in images])
    least = max(SMALLEST_SIDE, min(float(np.median(sides)), CROP) / 2)
    return [image for image, side in zip(images, sides, strict=True) if side >= least] or images


def _fields(images: Sequence[Image], omission: Omission) -> tuple[Fields, Fields | None]:
    """Fields of the damaged images and of clean ones, of one shape; a colour each when they differ in colours."""
    signals, clean = (
        [image_signal(image.pixels) for image in images],
        omission.reference.signals if omission.reference else [],
    )
    channels = {signal.shape[0] for signal in [*signals, *clean]}
    if omission.model is not None:
        channels.add(omission.model.shape[0])
    if channels == {1, 3}:
        if omission.model is not None and omission.model.shape[0] == 3:
            raise UsageError(
                f"{omission.model.name} was trained on colour images, and some of these are grey"
            )
        signals, clean = ([plane[None] for x in part for plane in x] for part in (signals, clean))
    damaged = make_fields(signals, clean, omission.seed)
    return damaged, make_fields(clean, signals, omission.seed) if clean else None


def _strength(
    omission: Omission, images: Sequence[Image], band: Band, gauge: Gauge, output: Output
) -> Strength:
    """Return the strength of the noise, as it was given or as it is measured; raise DataError when there is none."""
    if omission.strength is not None:
        value = omission.strength
        return Strength(value, value, value, lost=isinf(value))
    is_law = omission.reference is None and is_thin(band)
    found = thin_strength(images, band) if is_law else gauge.all()
    if found.lost:
        output.note(f"the band {band} is lost: nothing of the images shows in it")
    else:
        interval = f"95 % interval {found.low:.3g} to {found.high:.3g}"
        output.note(f"strength {found.value:.3g} ({interval}, range [-1, 1])")
    return found


def _removal(
    omission: Omission,
    source: Path,
    band: Band,
    images: Sequence[Image],
    device: torch.device,
    output: Output,
) -> Preparation:
    """Plan to remove the band, whatever it holds; warn where that takes more from the images than from the noise."""
    strength = None
    try:
        gauge = Gauge(*_fields(images, omission), band)
        strength = _strength(omission, images, band, gauge, output)
        damage = strength.value**2
        signal = gauge.power_inside - damage
        if omission.estimate == "notch" and signal > damage:
            output.warn(
                f"the band {band} carries more of the images (power {signal:.3g}) than damage ({damage:.3g}): removing "
                "it does more harm than good, which --estimate mean does not"
            )
    except DataError as error:
        output.warn(f"what is removed may be of the images alone: {error.message}")
    return Preparation(band, strength, Restorer(band, None, omission.restoring), None, omission, device)


def _levels(
    omission: Omission, strength: Strength, gauge: Gauge, images: Sequence[Image]
) -> tuple[float, float]:
    """Least and largest noise amplitude that the model has to know."""
    found = [strength]
    if omission.per_image:
        each = (gauge.one(image_signal(image.pixels)) for image in images)
        found += [one for one in each if one is not None and (one.lost or one.value >= FINEST)]
    values = [STRONGEST if one.lost else min(max(one.value, FINEST), STRONGEST) for one in found]
    return FINEST if omission.draws_samples else min(values), max(values)


def _learned(
    omission: Omission,
    source: Path,
    run: Path | None,
    band: Band,
    levels: tuple[float, float],
    fields: Fields,
    device: torch.device,
    output: Output,
) -> BandModel:
    """Learn from clean images, or from the damaged ones at the level of their own damage (MATH: 6., use 3)."""
    damage = None if omission.reference else levels[1]
    data = (
        omission.reference.data
        if omission.reference
        else DatasetConfig(name="folder", options={"path": str(source.absolute())})
    )
    wanted = RestorationConfig(bands=(str(band),), strengths=levels, damage=damage)
    task = restoration_task(fields, data, wanted, omission.steps, omission.seed)
    state = learn(task, fields, device, output)
    if run is not None:
        save_run(run, task, state)
        output.note(f"the model is kept in {run}")
    network = state.ema.network.eval()
    return BandModel(str(run or "the model"), network, task.config, task.size.shape, task.moments["power"])


def _with_uncertainty(
    restorer: Restorer, omission: Omission, clean: Fields | None, strength: Strength, output: Output
) -> Restorer:
    """Calibrate deviations on clean images, on those that were not learned from where there are enough of them."""
    if clean is None:
        output.warn(
            "the uncertainty is that of the model's samples alone, which understates its error: "
            "with --reference it is calibrated on clean images"
        )
        return restorer
    _, held_out = split_of(clean, omission.seed)
    chosen = held_out if len(held_out) else np.arange(len(clean.values))
    found = calibrated(restorer, clean, chosen, STRONGEST if strength.lost else strength.value)
    output.note(f"deviations have a floor of {found.floor:.3g}, the model's own error (range [-1, 1])")
    return found


def _warn_of_clipping(images: Sequence[Image], output: Output) -> None:
    """Clipping spreads noise over all frequencies, which no band can undo."""
    ends = {"uint8": 255, "uint16": 65535}
    whole = [image.pixels for image in images if image.pixels.dtype.name in ends]
    saturated = sum(int(np.count_nonzero((p == 0) | (p == ends[p.dtype.name]))) for p in whole)
    share = saturated / max(sum(p.size for p in whole), 1)
    if share > SATURATED_SHARE:
        output.warn(
            f"{share:.0%} of the pixels are black or white: where noise was clipped there, it has left its band "
            "and cannot be omitted (float TIFF keeps values outside the range)"
        )
