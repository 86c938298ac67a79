"""What `sagd omit` finds out before it restores: the band, how strong its noise is, and a model of the images."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isinf
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sagd_cli.config import DatasetConfig, RestorationConfig
from sagd_cli.console import Output
from sagd_cli.errors import DataError, UsageError
from sagd_cli.images import Image, to_signal
from sagd_cli.restoration.auto_band import find_band
from sagd_cli.restoration.band_model import BandModel
from sagd_cli.restoration.fields import Fields, make_fields
from sagd_cli.restoration.learning import learn, restoration_task
from sagd_cli.restoration.measure import WEAKEST, Gauge, is_thin, thin_strength
from sagd_cli.restoration.restorer import FINEST, STRONGEST, Restorer
from sagd_cli.restoration.sources import CleanImages
from sagd_cli.restoration.strength import Strength
from sagd_cli.spectral.band import Band
from sagd_cli.training.run import save_run

ESTIMATES = ("mean", "sample", "ode", "notch")
STEPS = 400
DRAWS = 16
SATURATED_SHARE = 0.01


@dataclass(frozen=True)
class Omission:
    """What to do: the band (None: find it), the strength (None: measure it), the estimate, and how to come by it.

    With neither clean images (`reference`) nor a `model` of them, the damaged images are learned from. `draws` are
    posterior samples (None: 1, or 16 for an uncertainty).
    """

    band: Band | None
    reference: CleanImages | None = None
    model: BandModel | None = None
    strength: float | None = None
    per_image: bool = False
    estimate: str = "mean"
    uncertain: bool = False
    draws: int | None = None
    sampling_steps: int = 20
    steps: int = STEPS
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise UsageError on values that mean nothing, and on those that do not go together."""
        if self.estimate not in ESTIMATES:
            raise UsageError(f"unknown estimate {self.estimate!r}", f"Estimates are {', '.join(ESTIMATES)}.")
        strength = self.strength
        if strength is not None and not (WEAKEST <= strength <= STRONGEST or strength == inf):
            raise UsageError(
                f"the strength must be from {WEAKEST:g} to {STRONGEST:g} (range [-1, 1]) or inf, not {strength:g}",
                "Or use --strength auto.",
            )
        if self.is_self_supervised:
            for name, wanted in (
                (f"--estimate {self.estimate}", self.estimate in ("sample", "ode")),
                ("--uncertainty", self.uncertain),
                ("--per-image", self.per_image),
                ("--strength inf", strength == inf),
            ):
                if wanted:
                    raise UsageError(
                        f"{name} needs to know what clean images are like", "Give a --reference or a --model."
                    )
        if self.uncertain and self.estimate in ("notch", "ode"):
            raise UsageError(f"--estimate {self.estimate} has no uncertainty", "Use mean or sample.")
        if self.per_image and (strength is not None or self.estimate == "notch"):
            raise UsageError("--per-image is for strengths that are measured", "Leave it out.")

    @property
    def is_self_supervised(self) -> bool:
        """Whether it learns from the damaged images themselves."""
        knows = self.reference or (self.model is not None and self.model.settings.damage is None)
        return not knows and self.estimate != "notch"

    @property
    def samples(self) -> int:
        """Posterior samples of an image."""
        return self.draws or (DRAWS if self.uncertain else 1)

    @property
    def draws_written(self) -> int:
        """Posterior samples of an image that are written."""
        return (self.draws or 1) if self.estimate == "sample" else 1

    @property
    def method(self) -> str:
        """Name of the method, as reported."""
        if self.estimate == "notch":
            return "notch"
        knowledge = "model" if self.model else "reference" if self.reference else "self-supervised"
        return f"{knowledge}-{self.estimate}"


@dataclass(frozen=True)
class Plan:
    """A prepared omission."""

    band: Band
    strength: Strength | None
    restorer: Restorer
    gauge: Gauge | None
    method: str
    is_measured: bool
    is_per_image: bool
    device: torch.device

    def strength_of(self, signal: NDArray[np.float32]) -> float:
        """Strength of the noise in an image (C, H, W), its own or that of all; infinite where the band is lost."""
        if self.strength is None:
            return 0.0
        found = self.gauge.one(signal) if self.is_per_image and self.gauge is not None else None
        found = found or self.strength
        return inf if found.lost else found.value


