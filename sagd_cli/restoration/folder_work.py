"""The images of one `sagd omit`, restored and written in their order, and what is recorded of each."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sagd_cli.config.noise_spectrum import NoiseSpectrum
from sagd_cli.data.image_writer import ImageWriter
from sagd_cli.data.images import Image
from sagd_cli.data.journal import Journal, State, WrittenImage, file_state
from sagd_cli.data.outcome import Outcome
from sagd_cli.data.restored import RestoredImage
from sagd_cli.errors import DataError, SagdError
from sagd_cli.restoration.parts import part_records
from sagd_cli.restoration.places import Places, beside_name, draw_names
from sagd_cli.restoration.prepared import Prepared, check_frequencies, noisy_bins
from sagd_cli.restoration.quality import file_report
from sagd_cli.restoration.second_look import Looked, restored_images
from sagd_cli.restoration.truth import TrueImages, Truth
from sagd_cli.restorer.restoring import Estimates
from sagd_cli.system.console import Output
from sagd_cli.system.threads import in_order

PIXELS_AT_ONCE = 1 << 18
PIXELS_IN_WORK = 1 << 24  # of images on which several threads work, which take some 50 bytes for each


@dataclass(frozen=True, eq=False)
class _Job:
    """An image to restore, and its truth if that is known."""

    image: Image
    truth: Truth | None


@dataclass(frozen=True, eq=False)
class _Done:
    """What was computed for an image: its estimates, and their pixels. The report is about the first as written."""

    before: NDArray[np.float32]
    after: NDArray[np.float32]
    noise: NoiseSpectrum | None
    estimates: Estimates
    pixels: list[np.ndarray]
    report: dict[str, Any]
    left: NoiseSpectrum | None

    def beside(self, image: Image) -> dict[str, NDArray[np.float32]]:
        """Return what is written beside it, in the units of the image's values."""
        removed = np.subtract(self.before, self.estimates.draws[0], dtype=np.float64)
        values: dict[str, np.ndarray] = {"removed": removed * (image.values.span / 2)}
        if self.estimates.deviation is not None:
            values["uncertainty"] = self.estimates.deviation * (image.float_values.span / 2)
        return {key: value.astype(np.float32) for key, value in values.items()}


