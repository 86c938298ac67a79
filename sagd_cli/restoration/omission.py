"""Omission: restore image files whose corruption lies in a known band (MATH: 6. Selective omission)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sagd_cli.config import TrainingConfig
from sagd_cli.console import Output
from sagd_cli.errors import DataError, UsageError
from sagd_cli.images import (
    Image,
    check_output_folder,
    from_signal,
    list_images,
    output_name,
    read_image,
    to_signal,
    write_image,
)
from sagd_cli.restoration.band_model import BandModel, train_band_model
from sagd_cli.restoration.estimates import noisier_posterior_mean, notch, posterior_mean
from sagd_cli.restoration.fields import Fields, band_noise, make_fields
from sagd_cli.restoration.files import Outcome, check_names, input_files, read_all
from sagd_cli.restoration.strength import Strength, strength_from_power_law, strength_from_reference
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.noise import SpectralNoise

ESTIMATES = ("mean", "notch")
STEPS = 400
LARGEST_BATCH, SMALLEST_BATCH, PIXELS_A_STEP = 64, 8, 3 << 14
PIXELS_AT_ONCE = 1 << 16
# The ends of the schedule's sigma_t / alpha_t, at which a band model can be trained.
WEAKEST, STRONGEST = 0.01, 100.0
SATURATED_SHARE = 0.01


@dataclass(frozen=True)
class Omission:
    """What to do: the band, where clean images are (if any), the strength (None: estimate it), the estimate."""

    band: Band
    reference: NDArray[np.uint8] | None = None
    strength: float | None = None
    estimate: str = "mean"
    steps: int = STEPS
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise UsageError on values that mean nothing."""
        if self.estimate not in ESTIMATES:
            raise UsageError(f"unknown estimate {self.estimate!r}", f"Estimates are {', '.join(ESTIMATES)}.")
        if self.strength is not None and not WEAKEST <= self.strength <= STRONGEST:
            raise UsageError(
                f"the strength must be from {WEAKEST:g} to {STRONGEST:g} on the [-1, 1] range, not {self.strength:g}",
                "Or use --strength auto.",
            )

    @property
    def method(self) -> str:
        """Name of the method, as reported."""
        if self.estimate == "notch":
            return "notch"
        return f"{'self-supervised' if self.reference is None else 'reference'}-{self.estimate}"


def omit_files(
    omission: Omission,
    source: Path,
    folder: Path,
    truth: Path | None,
    device: torch.device,
    force: bool,
    output: Output,
    inputs: Sequence[Path] = (),
) -> dict[str, Any]:
    """Restore the images of `source` into `folder`; return the JSON object of `sagd omit`.

    `inputs` are folders besides `source` and `truth` that must not be written to.

    Outside the band images come back unchanged, before rounding to their depth. A file that cannot be read is
    noted and skipped. Raises UsageError, before any work, on outputs or truths that do not fit.
    """
    paths = input_files(source)
    truths = _match_truth(paths, truth)
    check_names(paths, output_name)
    check_output_folder(
        folder, map(output_name, paths), force, [source, *inputs, *([truth] if truth else [])]
    )
    outcome = Outcome()
    images = list(read_all(paths, outcome, output))
    images = [image for image in images if outcome.has_band(image, omission.band, output)]
    _check_truth(images, truths)
    result: dict[str, Any] = {"band": str(omission.band), "strength": None, "strength_interval": None}
    if images:
        restorer = _Restorer.prepare(omission, images, device, output)
        if restorer.strength is not None:
            result["strength"] = restorer.strength.value
        if restorer.strength is not None and omission.strength is None:
            result["strength_interval"] = [restorer.strength.low, restorer.strength.high]
        folder.mkdir(parents=True, exist_ok=True)
        with output.progress("omit", len(images)) as bar:
            for batch in _batches(images):
                for record in restorer.restore(batch, folder, truths):
                    outcome.files.append(record)
                    bar.advance()
        outcome.files.sort(key=lambda record: str(record["input"]))
    result |= {"method": omission.method, "output": str(folder), "files": outcome.files}
    for key in ("psnr_before", "psnr"):
        values = [record[key] for record in outcome.files if key in record]
        if values:
            result[f"{key}_mean"] = float(np.mean(values))
    return {**result, "failed": outcome.failed}


def _match_truth(paths: Sequence[Path], truth: Path | None) -> dict[Path, Path]:
    """Find the true image of each file by the name without suffix."""
    if truth is None:
        return {}
    found = {path.stem: path for path in (list_images(truth) if truth.is_dir() else [truth])}
    missing = [path.name for path in paths if path.stem not in found]
    if missing:
        raise UsageError(
            f"{truth} has no image for {missing[0]} ({len(missing)} are missing)", "Names must match."
        )
    return {path: found[path.stem] for path in paths}


def _check_truth(images: Sequence[Image], truths: dict[Path, Path]) -> None:
    """Raise DataError, before any work, when a truth cannot be read or has another shape than its image."""
    for image in images:
        if image.path in truths:
            truth = read_image(truths[image.path])
            if truth.pixels.shape != image.pixels.shape:
                raise DataError(
                    f"{truth.path} has the shape {truth.pixels.shape}, and {image.path} {image.pixels.shape}",
                    "A true image has the size and colours of the damaged one.",
                )


