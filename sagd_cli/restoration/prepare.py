"""What `sagd omit` finds out before it restores: the noise, how strong it is, and a model of the images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path

import numpy as np
import torch

from sagd_cli.config.noise_spectrum import NoiseSpectrum
from sagd_cli.config.run import DatasetConfig
from sagd_cli.damage.fields import CROP, SMALLEST_SIDE, Fields, make_fields
from sagd_cli.damage.gauge import Gauge
from sagd_cli.damage.noise_levels import noise_levels
from sagd_cli.damage.strength import FINEST, Strength
from sagd_cli.damage.thin import is_thin
from sagd_cli.data.images import Image
from sagd_cli.detection.find_band import find_thin
from sagd_cli.errors import DataError, UsageError
from sagd_cli.restoration.calibration import calibrated
from sagd_cli.restoration.learning import Lesson, folder_of, learned, restoration_task, split_of
from sagd_cli.restoration.options import AUTO, Omission
from sagd_cli.restoration.prepared import SATURATED_SHARE, Prepared, saturated_share, warn_of_clipping
from sagd_cli.restoration.restorer import Restorer
from sagd_cli.restoration.restoring_model import RestoringModel, packaged_model
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.system.console import Output

SMALLEST_RESTORED = 48  # pixels, the side from which on images are left to the model in the package


@dataclass(frozen=True)
class Preparation:
    """Finds the noise and its strength, and learns a model where one is needed.

    `images` are some of the images of `source`. What is learned is the run `run`, or without it a run in the folder
    `workspace`.
    """

    omission: Omission
    source: Path
    images: Sequence[Image]
    device: torch.device
    output: Output
    workspace: Path
    run: Path | None = None

    def prepared(self) -> Prepared:
        """Return what restoring needs; raise DataError when there is nothing to omit.

        Raises ConfigError when the noise that was told has no frequency, or all of them, in the largest image.
        """
        images = _large_enough(self.images)
        warn_of_clipping(images, self.output)
        if self.omission.noise is None:
            return self._finding()
        noise, gauge = self._told(images)
        look = noise.units if None in noise.levels else noise.power
        look(FrequencyGrid(max((image.pixels.shape[1:] for image in images), key=np.prod)))
        if not self.omission.choice.needs_model:
            return self._removal(noise, images, gauge)
        learns = self._learns_from_damage(noise, images)
        if learns:
            self._check_self_supervision(noise)
        noise, strength = self._measured(noise, images, gauge)
        model, knowledge = self._model(noise, images, gauge, learns)
        model.check(noise, self.omission.walks_path)
        prepared = self._with(noise, strength, model, knowledge, gauge)
        return self._with_uncertainty(prepared, images) if self.omission.uncertain else prepared

    def _with(
        self,
        noise: NoiseSpectrum | None,
        strength: Strength | None,
        model: RestoringModel | None,
        knowledge: str,
        gauge: Gauge | None = None,
    ) -> Prepared:
        restorer = Restorer(model, self.omission.restoring)
        return Prepared(self.omission, noise, strength, restorer, knowledge, self.output, gauge)

    def _finding(self) -> Prepared:
        """Prepare to find the noise of each image in it."""
        if not self.omission.choice.needs_model:
            return self._with(None, None, None, "")
        model = self.omission.model
        if model is not None and not model.knows_any_noise:
            raise UsageError(
                f"{model.name} was trained for some noise only", "Say which with --band or --noise."
            )
        known = (model, "model") if model else (self._packaged(), "restorer")
        prepared = self._with(None, None, *known)
        return self._with_uncertainty(prepared, self.images) if self.omission.uncertain else prepared

    def _told(self, images: Sequence[Image]) -> tuple[NoiseSpectrum, Gauge | None]:
        """Return the noise as told, or peaks and stripes as found, and a gauge where one part's level is unknown."""
        told = self.omission.noise
        if told == AUTO:
            told = find_thin(images, self.source)
            self.output.note(f"found {told.shown}")
        assert isinstance(told, NoiseSpectrum)
        band = _whole_band(told)
        if band is None or told.parts[0].level is not None or (is_thin(band) and not self.omission.reference):
            return told, None
        return told, Gauge(*self._fields(images), band)

    def _measured(
        self, noise: NoiseSpectrum, images: Sequence[Image], gauge: Gauge | None
    ) -> tuple[NoiseSpectrum, Strength | None]:
        """Return the noise with all its levels, and its strength where that is one number.

        Raises DataError when there is no noise.
        """
        levels = noise.levels
        if None not in levels:
            return noise, Strength.told(levels[0]) if len(levels) == 1 and levels[0] is not None else None
        if gauge is not None:
            found = gauge.all()
            self._say(str(noise), found)
            return noise.with_levels([found.level]), found
        measured = noise_levels([image.signal for image in images], noise.units)
        for part, strength, level in zip(noise.parts, measured, levels, strict=True):
            if level is None:
                self._say(str(part), strength)
        # What nobody told may be no noise at all: the smaller strength then.
        values = [m.cautious if self.omission.noise == AUTO else m.value for m in measured]
        known = [value if level is None else level for level, value in zip(levels, values, strict=True)]
        if not any(m.found or level for level, m in zip(levels, measured, strict=True)):
            raise DataError(
                f"no noise {noise} is certain in the images: nothing was changed",
                "If there is noise, give its --strength, or a --reference like the images.",
            )
        return noise.with_levels(known), measured[0] if len(measured) == 1 else None

    def _say(self, what: str, found: Strength) -> None:
        interval = (
            f"strength {found.value:.3g} (95 % interval {found.low:.3g} to {found.high:.3g}, range [-1, 1])"
        )
        self.output.note(f"{what}: {'lost, nothing of the images shows in it' if found.lost else interval}")

    def _removal(self, noise: NoiseSpectrum, images: Sequence[Image], gauge: Gauge | None) -> Prepared:
        """Prepare to work without a model; warn when that does more harm than good."""
        band, strength = noise.band, None
        try:
            noise, strength = self._measured(noise, images, gauge)
        except DataError as error:
            self.output.warn(f"what is removed may be of the images alone: {error.message}")
            noise = noise.with_levels([1.0] * len(noise.parts))
        if self.omission.estimate == "wiener" and band is not None and not is_thin(band):
            self.output.warn(
                "wiener compares a band with the frequencies around it: in one as wide as this it does more harm than "
                "notch; mean does better"
            )
        if self.omission.choice.empties_band and gauge is not None and strength is not None:
            damage = strength.value**2
            signal = gauge.power_inside - damage
            if signal > damage:
                self.output.warn(
                    f"the band {band} carries more of the images (power {signal:.3g}) than damage ({damage:.3g}): "
                    "removing it does more harm than good, which --estimate mean does not"
                )
        return self._with(noise, strength, None, "", gauge)

    def _learns_from_damage(self, noise: NoiseSpectrum, images: Sequence[Image]) -> bool:
        """Whether what is known of clean images comes from the damaged ones alone."""
        omission = self.omission
        if omission.model is not None:
            return omission.model.settings.damage is not None
        sides = [min(image.pixels.shape[1:]) for image in images]
        is_small = float(np.median(sides)) < SMALLEST_RESTORED and omission.noise != AUTO
        by_default = is_small and not _has_thin(noise) and self._beyond_damage(noise) is None
        return omission.reference is None and (omission.learns or omission.keeps_model or by_default)

    def _beyond_damage(self, noise: NoiseSpectrum) -> str | None:
        """Return an option that needs a model of clean images, or None where none is given."""
        omission = self.omission
        given = {
            f"--estimate {omission.estimate}": omission.choice.walks_path,
            "--uncertainty": omission.uncertain,
            "--per-image": omission.per_image,
            "--strength inf": inf in noise.levels,
        }
        return next((option for option, is_given in given.items() if is_given), None)

    def _check_self_supervision(self, noise: NoiseSpectrum) -> None:
        """Raise UsageError for what needs a model of clean images; warn of peaks and stripes."""
        option = self._beyond_damage(noise)
        if option is not None:
            raise UsageError(
                f"{option} needs to know what clean images are like",
                "Leave out --learn, or give a --reference or a --model of clean images.",
            )
        if _has_thin(noise):
            self.output.warn(
                "peaks and stripes are alike all over an image: a network that knows no clean one keeps them, or adds "
                "to them; the restorer of the package removes them"
            )

    def _model(
        self, noise: NoiseSpectrum, images: Sequence[Image], gauge: Gauge | None, learns: bool
    ) -> tuple[RestoringModel, str]:
        """Return the model that was given, one that is learned, or the one in the package, and what it knows."""
        model = self.omission.model
        if learns and inf in noise.levels:
            raise DataError(
                f"the band {noise.band or noise.shown} is lost in all images, and they cannot say what was there",
                "Give clean images of their kind with --reference or --model, or use --estimate notch.",
            )
        if model is not None:
            return model, "self-supervised" if learns else "model"
        if learns or self.omission.reference is not None:
            return self._learned(noise, images, gauge), "self-supervised" if learns else "reference"
        return self._packaged(), "restorer"

    def _packaged(self) -> RestoringModel:
        self.output.note(
            "restored by the restorer of the package (--learn learns from the images themselves)"
        )
        return packaged_model(self.device)

    def _learned(self, noise: NoiseSpectrum, images: Sequence[Image], gauge: Gauge | None) -> RestoringModel:
        """Learn a model from clean images; without any, from the damaged ones (docs/theory.md, section 6.3)."""
        omission, reference = self.omission, self.omission.reference
        if omission.per_image and len(noise.parts) > 1:
            raise UsageError(
                "what is learned is noise of one spectrum, and with --per-image that of several parts is not one",
                "Leave out --per-image, or --reference: the restorer of the package takes any noise.",
            )
        damaged, clean = self._fields(images)
        lesson = Lesson.of(noise, self._levels(noise, images, gauge), omission.walks_path)
        folder = DatasetConfig(name="folder", options={"path": str(self.source.absolute())})
        data = reference.data if reference else folder
        is_clipped = saturated_share(images) > SATURATED_SHARE if reference else None
        task = restoration_task(clean or damaged, data, lesson, is_clipped, omission)
        model = learned(task, self.run or folder_of(task, self.workspace), self.device, self.output)
        if self.run is not None:
            self.output.note(f"the model is kept in {self.run}")
        return model

    def _levels(self, noise: NoiseSpectrum, images: Sequence[Image], gauge: Gauge | None) -> list[float]:
        """Return the levels that single images have, with --per-image."""
        if not self.omission.per_image:
            return []
        if gauge is not None:
            each = (gauge.one(image.signal) for image in images)
            return [one.level for one in each if one is not None and one.level >= FINEST]
        found = (noise_levels([image.signal], noise.units)[0].cautious for image in images)
        return [level for level in found if level >= FINEST]

    def _with_uncertainty(self, prepared: Prepared, images: Sequence[Image]) -> Prepared:
        """Calibrate the deviations on clean images; use images that were not learned from if there are enough."""
        if self.omission.reference is None or prepared.noise is None:
            self.output.warn(
                "the uncertainty is that of the model's samples alone, which understates its error: "
                "with --reference it is calibrated on clean images"
            )
            return prepared
        _, clean = self._fields(images)
        assert clean is not None
        _, held_out = split_of(clean, self.omission.seed)
        chosen = held_out if len(held_out) else np.arange(len(clean.values))
        found = calibrated(prepared.restorer, clean, chosen, prepared.noise)
        self.output.note(
            f"deviations have a floor of {found.floor:.3g}, the model's own error (range [-1, 1])"
        )
        return replace(prepared, restorer=found)

    def _fields(self, images: Sequence[Image]) -> tuple[Fields, Fields | None]:
        """Return fields of the damaged images and of the clean ones (None without any), all of one shape.

        When grey and colour images come together, each colour becomes a grey field.
        """
        omission = self.omission
        signals = [image.signal for image in images]
        clean = omission.reference.signals(images) if omission.reference else []
        channels = {signal.shape[0] for signal in [*signals, *clean]}
        if channels == {1, 3}:
            signals, clean = ([plane[None] for x in part for plane in x] for part in (signals, clean))
        damaged = make_fields(signals, clean, omission.seed)
        return damaged, make_fields(clean, signals, omission.seed) if clean else None


def _whole_band(noise: NoiseSpectrum) -> Band | None:
    """Return the band of noise that is of one level in one BAND, else None."""
    return noise.band if len(noise.parts) == 1 else None


def _has_thin(noise: NoiseSpectrum) -> bool:
    """Whether a part of the noise is peaks and stripes."""
    return any(isinstance(part.source, Band) and is_thin(part.source) for part in noise.parts)


def _large_enough(images: Sequence[Image]) -> Sequence[Image]:
    """Leave out images that are much smaller than the others, as all crops would have to be as small."""
    sides = np.array([min(image.pixels.shape[1:]) for image in images])
    least = max(SMALLEST_SIDE, min(float(np.median(sides)), CROP) / 2)
    return [image for image, side in zip(images, sides, strict=True) if side >= least] or images
