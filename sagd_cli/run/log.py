"""The records of a training: metrics.jsonl, and a copy of it for TensorBoard."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, cast

from sagd_cli.errors import UsageError
from sagd_cli.system.files import write_text

LogRecord = dict[str, Any]

METRICS_FILE, TENSORBOARD = "metrics.jsonl", "tensorboard"


class MetricsLog:
    """metrics.jsonl of a run: one JSON object per line, flushed at once. Lines past the resumed step are dropped."""

    def __init__(self, run: Path, step: int, writes: bool, tensorboard: bool = False) -> None:
        """Read the records up to `step`; `last` is the last of them.

        With `writes`, the later records are removed from the file, and new ones are written. With `tensorboard`, new
        records are also written for TensorBoard.
        """
        self._path, self._writes = run / METRICS_FILE, writes
        records = [record for record in read_records(run) if record["step"] <= step]
        self.last = records[-1] if records else None
        if writes:
            write_text(self._path, "".join(json.dumps(record) + "\n" for record in records))
        self._copy = TensorBoard(run, step) if writes and tensorboard else None

    def append(self, record: LogRecord) -> None:
        """Add a record; it is written only with `writes`."""
        self.last = record
        if not self._writes:
            return
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        if self._copy is not None:
            self._copy.append(record)

    def close(self) -> None:
        """End the copy for TensorBoard; the file is whole after every record."""
        if self._copy is not None:
            self._copy.close()


def read_records(run: Path) -> list[LogRecord]:
    """Return the records of a run's metrics.jsonl, none when it is missing. Incomplete lines are skipped."""
    path = run / METRICS_FILE
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    return [record for record in map(_parsed, lines) if record]


def _parsed(line: str) -> LogRecord | None:
    try:
        record = json.loads(line)
        return record if isinstance(record, dict) and isinstance(record.get("step"), int) else None
    except ValueError:
        return None


class Writer(Protocol):
    """The methods of torch's SummaryWriter that are used here."""

    def add_scalar(self, tag: str, value: float, step: int, /) -> None:
        """Add a point to the curve `tag`."""

    def flush(self) -> None:
        """Write the added points to the disk."""

    def close(self) -> None:
        """Flush and end."""


def summary_writer() -> Callable[..., Writer]:
    """Return torch's SummaryWriter; raise UsageError when the package tensorboard is missing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UsageError(
            "--tensorboard needs the package tensorboard, which is not installed",
            "Install it with: pip install tensorboard",
        ) from None
    return cast(Callable[..., Writer], SummaryWriter)


class TensorBoard:
    """A copy of a run's records in RUN/tensorboard, with one curve over the steps for each figure."""

    def __init__(self, run: Path, step: int) -> None:
        """Go on after `step`. Points past it, of a training that was cut off, are hidden."""
        self._writer = summary_writer()(str(run / TENSORBOARD), purge_step=step + 1)

    def append(self, record: LogRecord) -> None:
        """Add the figures of a record; those in groups are called GROUP/NAME."""
        for name, value in scalars(record):
            self._writer.add_scalar(name, value, record["step"])
        self._writer.flush()

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


def scalars(record: LogRecord) -> Iterator[tuple[str, float]]:
    """Yield the pairs (name, value) of a record's figures, except its step."""
    for name, value in record.items():
        if isinstance(value, dict):
            yield from ((f"{name}/{key}", figure) for key, figure in _numbers(value))
        elif name != "step":
            yield from _numbers({name: value})


def _numbers(values: dict[str, Any]) -> Iterator[tuple[str, float]]:
    return ((name, value) for name, value in values.items() if value is not None)
