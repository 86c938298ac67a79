"""Which model restores the images of an omission, and what speaks against it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sagd_cli.config.noise_spectrum import NoiseSpectrum
from sagd_cli.config.run import DatasetConfig
from sagd_cli.damage.strength import Strength
from sagd_cli.damage.thin import is_thin
from sagd_cli.data.images import Image
from sagd_cli.errors import DataError, UsageError
from sagd_cli.restoration.measuring import Measuring
from sagd_cli.restoration.options import AUTO, Omission
from sagd_cli.restoration.prepared import SATURATED_SHARE, Prepared, saturated_share, warn_of_clipping
from sagd_cli.restoration.second_look import look_again_at_some
from sagd_cli.system.console import Output

if TYPE_CHECKING:
    import torch

    from sagd_cli.restorer.restoring_model import RestoringModel

SMALLEST_RESTORED = 48  # pixels, the side from which on images are left to the model in the package


@dataclass(frozen=True)
class Preparation:
    """Finds the noise and its strength, and learns a model where one is needed.

    `images` are some of the images of `source`. What is learned is the run `run`, or without it a run in the folder
    `workspace`. `device` gives the device of the model; nothing calls it where none is used. `known` is what an earlier
    command, which this one goes on with, has `measured`. `is_share`: other processes restore other images of `source`.
    """

    omission: Omission
    source: Path
    images: Sequence[Image]
    device: "Callable[[], torch.device]"
    output: Output
    workspace: Path
    run: Path | None = None
    known: Mapping[str, Any] | None = None
    is_share: bool = False

    @cached_property
    def _measuring(self) -> Measuring:
        return Measuring(self.omission, self.source, self.images, self.output, self.known)

    def prepared(self) -> Prepared:
        """Return what restoring needs; raise DataError when there is nothing to omit.

        Raises ConfigError when the noise that was told has no frequency, or all of them, in the largest image.
        """
        prepared = self._prepared()
        if prepared.noise is None or not prepared.looks_again:
            return prepared
        if self.known is not None:
            left = self.known["left"]
            return replace(prepared, left=None if left is None else NoiseSpectrum.parse(left))
        return look_again_at_some(prepared, self._measuring)

    def _prepared(self) -> Prepared:
        warn_of_clipping(self._measuring.images, self.output)
        if self.omission.noise is None:
            return self._finding()
        if not self.omission.choice.needs_model:
            return self._removal()
        learns = self._learns_from_damage()
        if learns:
            self._check_self_supervision()
        noise, strength = self._measuring.levels()
        prepared = self._with_model(noise, strength, learns)
        return self._with_uncertainty(prepared) if self.omission.uncertain else prepared

    def measured(self, prepared: Prepared) -> dict[str, Any]:
        """Return what was measured for all images, as JSON has it."""
        if prepared.noise is None:
            return {"floor": prepared.floor}
        return {
            "found": str(self._measuring.noise),
            "noise": str(prepared.noise),
            "levels": prepared.noise.levels,
            "strength": None if prepared.strength is None else asdict(prepared.strength),
            "left": None if prepared.left is None else str(prepared.left),
            "floor": prepared.floor,
        }

    def _without_model(self, noise: NoiseSpectrum | None, strength: Strength | None) -> Prepared:
        gauge = None if noise is None else self._measuring.gauge
        return Prepared(self.omission, noise, strength, self.output, gauge=gauge)

    def _finding(self) -> Prepared:
        """Prepare to find the noise of each image in it."""
        prepared, model = self._without_model(None, None), self.omission.model
        if not self.omission.choice.needs_model:
            return prepared
        if model is not None and not model.knows_any_noise:
            raise UsageError(
                f"{model.name} was trained for some noise only", "Say which with --band or --noise."
            )
        prepared = _with(prepared, model, "model") if model else self._with_package(prepared)
        return self._with_uncertainty(prepared) if self.omission.uncertain else prepared

    def _removal(self) -> Prepared:
        """Prepare to work without a model; warn when that does more harm than good.

        Raises DataError when no noise is certain, unless the band is emptied, whatever is in it.
        """
        noise, strength, gauge = self._measuring.noise, None, self._measuring.gauge
        band = noise.band
        try:
            noise, strength = self._measuring.levels()
        except DataError as error:
            if not self.omission.choice.empties_band:
                raise
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
        return self._without_model(noise, strength)

    def _learns_from_damage(self) -> bool:
        """Whether what is known of clean images comes from the damaged ones alone."""
        omission = self.omission
        if omission.model is not None:
            return omission.model.settings.damage is not None
        sides = [min(image.pixels.shape[1:]) for image in self._measuring.images]
        is_small = float(np.median(sides)) < SMALLEST_RESTORED and omission.noise != AUTO
        by_default = is_small and not self._measuring.is_thin and self._beyond_damage() is None
        return omission.reference is None and (omission.learns or omission.keeps_model or by_default)

    def _beyond_damage(self) -> str | None:
        """Return an option that needs a model of clean images, or None where none is given."""
        omission = self.omission
        given = {
            f"--estimate {omission.estimate}": omission.choice.walks_path,
            "--uncertainty": omission.uncertain,
            "--per-image": omission.per_image,
            "--strength inf": inf in self._measuring.noise.levels,
        }
        return next((option for option, is_given in given.items() if is_given), None)

    def _check_self_supervision(self) -> None:
        """Raise UsageError for what needs a model of clean images; warn of peaks and stripes."""
        option, omission = self._beyond_damage(), self.omission
        if option is not None:
            learns = "--learn" if omission.learns else "--save-model" if omission.keeps_model else "--model"
            raise UsageError(
                f"{option} needs to know what clean images are like",
                f"Leave out {learns}, or give a --reference or a --model of clean images.",
            )
        if self._measuring.is_thin:
            self.output.warn(
                "peaks and stripes are alike all over an image: a network that knows no clean one keeps them, or adds "
                "to them; the restorer of the package removes them"
            )

    def _with_model(self, noise: NoiseSpectrum, strength: Strength | None, learns: bool) -> Prepared:
        """Prepare to use the model that was given, one that is learned, or the one in the package."""
        prepared, model = self._without_model(noise, strength), self.omission.model
        if learns and inf in noise.levels:
            raise DataError(
                f"the band {(noise.band or noise).shown} is lost in all images, and they cannot say what was there",
                "Give clean images of their kind with --reference or --model, or use --estimate notch.",
            )
        knowledge = "self-supervised" if learns else "reference" if model is None else "model"
        if model is None and (learns or self.omission.reference is not None):
            model = self._learned(noise)
        if model is None:
            return self._with_package(prepared)
        model.check(noise, self.omission.walks_path)
        model.check_measured(noise)
        return _with(prepared, model, knowledge)

    def _with_package(self, prepared: Prepared) -> Prepared:
        return replace(prepared, model=self._packaged, knowledge="restorer")

    def _packaged(self) -> "RestoringModel":
        from sagd_cli.restorer.restoring_model import packaged_model

        self.output.once(
            "restored by the restorer of the package (--learn learns from the images themselves)"
        )
        return packaged_model(self.device())

    def _learned(self, noise: NoiseSpectrum) -> "RestoringModel":
        """Learn a model from clean images; without any, from the damaged ones (docs/theory.md, section 6.3).

        Raises UsageError for a share.
        """
        if self.is_share:
            raise UsageError(
                "processes that share the images would each learn the same model",
                "Learn it before, in one process, with --save-model RUN; then give --model RUN.",
            )
        # What trains takes a fifth of a second to import, and most calls learn nothing.
        from sagd_cli.restoration.learning import Lesson, folder_of, learned, restoration_task

        omission, reference = self.omission, self.omission.reference
        damaged, clean = self._measuring.fields
        lesson = Lesson.of(noise, self._measuring.single_levels(), omission.walks_path)
        folder = DatasetConfig(name="folder", options={"path": str(self.source.absolute())})
        data = reference.data if reference else folder
        is_clipped = saturated_share(self._measuring.images) > SATURATED_SHARE if reference else None
        task = restoration_task(clean or damaged, damaged.extent, data, lesson, is_clipped, omission)
        path = self.run or folder_of(task, self.workspace)
        try:
            model = learned(task, path, self.device(), self.output)
        except UsageError as error:
            if "--output" not in (error.hint or ""):
                raise
            raise UsageError(error.message, "Choose another --save-model.") from None
        if self.run is not None:
            self.output.note(f"the model is kept in {self.run}")
        return model

    def _with_uncertainty(self, prepared: Prepared) -> Prepared:
        """Calibrate the deviations on clean images; use images that were not learned from if there are enough."""
        if self.omission.reference is None or prepared.noise is None:
            self.output.warn(
                "the uncertainty is that of the model's samples alone, which understates its error: "
                "with --reference it is calibrated on clean images"
            )
            return prepared
        if self.known is not None:
            return replace(prepared, floor=self.known["floor"])
        from sagd_cli.restoration.learning import split_of  # see above
        from sagd_cli.restorer.calibration import calibrated

        damaged, clean = self._measuring.fields
        assert clean is not None
        _, held_out = split_of(clean, self.omission.seed)
        chosen = held_out if len(held_out) else np.arange(len(clean.values))
        found = calibrated(prepared.restorer, clean, chosen, prepared.noise.of_crops(damaged.extent))
        self.output.note(
            f"deviations have a floor of {found.floor:.3g}, the model's own error (range [-1, 1])"
        )
        return replace(prepared, floor=found.floor)


def _with(prepared: Prepared, model: "RestoringModel", knowledge: str) -> Prepared:
    return replace(prepared, model=lambda: model, knows_any_noise=model.knows_any_noise, knowledge=knowledge)
