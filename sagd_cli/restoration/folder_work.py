"""The images of one `sagd omit`, restored and written batch by batch, and what is recorded of each."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sagd_cli.config.noise_spectrum import NoiseSpectrum
from sagd_cli.data.folders import output_name
from sagd_cli.data.image_writer import ImageWriter
from sagd_cli.data.images import Image
from sagd_cli.data.outcome import Outcome
from sagd_cli.data.restored import RestoredImage
from sagd_cli.errors import DataError, SagdError
from sagd_cli.restoration.prepared import Prepared
from sagd_cli.restoration.quality import file_report
from sagd_cli.restoration.truth import TrueImages
from sagd_cli.restorer.restorer import RestoredBatch
from sagd_cli.system.console import Output

PIXELS_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class Places:
    """Where `sagd omit` reads and writes.

    The images of `source` are restored into `folder`. `truth` holds the true images, under the same names.
    `uncertainty` is the folder for the deviations, `run` the folder for the learned model. `inputs` are further files
    and folders whose folder must not be written to. `extras` are further files that are written, by their options.
    """

    source: Path
    folder: Path
    truth: Path | None = None
    uncertainty: Path | None = None
    run: Path | None = None
    inputs: Sequence[Path] = ()
    extras: Mapping[str, Path | None] = field(default_factory=dict)

    @property
    def workspace(self) -> Path:
        """The folder beside the output for what is learned, until the images are written."""
        folder = self.folder.resolve()
        return folder.with_name(f".{folder.name}-learning")


def draw_names(path: Path, draws: int) -> list[str]:
    """Return the file names of the `draws` results of an image: a.png, a.2.png and so on."""
    name = Path(output_name(path))
    return [name.name, *(f"{name.stem}.{k}{name.suffix}" for k in range(2, draws + 1))]


def deviation_name(path: Path) -> str:
    """Return the file name of the deviations of an image."""
    return f"{path.stem}.tiff"


@dataclass(frozen=True)
class FolderWork:
    """Restores the images of one command and writes them; `outcome` says what became of each."""

    prepared: Prepared
    places: Places
    truths: TrueImages
    device: torch.device
    output: Output
    writer: ImageWriter
    outcome: Outcome = field(default_factory=Outcome)

    def restored(self, images: Iterable[Image]) -> Iterator[RestoredImage]:
        """Restore `images`, write them and yield them with their records; note each image that fails."""
        for batch in self._batches(images):
            measured = list(self._measured(batch))
            if measured:
                yield from self._restored(*map(list, zip(*measured, strict=True)))

    def _batches(self, images: Iterable[Image]) -> Iterator[list[Image]]:
        """Yield groups of successive images of one shape and kind: one, or several of `PIXELS_AT_ONCE` pixels."""
        batch: list[Image] = []
        for image in images:
            if not self._has_noise(image):
                continue
            kind = image.pixels.shape, image.pixels.dtype.kind
            alike = not batch or (batch[0].pixels.shape, batch[0].pixels.dtype.kind) == kind
            if batch and (not alike or (len(batch) + 1) * image.pixels.size > PIXELS_AT_ONCE):
                yield batch
                batch = []
            batch.append(image)
        if batch:
            yield batch

    def _has_noise(self, image: Image) -> bool:
        """Whether an image is large enough for the noise; it fails if not."""
        noise = self.prepared.noise
        return noise is None or self.outcome.has_frequencies(image, noise.units, self.output)

    def _measured(
        self, images: list[Image]
    ) -> Iterator[tuple[Image, NDArray[np.float32], NoiseSpectrum | None]]:
        """Yield each image with its signal and noise; an image with other noise than the model knows fails."""
        for image in images:
            signal = image.signal
            try:
                noise = None if image.is_empty else self.prepared.noise_of(signal)
            except SagdError as error:
                self._fail(image, error)
                continue
            if self.prepared.noise is None:
                self.output.note(f"{image.place.name}: {noise.shown if noise else 'no noise found'}")
            yield image, signal, noise

    def _fail(self, image: Image, error: SagdError) -> None:
        shown = SagdError(f"{image.place.shown}: {error.message}", error.hint)
        self.outcome.fail(image.place, shown, self.output)

    def _restored(
        self, images: list[Image], signals: list[NDArray[np.float32]], noises: list[NoiseSpectrum | None]
    ) -> Iterator[RestoredImage]:
        """Restore images of one shape."""
        ready, left = zip(*map(self.prepared.without_lines, signals, noises), strict=True)
        stacked = ready[0][None] if len(ready) == 1 else np.stack(ready)  # a copy of a large image less
        y = torch.from_numpy(stacked).to(self.device)
        try:
            names = [image.place.name for image in images]
            is_clipped = images[0].pixels.dtype.kind == "u"
            batch = self.prepared.restorer.restore(y, left, names, is_clipped)
        except SagdError as error:
            for image in images:
                self._fail(image, error)
            return
        for i, image in enumerate(images):
            if self.outcome.has_failed(image.path):  # what is left of a stack
                continue
            try:
                restored = self._written(image, signals[i], noises[i], batch, i)
            except DataError as error:
                self.outcome.fail(image.place, error, self.output)
                continue
            if self.prepared.noise is None or self.prepared.omission.per_image:
                restored.record.update(_told(noises[i]))
            self.outcome.files.append(restored.record)
            yield restored

    def _written(
        self,
        image: Image,
        signal: NDArray[np.float32],
        noise: NoiseSpectrum | None,
        batch: RestoredBatch,
        i: int,
    ) -> RestoredImage:
        """Write image `i` of a batch, its further draws and its deviation; return it with its record."""
        estimate = _array(batch.estimate[i])
        drawn = (estimate, *(_array(draw[i]) for draw in batch.draws))
        draws = [image.changed(signal, after) for after in drawn]
        names = draw_names(image.path, len(draws))
        for name, draw in zip(names, draws, strict=True):
            self.writer.write(image, draw, _folder(self.places.folder) / name)
        truth = None if image.is_empty else self.truths.of(image)
        # The report is about the image as written, that is rounded and clipped.
        after = replace(image, pixels=draws[0]).signal
        record = file_report(image.path, self.places.folder / names[0], signal, after, truth, noise)
        record |= {"range": image.values.ends, "clipped": image.clipped(estimate)}
        record |= {} if image.page is None else {"page": image.page}
        record |= {} if image.missing is None else {"missing": image.missing.values.size}
        record |= {"copied": True} if image.is_empty else {}
        deviation = None
        if batch.deviation is not None and self.places.uncertainty is not None:
            deviation = _array(batch.deviation[i])
            file = _folder(self.places.uncertainty) / deviation_name(image.path)
            # Deviations are in the units of the image's values, as floats.
            pixels = (deviation * (image.float_values.span / 2)).astype(np.float32)
            if image.missing is not None:
                pixels[image.missing.where] = np.nan
            self.writer.write(image.alone(pixels), pixels, file)
            record["uncertainty"] = str(file)
        true = None if truth is None else truth.signal
        return RestoredImage(image.place.name, signal, after, record, true, deviation)

    def result(self) -> dict[str, Any]:
        """Return the JSON object of `sagd omit`; for a lost band, `strength` is null and `lost` is true.

        `band` and `noise` are null where each image has its own noise.
        """
        prepared, strength = self.prepared, self.prepared.strength
        is_told = strength is None or strength.low == strength.high
        ends = [] if strength is None or is_told else [strength.low, strength.high]
        files = sorted(self.outcome.done, key=lambda record: (str(record["input"]), record.get("page", 0)))
        band = None if prepared.noise is None else prepared.noise.band
        result: dict[str, Any] = {
            "band": None if band is None else str(band),
            "noise": None if prepared.noise is None else str(prepared.noise),
            "strength": strength.value if strength is not None and isfinite(strength.value) else None,
            "strength_interval": ends if ends and all(map(isfinite, ends)) else None,
            "lost": strength is not None and strength.lost,
            "method": prepared.method,
            "output": str(self.places.folder),
            "files": files,
        }
        if self.places.run is not None:
            result["run"] = str(self.places.run)
        for key in ("psnr_before", "psnr", "ssim_before", "ssim"):
            values = [record[key] for record in files if key in record]
            if values:
                result[f"{key}_mean"] = float(np.mean(values))
        return {**result, "failed": self.outcome.failed}


def _told(noise: NoiseSpectrum | None) -> dict[str, Any]:
    """Return what a file's record says of the noise of its own."""
    if noise is None:
        return {"noise": None, "strength": 0.0}
    level = noise.parts[0].level if len(noise.parts) == 1 else None
    return {"noise": str(noise), "strength": level if level is not None and isfinite(level) else None}


def _array(field: Tensor) -> NDArray[np.float32]:
    return np.asarray(field.cpu().numpy())


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path