@dataclass(frozen=True)
class FolderWork:
    """Restores the images of one command and writes them; `outcome` says what became of each.

    `measures_lines`: also measure what is left of whole lines that were told, which takes as long as taking them away.
    """

    prepared: Prepared
    places: Places
    truths: TrueImages
    output: Output
    writer: ImageWriter
    journal: Journal | None = None
    measures_lines: bool = True
    outcome: Outcome = field(default_factory=Outcome)

    def restored(self, images: Iterable[Image]) -> Iterator[RestoredImage]:
        """Restore `images`, write them and yield them with their records; note each image that fails.

        Several threads compute. Reading, writing and notes are this one's, in the order of the images.
        """
        for batch, found in in_order(self._computed, self._batches(images), _load):
            kept = list[WrittenImage]()
            for job, done in zip(batch, found, strict=True):
                if self.outcome.has_failed(job.image.path):  # another image of its stack
                    continue
                try:
                    if isinstance(done, SagdError):
                        raise DataError(f"{job.image.place.shown}: {done.message}", done.hint)
                    restored, files = self._written(job, done)
                except DataError as error:
                    self.outcome.fail(job.image.place, error, self.output)
                    continue
                self.outcome.files.append(restored.record)
                kept.append(WrittenImage(str(job.image.path), job.image.page, restored.record, files))
                yield restored
            if self.journal is not None:
                self.journal.add(kept)

    def _batches(self, images: Iterable[Image]) -> Iterator[list[_Job]]:
        """Yield groups of successive images of one `_kind`: one, or several of `PIXELS_AT_ONCE` pixels."""
        batch: list[_Job] = []
        for image in images:
            job = self._job(image)
            if job is None:
                continue
            alike = not batch or _kind(batch[0].image) == _kind(image)
            if batch and (not alike or (len(batch) + 1) * image.pixels.size > PIXELS_AT_ONCE):
                yield batch
                batch = []
            batch.append(job)
        if batch:
            yield batch

    def _job(self, image: Image) -> _Job | None:
        """Return what is to be done; the image fails where it is too small for the noise or has no such truth."""
        noise = self.prepared.noise
        if noise is not None and not self.outcome.has_frequencies(
            image, lambda grid: check_frequencies(noise, grid.shape), self.output
        ):
            return None
        try:
            return _Job(image, None if image.is_empty else self.truths.of(image))
        except DataError as error:
            self.outcome.fail(image.place, error, self.output)
            return None

    def _computed(self, batch: list[_Job]) -> list[_Done | SagdError]:
        """Return what is computed for images of one shape, or why that cannot be."""
        found: dict[int, _Done | SagdError] = {}
        signals, noises = [job.image.signal for job in batch], dict[int, NoiseSpectrum | None]()
        for i, signal in enumerate(signals):
            try:
                noises[i] = None if batch[i].image.is_empty else self.prepared.noise_of(signal)
            except SagdError as error:
                found[i] = error
        names = [batch[i].image.place.name for i in noises]
        is_clipped = batch[0].image.pixels.dtype.kind == "u"
        try:
            some = [signals[i] for i in noises]
            all_seen = (
                restored_images(self.prepared, some, [*noises.values()], names, is_clipped) if noises else []
            )
            for i, seen in zip(noises, all_seen, strict=True):
                found[i] = self._reported(batch[i], signals[i], seen)
        except SagdError as error:
            found |= {i: error for i in noises if i not in found}
        return [found[i] for i in range(len(batch))]

    def _reported(self, job: _Job, before: NDArray[np.float32], seen: Looked[Estimates]) -> _Done:
        image, noise, estimates, left = job.image, seen.noise, seen.restored, seen.left
        pixels = [image.changed(before, draw) for draw in estimates.draws]
        after = replace(image, pixels=pixels[0]).signal
        inside = None if noise is None else noisy_bins(noise, before.shape[1:])
        report: dict[str, Any] = {**file_report(before, after, job.truth, inside), "method": estimates.method}
        report |= {"range": image.values.ends, "clipped": image.clipped(estimates.draws[0])}
        looks_again = self.prepared.looks_again
        records = partial(part_records, is_looked_at=looks_again, measures_lines=self.measures_lines)
        report["parts"] = [] if noise is None else records(noise, before, after, left)
        report |= {"left": None if left is None else str(left)} if looks_again else {}
        return _Done(before, after, noise, estimates, pixels, report, left)

    def _written(self, job: _Job, done: _Done) -> tuple[RestoredImage, dict[str, State | None]]:
        """Write an image, its further draws and its deviation; return it with its record, and the files."""
        image, deviation, files = job.image, done.estimates.deviation, dict[str, State | None]()

        def write(like: Image, pixels: np.ndarray, path: Path) -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            is_whole = self.writer.write(like, pixels, path)
            files[str(path)] = file_state(path) if is_whole else None

        names = draw_names(image.path, len(done.pixels))
        for name, pixels in zip(names, done.pixels, strict=True):
            write(image, pixels, self.places.folder / name)
        record = {"input": str(image.path), "output": str(self.places.folder / names[0]), **done.report}
        record |= {} if image.page is None else {"page": image.page}
        record |= {} if image.missing is None else {"missing": image.missing.values.size}
        record |= {"copied": True} if image.is_empty else {}
        beside = done.beside(image) if self.places.beside else {}
        for key, folder in self.places.beside.items():
            file, pixels = folder / beside_name(image.path), beside[key]
            if image.missing is not None:
                pixels[image.missing.where] = np.nan
            write(image.alone(pixels), pixels, file)
            record[key] = str(file)
        if self.prepared.noise is None:
            rest = f"; {done.left.shown} is left" if done.left else ""
            self.output.note(
                f"{image.place.name}: {done.noise.shown if done.noise else 'no noise found'}{rest}"
            )
        if self.prepared.noise is None or self.prepared.omission.per_image:
            record |= _told(done.noise)
        true = None if job.truth is None else job.truth.signal
        return RestoredImage(image.place.name, done.before, done.after, record, true, deviation), files

    def result(self) -> dict[str, Any]:
        """Return the JSON object of `sagd omit`; for a lost band, `strength` is null and `lost` is true.

        `band` and `noise` are null where each image has its own noise. `method` names all that were used.
        """
        prepared, strength = self.prepared, self.prepared.strength
        is_told = strength is None or strength.low == strength.high
        ends = [] if strength is None or is_told else [strength.low, strength.high]
        files = self.outcome.done
        band = None if prepared.noise is None else prepared.noise.band
        result: dict[str, Any] = {
            "band": None if band is None else str(band),
            "noise": None if prepared.noise is None else str(prepared.noise),
            "strength": strength.value if strength is not None and isfinite(strength.value) else None,
            "strength_interval": ends if ends and all(map(isfinite, ends)) else None,
            "lost": strength is not None and strength.lost,
            "method": ", ".join(dict.fromkeys(file["method"] for file in files)) or prepared.method,
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


def _load(batch: list[_Job]) -> float:
    """Return the share of a batch of what threads work on at one time."""
    return sum(job.image.pixels.size for job in batch) / PIXELS_IN_WORK


def _kind(image: Image) -> tuple[Any, ...]:
    """Return what images that are restored together have in common."""
    return image.pixels.shape, image.pixels.dtype.kind, None if image.stack is None else image.path
