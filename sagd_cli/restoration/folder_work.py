"""The images of one `sagd omit`, restored and written in their order, and what is recorded of each."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sagd_cli.config.noise_spectrum import NoiseSpectrum
from sagd_cli.data.image_writer import ImageWriter
from sagd_cli.data.images import Image
from sagd_cli.data.journal import Journal, State, WrittenImage, file_state
from sagd_cli.data.outcome import Outcome, RestoredImage
from sagd_cli.datasets.truth import TrueImages
from sagd_cli.errors import DataError, SagdError
from sagd_cli.plugin.registry import current_sources, use_sources
from sagd_cli.restoration.computing import Computation, Damaged, Done
from sagd_cli.restoration.places import Places, beside_name, draw_names
from sagd_cli.restoration.prepared import Prepared, check_frequencies
from sagd_cli.system.console import Output
from sagd_cli.system.threads import in_order, thread_count

PIXELS_AT_ONCE = 1 << 18
PIXELS_IN_WORK = 1 << 24  # of images on which several threads work, which take some 50 bytes for each
PIXELS_OF_A_PROCESS = 1 << 23  # a second of work, as long as its start takes


@dataclass(frozen=True)
class FolderWork:
    """Restores the images of one command and writes them; `outcome` says what became of each.

    `measures_lines`: as in `Computation`.
    """

    prepared: Prepared
    places: Places
    truths: TrueImages
    output: Output
    writer: ImageWriter
    journal: Journal | None = None
    measures_lines: bool = True
    outcome: Outcome = field(default_factory=Outcome)

    def restored(self, runs: Iterable[Iterable[Image]], count: int) -> Iterator[Callable[[], RestoredImage]]:
        """Restore `count` images in all, write them and yield of each what gives it with its record; note which fail.

        Images of two runs are not restored together. Several threads or processes compute. Reading, writing and notes
        are this one's, in the order of the images.
        """
        for batch, found in self._computed(chain.from_iterable(map(self._batches, runs)), count):
            kept = list[WrittenImage]()
            for job, done in zip(batch, found, strict=True):
                if self.outcome.has_failed(job.image.path):  # another image of its stack
                    continue
                try:
                    if isinstance(done, SagdError):
                        raise DataError(f"{job.image.place.shown}: {done.message}", done.hint)
                    record, files = self._written(job, done)
                except DataError as error:
                    self.outcome.fail(job.image.place, error, self.output)
                    continue
                self.outcome.files.append(record)
                kept.append(WrittenImage(str(job.image.path), job.image.page, record, files))
                yield partial(_shown, job, done, record)
            if self.journal is not None:
                self.journal.add(kept)

    def _computed(
        self, batches: Iterator[list[Damaged]], count: int
    ) -> Iterator[tuple[list[Damaged], list[Done | SagdError]]]:
        """Yield batches with what is computed for them.

        Processes compute where that is many small steps in Python, which threads make one at a time, and if there is
        so much to do that their start pays; but not where the first image needs a network, which uses all cores.
        """
        compute = Computation(self.prepared, self.places.removed is not None, self.measures_lines)
        first = [*islice(batches, 1)]
        pixels = sum(count * batch[0].image.pixels.size for batch in first)
        processes = min(thread_count(), pixels // PIXELS_OF_A_PROCESS)
        if processes > 1 and self.prepared.is_in_small_steps:
            yield from in_order(compute, first, _load)
            if self.prepared.is_in_small_steps:
                yield from self._from_processes(compute, batches, processes)
            first = []
        yield from in_order(compute, chain(first, batches), _load)

    def _from_processes(
        self, compute: Computation, batches: Iterator[list[Damaged]], count: int
    ) -> Iterator[tuple[list[Damaged], list[Done | SagdError]]]:
        begin = partial(use_sources, current_sources())
        for batch, (found, remarks) in in_order(compute.elsewhere, batches, _load, count, begin):
            for remark, warns in remarks.items():
                self.prepared.output.once(remark, warns)
            yield batch, compute(batch) if found is None else found

    def _batches(self, images: Iterable[Image]) -> Iterator[list[Damaged]]:
        """Yield groups of successive images of one `_kind`: one, or several of `PIXELS_AT_ONCE` pixels."""
        batch: list[Damaged] = []
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

    def _job(self, image: Image) -> Damaged | None:
        """Return what is to be done; the image fails where it is too small for the noise or has no such truth."""
        noise = self.prepared.noise
        if noise is not None and not self.outcome.has_frequencies(
            image, lambda grid: check_frequencies(noise, grid.shape), self.output
        ):
            return None
        try:
            return Damaged(image, None if image.is_empty else self.truths.of(image))
        except DataError as error:
            self.outcome.fail(image.place, error, self.output)
            return None

    def _written(self, job: Damaged, done: Done) -> tuple[dict[str, Any], dict[str, State | None]]:
        """Write an image, its further draws and what is beside it; return its record, and the files."""
        image, files = job.image, dict[str, State | None]()

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
        beside = _beside(image, done)
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
        return record, files

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
        return {**result, "failed": sorted(self.outcome.failed, key=lambda record: record["input"])}


def _told(noise: NoiseSpectrum | None) -> dict[str, Any]:
    """Return what a file's record says of the noise of its own."""
    if noise is None:
        return {"noise": None, "strength": 0.0}
    level = noise.parts[0].level if len(noise.parts) == 1 else None
    return {"noise": str(noise), "strength": level if level is not None and isfinite(level) else None}


def _beside(image: Image, done: Done) -> dict[str, NDArray[np.float32]]:
    """Return what is written beside an image, in the units of its values."""
    found: dict[str, np.ndarray] = {}
    if done.removed is not None:
        found["removed"] = done.removed * (image.values.span / 2)
    if done.deviation is not None:
        found["uncertainty"] = done.deviation * (image.float_values.span / 2)
    return {key: value.astype(np.float32) for key, value in found.items()}


def _shown(job: Damaged, done: Done, record: dict[str, Any]) -> RestoredImage:
    image, true = job.image, None if job.truth is None else job.truth.signal
    after = replace(image, pixels=done.pixels[0]).signal
    return RestoredImage(image.place.name, image.signal, after, record, true, done.deviation)


def _load(batch: Sequence[Damaged]) -> float:
    """Return the share of a batch of what threads work on at one time."""
    return sum(job.image.pixels.size for job in batch) / PIXELS_IN_WORK


def _kind(image: Image) -> tuple[Any, ...]:
    """Return what images that are restored together have in common."""
    return image.pixels.shape, image.pixels.dtype.kind, None if image.stack is None else image.path
