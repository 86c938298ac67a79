"""Closed sets of choices that a person makes by name, with one record for each choice. Imports nothing heavy."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from sagd_cli.errors import UsageError, suggest


@dataclass(frozen=True)
class Choice:
    """One choice: its `name`, a `summary` for people, and `build`, what it stands for.

    `build` is "module:name". It is imported when it is used, so that lists, help texts and settings load no torch.
    """

    name: str
    summary: str
    build: str

    def load(self) -> Any:
        """Return what `build` names."""
        return load_reference(self.build)


C = TypeVar("C", bound=Choice)


def choices(*records: C) -> dict[str, C]:
    """Return the records by name, in their order."""
    return {record.name: record for record in records}


def chosen(kind: str, name: str, known: Mapping[str, C], error: type[UsageError] = UsageError) -> C:
    """Return the record called `name`; raise `error`, with similar names, when there is no such record."""
    if name not in known:
        raise error(f"unknown {kind} {name!r}", suggest(name, known))
    return known[name]


def listing(known: Mapping[str, Choice]) -> str:
    """Return the names as a help text lists them: a, b or c."""
    *others, last = known
    return f"{', '.join(others)} or {last}" if others else last


def load_reference(reference: str) -> Any:
    """Import what "module:name" names; raise ImportError or AttributeError when it is not there."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)
