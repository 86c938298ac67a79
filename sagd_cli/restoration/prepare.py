"""What `sagd omit` finds out before it restores: the band, how strong its noise is, and a model of the images."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isinf
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sagd_cli.config.run import DatasetConfig, RestorationConfig
from sagd_cli.damage.fields import CROP, SMALLEST_SIDE, Fields, make_fields
from sagd_cli.damage.find_band import find_band
from sagd_cli.damage.gauge import Gauge
from sagd_cli.damage.strength import FINEST, STRONGEST, Strength
from sagd_cli.damage.thin import is_thin, thin_strength
from sagd_cli.data.images import Image
from sagd_cli.errors import DataError, UsageError
from sagd_cli.restoration.band_model import BandModel
from sagd_cli.restoration.calibration import calibrated
from sagd_cli.restoration.estimates import finest_level
from sagd_cli.restoration.learning import learn, restoration_task, split_of
from sagd_cli.restoration.options import Omission
from sagd_cli.restoration.restorer import Restorer
from sagd_cli.spectral.band import Band
from sagd_cli.system.console import Output
from sagd_cli.training.train import save_run

SATURATED_SHARE = 0.01


@dataclass(frozen=True)
class Prepared:
    """All that restoring needs.

    `strength` is None when the band is only removed and its noise could not be measured.
    """

    omission: Omission
    band: Band
    strength: Strength | None
    restorer: Restorer
    gauge: Gauge | None = None

    def strength_of(self, signal: NDArray[np.float32]) -> float:
        """Return the amplitude of the noise in `signal` (C, H, W), infinite for a lost band.

        With `--per-image` it is measured on this image where that is possible, otherwise it is the common one. Raises
        DataError when it is larger than the model was trained for.
        """
        if self.strength is None:
            return 0.0
        found = self.gauge.one(signal) if self.omission.per_image and self.gauge is not None else None
        level = (found or self.strength).level
        if self.restorer.model is not None:
            self.restorer.model.check_level(min(level, STRONGEST))
        return level


@dataclass(frozen=True)
class Preparation:
    """Finds the band and the strength of its noise, and learns a model where one is needed.

    `images` are some of the images of `source`. The learned model is saved as the run `run`, if given.
    """

    omission: Omission
    source: Path
    images: Sequence[Image]
    device: torch.device
    output: Output
    run: Path | None = None

    def prepared(self) -> Prepared:
        """Return what restoring needs; raise DataError when there is nothing to omit."""
        images = _large_enough(self.images)
        band = self.omission.band or find_band(images, self.source)
        if self.omission.band is None:
            self.output.note(f"band {band}")
        _warn_of_clipping(images, self.output)
        if not self.omission.choice.needs_model:
            return self._removal(band, images)
        damaged, reference = _fields(images, self.omission)
        gauge = Gauge(damaged, reference, band)
        strength = self._strength(images, band, gauge)
        self._check_self_supervision(band, strength)
        model = self._model(band, self._levels(strength, gauge, images), reference or damaged)
        restorer = Restorer(band, model, self.omission.restoring)
        if self.omission.uncertain:
            restorer = self._with_uncertainty(restorer, reference, strength)
        return Prepared(self.omission, band, strength, restorer, gauge)

    def _removal(self, band: Band, images: Sequence[Image]) -> Prepared:
        """Prepare to remove the band without a model; warn when the band holds more image power than noise power."""
        strength = None
        try:
            gauge = Gauge(*_fields(images, self.omission), band)
            strength = self._strength(images, band, gauge)
            damage = strength.value**2
            signal = gauge.power_inside - damage
            if self.omission.choice.empties_band and signal > damage:
                self.output.warn(
                    f"the band {band} carries more of the images (power {signal:.3g}) than damage ({damage:.3g}): "
                    "removing it does more harm than good, which --estimate mean does not"
                )
        except DataError as error:
            self.output.warn(f"what is removed may be of the images alone: {error.message}")
        return Prepared(self.omission, band, strength, Restorer(band, None, self.omission.restoring))

    def _strength(self, images: Sequence[Image], band: Band, gauge: Gauge) -> Strength:
        """Return the strength of the noise, as given or as measured; raise DataError when there is no noise."""
        if self.omission.strength is not None:
            value = self.omission.strength
            return Strength(value, value, value, lost=isinf(value))
        is_law = self.omission.reference is None and is_thin(band)
        found = thin_strength(images, band) if is_law else gauge.all()
        if found.lost:
            self.output.note(f"the band {band} is lost: nothing of the images shows in it")
        else:
            interval = f"95 % interval {found.low:.3g} to {found.high:.3g}"
            self.output.note(f"strength {found.value:.3g} ({interval}, range [-1, 1])")
        return found

    def _check_self_supervision(self, band: Band, strength: Strength) -> None:
        """Check that damaged images can tell what the clean ones are like, where nothing else is known.

        Raises DataError for a lost band; warns for peaks and stripes.
        """
        if not self.omission.is_self_supervised:
            return
        if strength.lost:
            raise DataError(
                f"the band {band} is lost in all images, and damaged images cannot say what was there",
                "Give clean images of their kind with --reference or --model, or use --estimate notch.",
            )
        if is_thin(band):
            self.output.warn(
                "peaks and stripes are alike all over an image: a network that knows no clean one keeps them, or adds "
                "to them; --estimate wiener removes them, without training"
            )

    def _levels(self, strength: Strength, gauge: Gauge, images: Sequence[Image]) -> tuple[float, float]:
        """Return the least and the largest noise amplitude that the model has to know."""
        found = [strength.level]
        if self.omission.per_image:
            each = (gauge.one(image.signal) for image in images)
            found += [one.level for one in each if one is not None and one.level >= FINEST]
        levels = [min(max(level, FINEST), STRONGEST) for level in found]
        return FINEST if self.omission.walks_path else min(levels), max(levels)

    def _model(self, band: Band, levels: tuple[float, float], fields: Fields) -> BandModel:
        """Return the model that was given, or learn one; raise UsageError when it was not trained for `levels`."""
        model = self.omission.model
        if model is None:
            model = self._learned(band, levels, fields)
        elif self.omission.walks_path:
            levels = max(FINEST, finest_level(levels[1], model.power_in(band))), levels[1]
        model.check(band, levels)
        return model

    def _learned(self, band: Band, levels: tuple[float, float], fields: Fields) -> BandModel:
        """Learn a model from clean images; without any, from the damaged ones (docs/theory.md, section 6.3)."""
        reference = self.omission.reference
        damage = None if reference else levels[1]
        data = (
            reference.data
            if reference
            else DatasetConfig(name="folder", options={"path": str(self.source.absolute())})
        )
        wanted = RestorationConfig(bands=(str(band),), strengths=levels, damage=damage)
        task = restoration_task(fields, data, wanted, self.omission.steps, self.omission.seed)
        state = learn(task, fields, self.device, self.output)
        if self.run is not None:
            save_run(self.run, task, state)
            self.output.note(f"the model is kept in {self.run}")
        return BandModel(task.model(state, str(self.run or "the model")))

    def _with_uncertainty(self, restorer: Restorer, clean: Fields | None, strength: Strength) -> Restorer:
        """Calibrate the deviations on clean images; use images that were not learned from if there are enough."""
        if clean is None:
            self.output.warn(
                "the uncertainty is that of the model's samples alone, which understates its error: "
                "with --reference it is calibrated on clean images"
            )
            return restorer
        _, held_out = split_of(clean, self.omission.seed)
        chosen = held_out if len(held_out) else np.arange(len(clean.values))
        found = calibrated(restorer, clean, chosen, min(strength.level, STRONGEST))
        self.output.note(
            f"deviations have a floor of {found.floor:.3g}, the model's own error (range [-1, 1])"
        )
        return found


def _large_enough(images: Sequence[Image]) -> Sequence[Image]:
    """Leave out images that are much smaller than the others, as all crops would have to be as small."""
    sides = np.array([min(image.pixels.shape[1:]) for image in images])
    least = max(SMALLEST_SIDE, min(float(np.median(sides)), CROP) / 2)
    return [image for image, side in zip(images, sides, strict=True) if side >= least] or images


def _fields(images: Sequence[Image], omission: Omission) -> tuple[Fields, Fields | None]:
    """Return fields of the damaged images and of the clean ones (None without any), all of one shape.

    When grey and colour images come together, each colour becomes a grey field.
    """
    signals, clean = (
        [image.signal for image in images],
        omission.reference.signals(images) if omission.reference else [],
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


def _warn_of_clipping(images: Sequence[Image], output: Output) -> None:
    """Warn when many pixels may be clipped: clipping spreads noise over all frequencies, out of its band."""
    whole = [image for image in images if image.pixels.dtype.kind == "u"]
    ends = ((image.pixels == image.values.low) | (image.pixels == image.values.high) for image in whole)
    share = sum(map(np.count_nonzero, ends)) / max(sum(image.pixels.size for image in whole), 1)
    if share > SATURATED_SHARE:
        output.warn(
            f"{share:.0%} of the pixels are black or white: where noise was clipped there, it has left its band "
            "and cannot be omitted (float TIFF keeps values outside the range)"
        )
