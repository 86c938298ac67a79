"""Discovery of plug-ins: built-ins first, then files, then entry points. An error in one does not stop the others."""

import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy
import typer

from sagd_cli import __version__
from sagd_cli.builtin import BUILTIN_MODULES, COMMANDS
from sagd_cli.errors import PluginError, suggest
from sagd_cli.plugin.guard import guarded
from sagd_cli.plugin.records import NAME, Plugin
from sagd_cli.plugin.spec import PROJECT, HookSpecs
from sagd_cli.system.failures import named_error
from sagd_cli.system.redirection import stdout_for_results

BUILTIN_DISTRIBUTION = "sagd"


HOOKS = {
    "sagd_filters": "filter",
    "sagd_datasets": "dataset",
    "sagd_backbones": "backbone",
    "sagd_features": "feature",
    "sagd_commands": "command",
}


@dataclass(frozen=True)
class Provider:
    """Where a plug-in comes from: a module's name, its distribution and that distribution's version."""

    module: str
    distribution: str
    version: str


@dataclass(frozen=True)
class Entry:
    """One listed plug-in. `status` is ok, conflict or broken; `detail` says why it is not ok."""

    kind: str
    name: str
    provider: Provider
    status: str
    summary: str = ""
    record: Plugin | typer.Typer | None = None
    detail: str = ""


class Registry:
    """The plug-ins of this process. When two have the same kind and name, the first one is used."""

    def __init__(self) -> None:
        """Start empty."""
        self.entries: list[Entry] = []
        self._found: dict[tuple[str, str], Entry] = {}

    def add(self, name: str, provider: Provider, load: Callable[[], ModuleType]) -> None:
        """Load one module and add the plug-ins that its hooks yield. What it raises is recorded in an entry.

        What it prints goes to standard error.
        """
        # A plug-in may do anything at import, sys.exit included; the program must outlive it.
        try:
            with stdout_for_results(), guarded(f"the plug-in {name}"):
                records = list(_records(name, load()))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self.entries.append(Entry("module", name, provider, "broken", detail=named_error(error)))
            return
        for kind, record in records:
            self._add_record(kind, record, provider)

    def _add_record(self, kind: str, record: Any, provider: Provider) -> None:
        name, summary = _describe(kind, record)
        first = self._provider_in_use(kind, name)
        if first is not None:
            detail = (
                f"{kind} {name!r} of {provider.module} ({provider.distribution}) is already provided by "
                f"{first.module} ({first.distribution}), which is used"
            )
            self.entries.append(Entry(kind, name, provider, "conflict", summary, record, detail))
            return
        entry = Entry(kind, name, provider, "ok", summary, record)
        self._found[kind, name] = entry
        self.entries.append(entry)

    def _provider_in_use(self, kind: str, name: str) -> Provider | None:
        if kind == "command" and name in COMMANDS:
            return Provider(f"sagd_cli.commands.{name}", BUILTIN_DISTRIBUTION, __version__)
        found = self._found.get((kind, name))
        return found.provider if found is not None else None

    def names(self, kind: str) -> list[str]:
        """Return the names of the usable plug-ins of a kind, sorted."""
        return sorted(name for k, name in self._found if k == kind)

    def records(self, kind: str) -> list[Any]:
        """Return the records of the usable plug-ins of a kind, in the order of loading."""
        return [entry.record for (k, _), entry in self._found.items() if k == kind]

    def entry(self, kind: str, name: str) -> Entry:
        """Return the entry in use for a name; raise PluginError, with similar names, when there is none."""
        found = self._found.get((kind, name))
        if found is None:
            broken = [f"{e.name} ({e.detail})" for e in self.entries if e.status == "broken"]
            note = f"Broken plug-ins: {'; '.join(broken)}." if broken else ""
            raise PluginError(f"unknown {kind} {name!r}", f"{suggest(name, self.names(kind))} {note}".strip())
        return found

    def get(self, kind: str, name: str) -> Any:
        """Return the record in use for a name; raise PluginError, with similar names, when there is none."""
        return self.entry(kind, name).record


