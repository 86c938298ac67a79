"""The folder that samples are written to, and what it knows of its images, so that the same command goes on."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from sagd_cli.data.begun import add_line
from sagd_cli.data.folders import SAMPLES_RECORD, SAMPLES_WORK, check_output_folder
from sagd_cli.data.images import naming, read_image
from sagd_cli.datasets.writing import encoded_drawable
from sagd_cli.errors import UsageError
from sagd_cli.sampling.sample_files import (
    ARCHIVE,
    SOUND,
    DrawnBatch,
    file_crc,
    is_readable,
    journal_batches,
    read_record,
    refuse_other_samples,
    to_draw,
    write_archive,
)
from sagd_cli.system.files import atomic_path, shown_path, sync, try_lock, write_text

FOLDER_IMAGES, FIRST_IN_FOLDERS = 1000, 10_000


@dataclass(frozen=True)
class SampleFolder:
    """The folder `path` of samples of the `seeds`, as files of `format`; `settings` decide what the images are.

    `samples.json` holds the settings, from before the first image on, and in the end the batches that were drawn. Until
    then each writer has a journal of its batches; each is added after its files are there. Files appear whole or not at
    all. A batch is done while its files are as they were written. What a kill, a crash or a full disk left counts for
    nothing, and so no image has to reach the disk before the next one is written.
    """

    path: Path
    format: str
    seeds: range
    settings: Mapping[str, Any]

    def check(self, force: bool) -> None:
        """Raise UsageError when the folder holds something else than images of these settings and seeds.

        With `force` it may hold images of the same names.
        """
        old = None if force else self._own_record()
        # One that was stopped before it had told of anything has left no more than that.
        is_begun = self.path.is_dir() and {path.name for path in self.path.iterdir()} == {SAMPLES_WORK}
        check_output_folder(self.path, self._names(old), force or old is not None or is_begun)

    def _own_record(self) -> dict[str, Any] | None:
        """Return the record, None where there is none; raise UsageError when it is that of other images."""
        old = self.record()
        if old is not None:
            refuse_other_samples(self.path, old, self.settings, self.seeds)
        return old

    def _make_work(self, force: bool = False) -> None:
        # Not beside other images, which would no longer count as complete.
        if not force:
            self._own_record()
        with naming(self.path):
            self._work.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def writing(self, name: str) -> Iterator["SampleWriter"]:
        """Give the writer `name`, which no other process may be at the same time.

        Raises UsageError where one is, and where the folder has become one of other images since it was begun.
        """
        self._make_work()
        with (
            try_lock(self._writers, shared=True) as is_kept,
            try_lock(self._work / f"{name}.lock") as is_free,
        ):
            if not (is_kept and is_free):
                raise UsageError("another command draws the same images", "Wait for its end.")
            self._own_record()
            yield SampleWriter(self, self._work / f"{name}.jsonl")

    def begin(self, batches: Sequence[range], force: bool) -> list[range]:
        """Make the folder ready for `batches` and return what of them is to be drawn: with `force` all.

        Raises UsageError where the folder holds other images, also of a command that began just now, where an image was
        changed since it was written, and with `force` while another command writes.
        """
        self._make_work(force)
        known = {} if force else self._known_seeds()
        with self._recording():
            old = None if force else self._own_record()
            if old is None:
                known = {}
                self._begin_anew()
            # Not when it says the same: another share may just have finished it.
            elif old["seeds"] != self._ends:
                self._write_record({**old, "seeds": self._ends})
        with naming(self.path):
            for part in {Path(name).parent for name in self._names(old)}:
                (self.path / part).mkdir(exist_ok=True)
        return [run for batch in batches for run in to_draw(batch, known)]

    def _begin_anew(self) -> None:
        """Forget what was drawn, which no process may be writing."""
        with try_lock(self._writers) as is_free:
            if not is_free:
                raise UsageError(f"another command draws into {shown_path(self.path)}", "Wait for its end.")
            with naming(self.path):
                for path in (*self._work.glob("*.jsonl"), *self._work.glob("*.npy")):
                    path.unlink()
            new = {"settings": self.settings, "seeds": self._ends, "parts": self.has_parts(None)}
            self._write_record({**new, "batches": []})

    def finish(self, arrays: Mapping[str, NDArray[Any]]) -> int:
        """Return how many images are not there yet. When there are none, close the folder, whose record lists all.

        Batches of an archive become one, with further `arrays`.
        """
        found = {
            (batch.seeds.start, batch.seeds.stop): batch for batch, is_sound in self._checked() if is_sound
        }
        missing = len({*self.seeds}.difference(*(batch.seeds for batch in found.values())))
        if not missing and self._work.is_dir():
            with try_lock(self._writers) as is_alone:  # otherwise another command closes it, or has closed it
                if is_alone and self._writers.exists():
                    self._close([found[ends] for ends in sorted(found)], arrays)
        return missing

    def _close(self, batches: list[DrawnBatch], arrays: Mapping[str, NDArray[Any]]) -> None:
        with naming(self.path):
            if self.format == "npz":
                batches = [self._archived(batches, arrays)]
            for folder in {(self.path / name).parent for batch in batches for name in batch.files}:
                sync(folder)
        with self._recording():
            record = self.record() or {}
            if record.get("seeds") != self._ends:  # a command for more images has begun
                return
            self._write_record({**record, "batches": [batch.document() for batch in batches]})
        shutil.rmtree(self._work, ignore_errors=True)

    def _archived(self, batches: Sequence[DrawnBatch], arrays: Mapping[str, NDArray[Any]]) -> DrawnBatch:
        """Write the archive, unless it is there, and return it as the one batch it is."""
        path = self.path / ARCHIVE
        for batch in batches:
            if batch.seeds == self.seeds and ARCHIVE in batch.files:
                return batch
        with atomic_path(path) as temporary:
            write_archive(temporary, len(self.seeds), (self._images(batch) for batch in batches), arrays)
            whole = DrawnBatch(self.seeds, {ARCHIVE: file_crc(temporary)})
            # Before it takes the place of one of fewer images: after a kill, either of them is known.
            add_line(self._work / "archive.jsonl", whole.document())
        return whole

    def _images(self, batch: DrawnBatch) -> NDArray[Any]:
        (name,) = batch.files
        found = np.load(self.path / name)
        return np.asarray(found["images"] if name == ARCHIVE else found)

    def first_images(self, count: int) -> list[NDArray[Any]]:
        """Return the first `count` images (C, H, W) of a whole folder: bytes, or signals of floats."""
        if self.format == "npz":
            return [*np.load(self.path / ARCHIVE)["images"][:count]]
        names = [*self._names(self.record())][:count]
        images = [read_image(self.path / name) for name in names]
        return [image.pixels if image.pixels.dtype == np.uint8 else image.signal for image in images]

    @property
    def _work(self) -> Path:
        return self.path / SAMPLES_WORK

    @property
    def _writers(self) -> Path:
        """The lock that those who write images hold together, and who begins anew or closes the folder alone."""
        return self._work / "writers.lock"

    def _recording(self) -> AbstractContextManager[bool]:
        """Wait until no other process changes the record."""
        return try_lock(self._work / "record.lock", waits=True)

    @property
    def _ends(self) -> list[int]:
        return [self.seeds.start, self.seeds.stop - 1]

    def record(self) -> dict[str, Any] | None:
        """Return what `samples.json` says, None where there is none; raise DataError on that of another program."""
        path = self.path / SAMPLES_RECORD
        return read_record(path) if path.is_file() else None

    def _write_record(self, record: Mapping[str, Any]) -> None:
        write_text(self.path / SAMPLES_RECORD, json.dumps(record, indent=1) + "\n")

    def has_parts(self, record: Mapping[str, Any] | None) -> bool:
        """Whether images lie in folders of 1,000: as it was begun, else from 10,000 images on."""
        return len(self.seeds) >= FIRST_IN_FOLDERS if record is None else bool(record["parts"])

    def _names(self, record: Mapping[str, Any] | None) -> Iterator[str]:
        if self.format == "npz":
            yield ARCHIVE
            return
        has_parts = self.has_parts(record)
        yield from (self.name(seed, has_parts) for seed in self.seeds)

    def name(self, seed: int, has_parts: bool) -> str:
        """Return the name of the image file of a seed, in a folder of its part of the seeds or in none."""
        part = f"{seed // FOLDER_IMAGES * FOLDER_IMAGES:06d}/" if has_parts else ""
        return f"{part}{seed:06d}.{self.format}"

    def _known_seeds(self) -> dict[int, int]:
        """Return of each seed that was drawn `SOUND`, or the first one of its batch, which is to be drawn again."""
        known: dict[int, int] = {}
        for batch, is_sound in sorted(self._checked(), key=lambda one: one[1]):
            known |= dict.fromkeys(batch.seeds, SOUND if is_sound else batch.seeds.start)
        return known

    def _checked(self) -> list[tuple[DrawnBatch, bool]]:
        """Return the batches that are told of, and whether their files are as they were written.

        Raises UsageError where a file is another one now. One that cannot be read is none: a crash of the machine may
        leave it.
        """
        batches = self._batches()
        written: dict[str, set[int]] = {}
        for batch in batches:
            for name, crc in batch.files.items():
                written.setdefault(name, set()).add(crc)
        found = {name: file_crc(self.path / name) for name in written if (self.path / name).is_file()}
        for name, crc in found.items():
            if crc not in written[name] and is_readable(self.path / name):
                raise UsageError(
                    f"{shown_path(self.path / name)} was changed since it was written",
                    "Move it away to have it drawn again, or replace all with --force.",
                )
        return [
            (batch, all(found.get(name) == crc for name, crc in batch.files.items())) for batch in batches
        ]

    def _batches(self) -> list[DrawnBatch]:
        # The journals come first, which are removed after the record is written.
        journals = [batch for path in self._work.glob("*.jsonl") for batch in journal_batches(path)]
        return [*journals, *map(DrawnBatch.read, (self.record() or {"batches": []})["batches"])]


@dataclass
class SampleWriter:
    """Writes batches of a `folder` and tells of them in a `journal` of its own."""

    folder: SampleFolder
    journal: Path
    _telling: Lock = field(default_factory=Lock, init=False)

    @cached_property
    def has_parts(self) -> bool:
        """Whether images lie in folders of 1,000, as the record of the folder says."""
        return self.folder.has_parts(self.folder.record())

    def write(self, seeds: range, images: NDArray[Any]) -> None:
        """Write images, and then tell of them. Several threads may do this at once."""
        if self.folder.format == "npz":
            data = BytesIO()
            np.save(data, images)
            encoded = {f"{SAMPLES_WORK}/{seeds.start:06d}-{seeds.stop - 1:06d}.npy": data.getvalue()}
        else:
            names = [self.folder.name(seed, self.has_parts) for seed in seeds]
            encoded = {
                name: encoded_drawable(image, Path(name)) for name, image in zip(names, images, strict=True)
            }
        batch = DrawnBatch(seeds, {name: self._put(name, file) for name, file in encoded.items()})
        with self._telling:
            add_line(self.journal, batch.document())

    def _put(self, name: str, data: bytes) -> int:
        """Write a file that appears whole or not at all, but need not have reached the disk; return its CRC-32."""
        path = self.folder.path / name
        temporary = self.journal.parent / f"{os.getpid()}-{path.name}"
        with naming(path):
            try:
                temporary.write_bytes(data)
                temporary.replace(path)
            except OSError:
                temporary.unlink(missing_ok=True)
                raise
        return crc32(data)
