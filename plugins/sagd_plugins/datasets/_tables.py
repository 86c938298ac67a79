"""Columns of Parquet and Arrow files, a row at a time, by pyarrow, which is imported when it is needed."""

import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sagd_cli.errors import DataError, SagdError, UsageError
from sagd_cli.files.layout import check_file_size
from sagd_cli.system.files import has_suffix, shown_path

BLOCK_ROWS = 64  # of a Parquet file in memory; an Arrow file has blocks of its own
BUFFER_BYTES = 2**20


@dataclass(frozen=True)
class Column:
    """A column of a table: its name, its type as Arrow has it, and what the data set says of it (`_type`, `names`)."""

    name: str
    type: Any
    feature: dict[str, Any]

    @property
    def shown(self) -> str:
        """Its name and its type, as text for a message."""
        kind = self.feature.get("_type", "Value")
        return f"{self.name} ({self.type if kind == 'Value' else kind})"


@dataclass(frozen=True, eq=False)
class Table:
    """The rows of some files, in units that are read alone: each is a file, a place in it and its first row."""

    columns: tuple[Column, ...]
    units: Sequence[tuple[Path, int]]
    starts: Sequence[int]
    count: int

    def integers(self, name: str) -> NDArray[np.int64]:
        """Return the values of a column of integers; raise DataError where one is missing or beyond int64."""
        found = [np.empty(0, np.int64)]
        for unit in range(len(self.units)):
            for block in self.blocks(unit, name):
                if block.null_count:
                    raise DataError(
                        f"the column {name} of {shown_path(self.units[unit][0])} has rows without a value"
                    )
                values = block.to_numpy(zero_copy_only=False)
                if len(values) and values.max() > np.iinfo(np.int64).max:
                    raise DataError(
                        f"the column {name} of {shown_path(self.units[unit][0])} has values that are out of range"
                    )
                found.append(np.asarray(values, np.int64))
        return np.concatenate(found)

    def blocks(self, unit: int, name: str) -> Iterator[Any]:
        """Yield the values of a column in a unit, as Arrow has them, some rows at a time."""
        path, place = self.units[unit]
        with _readable(path):
            if has_suffix(path, ".parquet"):
                from pyarrow.parquet import ParquetFile

                with ParquetFile(path, buffer_size=BUFFER_BYTES) as file:
                    columns, groups = [name], [place]
                    for batch in file.iter_batches(BLOCK_ROWS, groups, columns, use_threads=False):
                        yield batch.column(0)
            else:
                from pyarrow import OSFile, ipc

                with OSFile(str(path)) as file:
                    schema = ipc.open_stream(file).schema
                    file.seek(place)
                    yield ipc.read_record_batch(ipc.read_message(file), schema).column(name)

    def path_of(self, row: int) -> Path:
        """Return the file that holds a row."""
        return self.units[self.unit_of(row)][0]

    def unit_of(self, row: int) -> int:
        """Return the number of the unit that holds a row."""
        return bisect_right(self.starts, row) - 1


@dataclass(eq=False)
class Cells:
    """The files in the cells of a column. The last two blocks are kept, so that going on costs least.

    Threads that go on together ask for a row of the block before now and then.
    """

    table: Table
    column: str
    _unit: int = -1
    _blocks: Iterator[Any] = field(default_factory=lambda: iter(()))
    _block: Any = None
    _first: int = 0  # row of the block
    _end: int = 0
    _before: tuple[int, Any] = (-1, ())  # the block before, and its first row
    _lock: Any = field(default_factory=Lock)

    def __call__(self, row: int) -> bytes:
        """Return the file in a cell; raise DataError, without its subject, where there is none."""
        with self._lock:
            value = self._value(row)
        if isinstance(value, dict):
            if value.get("bytes") is None and value.get("path") is not None:
                raise DataError(
                    "holds the path of an image, and not the image",
                    "Save the set with its images: save_to_disk of `datasets` does.",
                )
            value = value.get("bytes")
        if not isinstance(value, bytes):
            raise DataError("holds no image")
        check_file_size(len(value))
        return value

    def _value(self, row: int) -> Any:
        first, block = self._before
        if 0 <= row - first < len(block):
            return block[row - first].as_py()
        unit = self.table.unit_of(row)
        if unit != self._unit or row < self._first:
            self._blocks = self.table.blocks(unit, self.column)
            self._unit, self._first = unit, self.table.starts[unit]
            self._end, self._block = self._first, None
        try:
            while row >= self._end:
                if self._block is not None:
                    self._before = self._first, self._block
                self._block = next(self._blocks)
                self._first, self._end = self._end, self._end + len(self._block)
        except (DataError, StopIteration) as error:
            self._unit = -1
            raise DataError(f"cannot be read: {error or 'its file is cut short'}") from error
        return self._block[row - self._first].as_py()


def read_table(paths: Sequence[Path]) -> Table:
    """Look at the columns and the rows of Parquet or Arrow files; raise DataError where they differ or are damaged."""
    _require_pyarrow(paths[0])
    columns: tuple[Column, ...] | None = None
    units, starts, count = list[tuple[Path, int]](), list[int](), 0
    for path in paths:
        with _readable(path):
            schema, parts = _parquet_parts(path) if has_suffix(path, ".parquet") else _arrow_parts(path)
        found = _columns(schema)
        columns = found if columns is None else columns
        if [(one.name, one.type) for one in found] != [(one.name, one.type) for one in columns]:
            raise DataError(f"{shown_path(path)} has other columns than {shown_path(paths[0])}")
        for place, rows in parts:
            if rows:
                units.append((path, place))
                starts.append(count)
                count += rows
    return Table(columns or (), units, starts, count)


def _parquet_parts(path: Path) -> tuple[Any, list[tuple[int, int]]]:
    """Return the schema, and each group of rows with their number."""
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path) as file:
        groups = range(file.metadata.num_row_groups)
        return file.schema_arrow, [(k, file.metadata.row_group(k).num_rows) for k in groups]


def _arrow_parts(path: Path) -> tuple[Any, list[tuple[int, int]]]:
    """Return the schema, and where each batch of rows begins with their number; only its head is read."""
    from pyarrow import ipc, memory_map

    parts = []
    with memory_map(str(path)) as file:
        schema = ipc.open_stream(file).schema
        size, start = file.size(), file.tell()
        while start < size:
            try:
                message = ipc.read_message(file)
            except EOFError:  # the mark of the end
                break
            parts.append((start, ipc.read_record_batch(message, schema).num_rows))
            start = file.tell()
    return schema, parts


def _columns(schema: Any) -> tuple[Column, ...]:
    """Return the columns of a schema, with what `datasets` wrote of them."""
    features: Any = {}
    with suppress(ValueError, KeyError, TypeError, RecursionError):
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    known = features if isinstance(features, dict) else {}
    return tuple(
        Column(one.name, one.type, known[one.name] if isinstance(known.get(one.name), dict) else {})
        for one in schema
    )


def _require_pyarrow(path: Path) -> None:
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"{shown_path(path)} is a table, and the package datasets is not installed",
            'Install it: pip install "sagd[hf]"',
        ) from error


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (SagdError, MemoryError, GeneratorExit):
        raise
    except Exception as error:  # hostile bytes make the decoders raise anything at all
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(
            f"{shown_path(path)} cannot be read as a table: {text}", "It may be damaged."
        ) from error