def _records(name: str, module: ModuleType) -> Iterator[tuple[str, Any]]:
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(HookSpecs)
    manager.register(module, name)
    manager.check_pending()
    if not manager.get_hookcallers(module):
        raise TypeError(f"module {module.__name__} implements no hook ({', '.join(HOOKS)})")
    for hook, kind in HOOKS.items():
        caller = getattr(manager.hook, hook)
        results = caller()
        # pluggy drops None, what a hook returns when its author forgot to yield.
        if len(results) < len(caller.get_hookimpls()):
            raise TypeError(f"{hook} returned None instead of an iterable")
        for records in results:
            for record in records:
                yield kind, _checked(hook, kind, record)


def _checked(hook: str, kind: str, record: Any) -> Any:
    if kind == "command":
        name = record.info.name if isinstance(record, typer.Typer) else None
        if not (isinstance(name, str) and NAME.fullmatch(name)):
            raise TypeError(f"{hook} must yield typer.Typer(name=...) with a name like {NAME.pattern}")
        typer.main.get_command(record)  # raises on an application that `sagd --help` could not show
    elif not (isinstance(record, Plugin) and record.kind == kind):
        raise TypeError(f"{hook} must yield {kind.capitalize()}Plugin records, not {type(record).__name__}")
    return record


def _describe(kind: str, record: Any) -> tuple[str, str]:
    if kind == "command":
        text = record.info.help if isinstance(record.info.help, str) else typer.main.get_command(record).help
        return record.info.name, (text or "").strip().partition("\n")[0]
    return record.name, record.summary


@dataclass(frozen=True)
class Sources:
    """Where plug-ins may come from besides the built-ins.

    `only` is the set of entry-point names to load (None: all of them). `files` are Python files that the user has
    named. Nothing in the current directory is ever loaded by itself.
    """

    only: frozenset[str] | None = None
    files: tuple[Path, ...] = ()

    @classmethod
    def from_environment(cls, files: Iterable[Path] = (), safe_mode: bool = False) -> "Sources":
        """Return the sources that SAGD_PLUGINS (a,b: only these; empty: built-ins only) and the arguments give.

        With `safe_mode` (--no-plugins), only built-ins are loaded.
        """
        names = os.environ.get("SAGD_PLUGINS")
        listed = None if names is None else frozenset(n.strip() for n in names.split(",") if n.strip())
        return cls(frozenset() if safe_mode else listed, () if safe_mode else tuple(files))

    def points(self) -> list[EntryPoint]:
        """Return the entry points to load, in the order of their names."""
        found = entry_points(group=PROJECT)
        return sorted((p for p in found if self.only is None or p.name in self.only), key=lambda p: p.name)


def load_registry(sources: Sources, builtin: Iterable[str] = BUILTIN_MODULES) -> Registry:
    """Load every plug-in of `sources` after the built-ins."""
    registry = Registry()
    for name in builtin:
        provider = Provider(name, BUILTIN_DISTRIBUTION, __version__)
        registry.add(name, provider, lambda name=name: importlib.import_module(name))  # type: ignore[misc]
    for path in sources.files:
        registry.add(str(path), Provider(str(path), str(path), ""), lambda path=path: _import_file(path))  # type: ignore[misc]
    for point in sources.points():
        registry.add(point.name, _provider(point), point.load)
    return registry


def _provider(point: EntryPoint) -> Provider:
    # A half-removed distribution has no metadata: None on some versions of Python, an exception on others.
    try:
        found = (point.dist.name, point.dist.version) if point.dist else (None, None)
    except Exception:
        found = (None, None)
    return Provider(point.value, found[0] or "unknown", found[1] or "")


def _import_file(path: Path) -> ModuleType:
    name = "sagd_plugin_file_" + re.sub(r"\W", "_", str(path.resolve()))
    spec = importlib.util.spec_from_file_location(name, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise PluginError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    # Data classes and pydantic models look their module up by name to resolve annotations.
    sys.modules[name] = module
    try:
        with _nothing_beside():
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextmanager
def _nothing_beside() -> Iterator[None]:
    """Keep Python from writing its bytecode beside a user's file."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


_sources: Sources | None = None


def use_sources(sources: Sources) -> None:
    """Choose where plug-ins come from, before the first look-up; called by the root command."""
    global _sources  # noqa: PLW0603
    if sources != _sources:
        _sources = sources
        registry.cache_clear()


def current_sources() -> Sources:
    """Return the sources the root command chose, or those of the environment."""
    return Sources.from_environment() if _sources is None else _sources


@cache
def registry() -> Registry:
    """Return the registry of this process, loaded at the first call."""
    return load_registry(current_sources())