def _batches(images: Iterable[Image]) -> Iterable[list[Image]]:
    """Groups of images of one shape, of at most `PIXELS_AT_ONCE` pixels in all (one image at least)."""
    ordered = sorted(images, key=lambda image: (image.pixels.shape, str(image.path)))
    for shape, group in groupby(ordered, key=lambda image: image.pixels.shape):
        members = list(group)
        size = max(1, PIXELS_AT_ONCE // int(np.prod(shape)))
        yield from (members[i : i + size] for i in range(0, len(members), size))


@dataclass(frozen=True)
class _Restorer:
    """A prepared omission: the strength that was found and, unless the band is only removed, the model."""

    omission: Omission
    strength: Strength | None
    model: BandModel | None
    planes: bool
    device: torch.device

    @classmethod
    def prepare(
        cls, omission: Omission, images: Sequence[Image], device: torch.device, output: Output
    ) -> "_Restorer":
        """Measure the noise and learn the images."""
        if omission.estimate == "notch":
            return cls(omission, None, None, False, device)
        _warn_of_clipping(images, output)
        signals = [to_signal(image.pixels) for image in images]
        clean = [] if omission.reference is None else list(to_signal(omission.reference))
        channels = {signal.shape[0] for signal in [*signals, *clean]}
        planes = len(channels) > 1  # grey and colour together: every colour is an image of its own
        if planes:
            signals, clean = _split(signals), _split(clean)
        corrupted = make_fields(signals, clean, omission.seed)
        reference = make_fields(clean, signals, omission.seed) if clean else None
        strength = _strength(omission, corrupted, reference)
        if omission.strength is None:
            low, high = strength.low, strength.high
            output.note(
                f"strength {strength.value:.3f} (95 % interval {low:.3f} to {high:.3f}, range [-1, 1])"
            )
        batch_size = int(np.clip(PIXELS_A_STEP // np.prod(corrupted.shape), SMALLEST_BATCH, LARGEST_BATCH))
        settings = TrainingConfig(
            images=omission.steps * batch_size,
            batch_size=batch_size,
            warmup_images=50 * batch_size,
            ema_half_life_images=30 * batch_size,
            log_steps=20,
            seed=omission.seed,
        )
        source = corrupted if reference is None else reference
        model = train_band_model(source, omission.band, strength.value, settings, device, output)
        return cls(omission, strength, model, planes, device)

    def restore(
        self, images: list[Image], folder: Path, truths: dict[Path, Path]
    ) -> Iterable[dict[str, Any]]:
        """Restore images of one shape, write each and yield its record."""
        signals = torch.from_numpy(np.stack([to_signal(image.pixels) for image in images])).to(self.device)
        noise = band_noise(self.omission.band, tuple(signals.shape[2:]), self.device)
        restored = self._estimate(signals, noise, [image.path.name for image in images])
        for image, before, after in zip(images, signals, restored, strict=True):
            target = folder / output_name(image.path)
            pixels = from_signal(after.cpu().numpy(), image.pixels.dtype)
            write_image(image, pixels, target)
            record: dict[str, Any] = {
                "input": str(image.path),
                "output": str(target),
                "band_power_before": _band_power(before, noise),
                "band_power_after": _band_power(after, noise),
            }
            if image.path in truths:
                truth = read_image(truths[image.path])
                record["psnr_before"] = psnr(image.pixels, truth)
                record["psnr"] = psnr(pixels, truth)
            yield record

    def _estimate(self, y: torch.Tensor, noise: SpectralNoise, names: list[str]) -> torch.Tensor:
        if self.model is None or self.strength is None:
            return notch(y, noise)
        shape = y.shape
        if self.planes:
            names = [f"{name}/{channel}" for name in names for channel in range(shape[1])]
            y = y.reshape(-1, 1, *shape[2:])
        if self.omission.reference is not None:
            return posterior_mean(y, self.model, noise).reshape(shape)
        return noisier_posterior_mean(y, self.model, noise, self.strength.value, names).reshape(shape)


def _split(signals: Iterable[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    return [plane[None] for signal in signals for plane in signal]


def _strength(omission: Omission, corrupted: Fields, reference: Fields | None) -> Strength:
    if omission.strength is not None:
        return Strength(omission.strength, omission.strength, omission.strength)
    grid, band = FrequencyGrid(corrupted.shape), corrupted.noise_spectrum(omission.band)
    power, count = corrupted.spectrum(), corrupted.independent
    if reference is None:
        found = strength_from_power_law(power, count, grid, band, corrupted.lowest)
    else:
        found = strength_from_reference(power, count, reference.spectrum(), reference.independent, grid, band)
    if found.value < WEAKEST:
        source = "a power law" if reference is None else "the reference"
        raise DataError(
            f"the band {omission.band} holds no more power than {source} explains: there is no noise to omit",
            "Nothing was changed. If there is noise, give its --strength, or a --reference like the images.",
        )
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


def _band_power(signal: torch.Tensor, noise: SpectralNoise) -> float:
    """Mean power |F x|^2 / N over the bins of the band, without DC, on the [-1, 1] range."""
    centred = signal - signal.mean(dim=(-2, -1), keepdim=True)
    grid = noise.filter.grid
    bins = noise.filter.rank - int(noise.filter.support.flat[0])
    return float(noise.project(centred).square().mean()) * grid.size / max(bins, 1)


def psnr(pixels: NDArray[np.generic], truth: Image) -> float:
    """Peak signal-to-noise ratio in dB over the range of `truth`, values outside it clipped; at most 120."""
    difference = np.clip(to_signal(pixels), -1, 1) - np.clip(to_signal(truth.pixels), -1, 1)
    return float(10 * np.log10(4 / max(float(np.mean(difference.astype(np.float64) ** 2)), 4e-12)))
