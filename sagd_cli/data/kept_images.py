"""Images of a stack that is not whole yet, kept in a file of their own, so that the stack goes on after a kill."""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.lib import format as npy

from sagd_cli.data.images import naming
from sagd_cli.files.metadata import Metadata, Tag


@dataclass(frozen=True)
class KeptImages:
    """Samples (H, W, S) and metadata of images, in the file `path`, in the order in which they were added."""

    path: Path

    def add(self, samples: np.ndarray, metadata: Metadata) -> None:
        """Append an image; when this returns, a kill does not lose it. Raises SagdError, which names the folder."""
        samples = np.ascontiguousarray(samples)
        head = {"crc": crc32(samples.data), "metadata": asdict(metadata)}
        with naming(self.path.parent), self.path.open("ab") as file:
            file.write(json.dumps(head, default=bytes.hex).encode() + b"\n")
            npy.write_array_header_1_0(file, npy.header_data_from_array_1_0(samples))
            file.write(samples.data)  # NumPy's own writing hides why it fails

    def count(self) -> int:
        """Return how many sound images there are before the first that is damaged."""
        return sum(1 for _ in self._read())

    def first(self, count: int) -> Iterator[tuple[np.ndarray, Metadata]]:
        """Yield the first `count` images; what comes after them is then removed."""
        end = 0
        for samples, metadata, end in islice(self._read(), count):  # noqa: B007
            yield samples, metadata
        if self.path.exists():
            os.truncate(self.path, end)

    def remove(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> Iterator[tuple[np.ndarray, Metadata, int]]:
        """Yield the sound images, each with the place in the file where it ends."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            while True:
                try:
                    head = json.loads(file.readline())
                    samples = npy.read_array(file, allow_pickle=False)
                    metadata = _metadata(**head["metadata"])
                except (ValueError, TypeError, KeyError, EOFError):
                    return
                if crc32(np.ascontiguousarray(samples).data) != head["crc"]:
                    return
                yield samples, metadata, file.tell()


def _metadata(icc: str, tags: list[Any], chunks: list[Any], **others: Any) -> Metadata:
    """Return metadata from what JSON makes of them: bytes are hexadecimal there, and tuples are lists."""
    parts = tuple((bytes.fromhex(kind), bytes.fromhex(content)) for kind, content in chunks)
    found = Metadata(bytes.fromhex(icc), tuple(_tag(*tag) for tag in tags), chunks=parts)
    rest: dict[str, Any] = {key: tuple(one) if isinstance(one, list) else one for key, one in others.items()}
    return replace(found, **rest)


def _tag(code: int, kind: int, value: str, parts: list[Any]) -> Tag:
    return Tag(code, kind, bytes.fromhex(value), tuple(_tag(*part) for part in parts))
