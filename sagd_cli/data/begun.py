"""What is kept of an output that is made in parts: the settings it was begun with, and a line for each part."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sagd_cli.errors import UsageError
from sagd_cli.system.files import append_text

ANOTHER_WAY = "Give the same settings to go on, choose another --output, or start anew with --force."


def refuse_changed_settings(output: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise UsageError, which names `output`, where a setting is not what it was `before`; None is no setting."""
    for name in {**before, **now}:
        if before.get(name) != now.get(name):
            old, new = (_told(name, each.get(name)) for each in (before, now))
            raise UsageError(f"{output} was begun with {old}, now {new}", ANOTHER_WAY)


def _told(name: str, value: Any) -> str:
    return f"{name} {value}" if value is not None else f"no {name}"


def add_line(path: Path, document: Any) -> None:
    """Append a line to a journal. What a kill left of the one before it is a line of its own."""
    append_text(path, f"\n{json.dumps(document)}\n")


def lines_of(path: Path) -> Iterator[Any]:
    """Yield what the lines of a journal say, which may be gone, without those that a kill has torn."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        with suppress(ValueError):
            yield json.loads(line)