def prepare(
    omission: Omission,
    source: Path,
    run: Path | None,
    images: Sequence[Image],
    device: torch.device,
    output: Output,
) -> Plan:
    """Find the band and the strength of its noise in `images`, some of those of `source`, and learn what is needed.

    A model that was learned is kept as `run`, if given. Raises DataError when there is nothing to omit.
    """
    if not images:
        raise DataError(
            f"no image of {source} can be read", "The files are damaged, or not what their names say."
        )
    band = omission.band or find_band(source, output)
    if omission.band is None:
        output.note(f"band {band}")
    _warn_of_clipping(images, output)
    damaged, reference = _fields(images, omission)
    gauge = Gauge(damaged, band, reference)
    strength = _strength(omission, source, band, gauge, output)
    levels = _levels(omission, strength, gauge, images)
    model = omission.model
    if model is not None:
        model.check(band, levels)
    elif omission.estimate != "notch":
        model = _learned(omission, source, run, band, levels, reference or damaged, device, output)
    restorer = Restorer(
        band,
        model,
        omission.estimate,
        omission.samples,
        omission.uncertain,
        omission.sampling_steps,
        omission.seed,
    )
    is_measured = omission.strength is None
    method, per_image = omission.method, omission.per_image
    return Plan(band, strength, restorer, gauge, method, is_measured, per_image, device)


def _fields(images: Sequence[Image], omission: Omission) -> tuple[Fields, Fields | None]:
    """Fields of the damaged images and of clean ones, of the same shape: of single colours when these differ."""
    signals, clean = (
        [to_signal(image.pixels) for image in images],
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


def _strength(omission: Omission, source: Path, band: Band, gauge: Gauge, output: Output) -> Strength | None:
    """Return the strength of the noise, measured or given; None where a band is only removed and shows none."""
    if omission.strength is not None:
        value = omission.strength
        strength = Strength(value, value, value, lost=isinf(value))
    else:
        try:
            is_law = not omission.reference and is_thin(band)
            strength = thin_strength(source, band, output) if is_law else gauge.all()
        except DataError:
            if omission.estimate == "notch":
                output.warn(f"the band {band} shows no noise: removing it takes from the images alone")
                return None
            raise
        if strength.lost:
            output.note(f"the band {band} is lost: nothing of the images shows in it")
        else:
            output.note(
                f"strength {strength.value:.3g} (95 % interval {strength.low:.3g} to {strength.high:.3g}, "
                "range [-1, 1])"
            )
    if strength.lost and omission.is_self_supervised:
        raise DataError(
            f"the band {band} is lost in all images, and damaged images cannot say what was there",
            "Give clean images of their kind with --reference or --model, or use --estimate notch.",
        )
    if omission.estimate == "notch":
        signal = gauge.power_inside - strength.value**2
        if signal > strength.value**2:
            output.warn(
                f"the band {band} carries more of the images (power {signal:.3g}) than damage "
                f"({strength.value**2:.3g}): removing it does more harm than good, --estimate mean does not"
            )
    return strength


def _levels(
    omission: Omission, strength: Strength | None, gauge: Gauge, images: Sequence[Image]
) -> tuple[float, float]:
    """Least and largest noise amplitude that the model has to know."""
    if strength is None:
        return FINEST, FINEST
    found = [strength]
    if omission.per_image:
        each = (gauge.one(to_signal(image.pixels)) for image in images)
        found += [one for one in each if one is not None and (one.lost or one.value >= FINEST)]
    values = [STRONGEST if one.lost else min(max(one.value, FINEST), STRONGEST) for one in found]
    samples = omission.estimate in ("sample", "ode") or omission.uncertain
    return FINEST if samples else min(values), max(values)


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
