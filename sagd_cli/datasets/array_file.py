"""A .npy file that is written in parts, by one process or several, and appears whole. Imports no torch."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from math import prod
from pathlib import Path
from threading import Lock
from typing import Any
from zlib import crc32

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from sagd_cli.data.begun import add_line, lines_of, refuse_changed_settings
from sagd_cli.data.images import naming
from sagd_cli.datasets.beside import refuse_others, write_beside
from sagd_cli.errors import SagdError, UsageError
from sagd_cli.plugin.records import LazyImageSet
from sagd_cli.system.console import output
from sagd_cli.system.files import (
    read_json,
    refuse_existing,
    shown_path,
    sync,
    try_lock,
    write_json,
    write_text,
)

_ARRAY, _RECORD, _SOUND = "array.npy", "settings.json", "sound.jsonl"
_FINISHING = "finishing"  # from here on, what lies beside the array may be its own
_BLOCK, _LARGEST = 1 << 24, 1 << 24  # bytes that are read at a time, and of a record


@dataclass
class ArrayFile:
    """The .npy file `path` of `shape` (N, ...) and `dtype`; `decides` is what its values depend on, as JSON can hold.

    Parts are written to a hidden folder beside it, each with a line in a journal of the process number `writer`. The
    first process calls `begin` and `finish`, and the others `write` between the two. A part is done while its bytes
    have the checksum that its line tells, and while `source` of its range, where it is given, returns the same text.
    So what a kill, a crash or a full disk left counts for nothing, and no part has to reach the disk before the next
    one. Used as a context: what is not finished stays for the same command to go on.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    decides: Mapping[str, Any]
    writer: int = 0
    source: Callable[[range], str] | None = None
    _held: ExitStack = field(default_factory=ExitStack, init=False, repr=False)
    _telling: Lock = field(default_factory=Lock, init=False, repr=False)

    def __enter__(self) -> "ArrayFile":
        """Start to write."""
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        """Let the file go. Where nothing was written, nothing stays; else a note says so after an `error`."""
        self._held.close()
        if error is not None and not issubclass(error, UsageError) and self.is_begun and not self.writer:
            output().note(
                f"what was written of {shown_path(self.path)} is kept, and the same command goes on"
            )

    def begin(self, force: bool = False) -> list[range]:
        """Make everything ready and return what is still to be written: all but the parts that are done.

        Raises UsageError while another command writes the file. Raises UsageError, unless with `force`, when the file
        is there, and when it was begun with other settings, which are then given up. Raises SagdError when the disk has
        too little room.
        """
        refuse_existing(self.path, force)
        refuse_others(self.path, force or (self._work / _FINISHING).exists())
        with naming(self.path):
            self._work.mkdir(parents=True, exist_ok=True)
            is_free = self._held.enter_context(try_lock(self._work / "lock"))
            if not (is_free and (self._work / "lock").exists()):  # it was just finished
                raise UsageError(f"another command writes {shown_path(self.path)}", "Wait for its end.")
            self._held.callback(self._tidy)
            if not self._is_begun(force):
                self._begin_anew()
            done = [line for line in self._lines() if self._is_done(line)]
            write_text(self._work / _SOUND, "".join(f"{json.dumps(line)}\n" for line in done))
            for path in self._journals():
                if path.name != _SOUND:
                    path.unlink()
            left = self._left()
            self._check_room(sum(map(len, left)))
        return left

    def write(self, start: int, values: NDArray[Any], source: str | None = None) -> None:
        """Write `values` (n, ...) from number `start` on, and tell of it. Several threads may do this at once.

        `source` is what `source_of` returned before the values were made.

        Raises ValueError on values of another shape or type, and SagdError on a full disk.
        """
        part = range(start, start + len(values))
        if values.shape[1:] != self.shape[1:] or values.dtype != self.dtype or part.stop > self.shape[0]:
            raise ValueError(f"{part} of {values.dtype}{values.shape} is no part of {self.dtype}{self.shape}")
        data = np.ascontiguousarray(values, self.dtype).data.cast("B")
        place, rest = self._place(start), data
        with naming(self.path):
            while rest:
                count = os.pwrite(self._handle, rest, place)
                place, rest = place + count, rest[count:]
            line = {"part": [part.start, part.stop], "crc": crc32(data), "source": source}
            with self._telling:
                add_line(self._work / f"{self.writer}.jsonl", line)

    def finish(self, data: LazyImageSet | None = None) -> None:
        """Put the file where it belongs, and beside it what `data` hold besides images.

        It appears last, after an old one was removed, so that it never has the labels of other images. Raises SagdError
        where parts are missing.
        """
        missing = sum(map(len, self._left()))
        if missing:
            raise SagdError(
                f"{shown_path(self.path)} lacks {missing:,} of its {self.shape[0]:,} images",
                "The same command goes on.",
            )
        with naming(self.path):
            sync(self._work / _ARRAY)
            write_text(self._work / _FINISHING, "")
            self.path.unlink(missing_ok=True)
            write_beside(self.path, data or LazyImageSet(()))
            (self._work / _ARRAY).replace(self.path)
            sync(self.path.parent)
            for path in self._journals():
                path.unlink()

    def written(self) -> NDArray[Any]:
        """Return the array as it is before `finish`, mapped from its file; it can only be read."""
        array: NDArray[Any] = npy.open_memmap(self._work / _ARRAY, mode="r")
        return array

    @property
    def is_begun(self) -> bool:
        """Whether a command has begun to write the file, and has not finished it."""
        return (self._work / _RECORD).exists()

    @property
    def _work(self) -> Path:
        return self.path.with_name(f".{self.path.name}.part")

    @cached_property
    def _handle(self) -> int:
        handle = os.open(self._work / _ARRAY, os.O_RDWR)
        self._held.callback(os.close, handle)
        return handle

    @cached_property
    def _header(self) -> bytes:
        file = BytesIO()
        form = {"descr": npy.dtype_to_descr(self.dtype), "fortran_order": False, "shape": self.shape}
        npy.write_array_header_1_0(file, form)
        return file.getvalue()

    @property
    def _image_bytes(self) -> int:
        return prod(self.shape[1:]) * self.dtype.itemsize

    def _place(self, number: int) -> int:
        return len(self._header) + number * self._image_bytes

    @property
    def _settings(self) -> dict[str, Any]:
        own = {"shape": self.shape, "type": self.dtype.str, **self.decides}
        return dict(json.loads(json.dumps(own)))

    def _is_begun(self, force: bool) -> bool:
        """Whether a command of these settings has begun; raise UsageError on others, unless `force`."""
        if not self.is_begun:
            return False
        before = read_json(self._work / _RECORD, _LARGEST)
        if not force:
            refuse_changed_settings(shown_path(self.path), before, self._settings)
        return before == self._settings and (self._work / _ARRAY).exists()

    def _begin_anew(self) -> None:
        for path in (self._work / _RECORD, self._work / _FINISHING, *self._journals()):
            path.unlink(missing_ok=True)
        (self._work / _ARRAY).write_bytes(self._header)
        write_json(self._work / _RECORD, self._settings)  # last, so that a record means a file

    def _tidy(self) -> None:
        if not any(path.stat().st_size for path in self._journals()):
            shutil.rmtree(self._work, ignore_errors=True)

    def _journals(self) -> Sequence[Path]:
        return [*self._work.glob("*.jsonl")]

    def _lines(self) -> Iterator[dict[str, Any]]:
        for path in self._journals():
            yield from (line for line in lines_of(path) if isinstance(line, dict) and "part" in line)

    def _is_done(self, line: Mapping[str, Any]) -> bool:
        part = range(*line["part"])
        if line.get("source") != self.source_of(part):
            return False
        place, end, crc = self._place(part.start), self._place(part.stop), 0
        while place < end:
            block = os.pread(self._handle, min(_BLOCK, end - place), place)
            if not block:
                return False
            place, crc = place + len(block), crc32(block, crc)
        return crc == line.get("crc")

    def source_of(self, part: range) -> str | None:
        """Return what `source` returns of a range now, None where it is not given."""
        return None if self.source is None else self.source(part)

    def _left(self) -> list[range]:
        """Return the runs of numbers that no line tells of."""
        is_missing = np.ones(self.shape[0], bool)
        for line in self._lines():
            is_missing[slice(*line["part"])] = False
        ends = np.flatnonzero(np.diff(is_missing, prepend=False, append=False)).reshape(-1, 2)
        return [range(first, stop) for first, stop in ends.tolist()]

    def _check_room(self, count: int) -> None:
        needed, free = count * self._image_bytes, shutil.disk_usage(self._work).free
        if needed > free:
            raise SagdError(
                f"{shown_path(self.path)} needs {needed / 1e9:.1f} GB more, and its disk has room for {free / 1e9:.1f}",
                "Make room, or choose an --output on another disk.",
            )
