"""What is written of samples: batches with the checksums of their files, journals of them, and archives."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any
from zipfile import ZIP_DEFLATED, BadZipFile, ZipFile
from zlib import crc32

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from pydantic import Field

from sagd_cli.config.documents import Document, check_document
from sagd_cli.data.begun import ANOTHER_WAY, lines_of, refuse_changed_settings
from sagd_cli.data.images import read_image
from sagd_cli.errors import SagdError, UsageError
from sagd_cli.system.files import read_json, shown_path

ARCHIVE = "samples.npz"
_LARGEST = 1 << 30
SOUND = -1  # of a seed, in place of the first one of its batch


class _Seeds(Document):
    seeds: Annotated[list[int], Field(min_length=2, max_length=2)]


class _Batch(_Seeds):
    files: dict[str, int]


class _Record(_Seeds):
    settings: dict[str, Any]
    parts: bool
    batches: list[_Batch]


def read_record(path: Path) -> dict[str, Any]:
    """Read a `samples.json`; raise DataError on one of another program."""
    record = read_json(path, _LARGEST)
    hint = "Choose another --output, or move the file away."
    check_document(_Record, record, shown_path(path), "record of `sagd sample`", hint)
    return record


def refuse_other_samples(
    folder: Path, record: Mapping[str, Any], settings: Mapping[str, Any], seeds: range
) -> None:
    """Raise UsageError when the `record` of a folder has other settings, or seeds beyond `seeds`."""
    refuse_changed_settings(shown_path(folder), record["settings"], settings)
    first, last = record["seeds"]
    if last > seeds[-1]:
        raise UsageError(
            f"{shown_path(folder)} is for the seeds {first} to {last}, and not only to {seeds[-1]}",
            ANOTHER_WAY,
        )


@dataclass(frozen=True)
class DrawnBatch:
    """Images that were drawn together and written: their seeds, and the CRC-32 of each of their files by its name."""

    seeds: range
    files: Mapping[str, int]

    def document(self) -> dict[str, Any]:
        """Return what `read` takes."""
        return {"seeds": [self.seeds.start, self.seeds.stop - 1], "files": dict(self.files)}

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> "DrawnBatch":
        """Return the batch of a document."""
        first, last = document["seeds"]
        return cls(range(first, last + 1), document["files"])


def to_draw(batch: range, known: Mapping[int, int]) -> Iterator[range]:
    """Yield what is to be drawn of a batch; together what is new, and what was drawn together before."""
    for before, seeds in groupby(batch, known.get):
        run = [*seeds]
        if before != SOUND:
            yield range(run[0], run[-1] + 1)


def journal_batches(path: Path) -> Iterator[DrawnBatch]:
    """Yield the batches of a journal, which may be gone, without lines that a kill has torn."""
    for line in lines_of(path):
        with suppress(ValueError, TypeError):
            yield DrawnBatch.read(line)


def file_crc(path: Path) -> int:
    """Return the CRC-32 of a file."""
    crc = 0
    with path.open("rb") as file:
        while block := file.read(1 << 24):
            crc = crc32(block, crc)
    return crc


def is_readable(path: Path) -> bool:
    """Whether a file holds an image or an array."""
    try:
        np.load(path) if path.suffix in (".npy", ".npz") else read_image(path)
    except (SagdError, OSError, ValueError, BadZipFile):
        return False
    return True


def write_archive(
    path: Path, count: int, batches: Iterable[NDArray[Any]], arrays: Mapping[str, NDArray[Any]]
) -> None:
    """Write what `np.savez_compressed` would: `images`, one batch after the other, and the `arrays`."""
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        with archive.open("images.npy", "w", force_zip64=True) as member:
            for index, images in enumerate(batches):
                if index == 0:
                    shape = (count, *images.shape[1:])
                    form = {"descr": npy.dtype_to_descr(images.dtype), "fortran_order": False, "shape": shape}
                    npy.write_array_header_1_0(member, form)
                member.write(np.ascontiguousarray(images).data)
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                npy.write_array(member, array, allow_pickle=False)
