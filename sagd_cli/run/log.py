"""The records of a training: metrics.jsonl, which trackers get too."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sagd_cli.run.trackers import Trackers
from sagd_cli.system.files import write_text

LogRecord = dict[str, Any]

METRICS_FILE = "metrics.jsonl"


class MetricsLog:
    """metrics.jsonl of a run: one JSON object per line, flushed at once. Lines past the resumed step are dropped."""

    def __init__(self, run: Path, step: int, writes: bool, trackers: Trackers | None = None) -> None:
        """Read the records up to `step`; `last` is the last of them.

        With `writes`, the later records are removed from the file, and new ones are written and given to `trackers`.
        """
        self._path, self._writes = run / METRICS_FILE, writes
        records = [record for record in read_records(run) if record["step"] <= step]
        self.last = records[-1] if records else None
        if writes:
            write_text(self._path, "".join(json.dumps(record) + "\n" for record in records))
        self._trackers = trackers

    def append(self, record: LogRecord) -> None:
        """Add a record; it is written only with `writes`."""
        self.last = record
        if not self._writes:
            return
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        if self._trackers is not None:
            self._trackers.scalars(dict(scalars(record)), record["step"])


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


def scalars(record: LogRecord) -> Iterator[tuple[str, float]]:
    """Yield the pairs (name, value) of a record's figures, except its step."""
    for name, value in record.items():
        if isinstance(value, dict):
            yield from ((f"{name}/{key}", figure) for key, figure in _numbers(value))
        elif name != "step":
            yield from _numbers({name: value})


def _numbers(values: dict[str, Any]) -> Iterator[tuple[str, float]]:
    return ((name, value) for name, value in values.items() if value is not None)
