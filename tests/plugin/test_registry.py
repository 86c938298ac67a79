"""Discovery: who provides what, who wins a name, and that no plug-in can break what does not need it."""

import ast
import dataclasses
import importlib
import inspect
import sys
from pathlib import Path

import pytest

from sagd_cli.builtin import BUILTIN_MODULES
from sagd_cli.errors import PluginError
from sagd_cli.plugin import records, registry, spec
from sagd_cli.plugin.records import DatasetPlugin, FilterPlugin, Options, Plugin
from sagd_cli.plugin.registry import HOOKS, Sources, load_registry
from sagd_cli.plugin.testing import check_plugin

ROOT = Path(__file__).resolve().parents[2]
BUILTIN_PROBE = ("sagd_plugins.filters.white",)
IMPORTS = """\
import numpy as np
import typer
from sagd_cli.plugin import (
    BackbonePlugin, DatasetPlugin, FeaturePlugin, FilterPlugin, ImageSet, Options, hookimpl
)

def ones(grid, options):
    return np.ones(grid.half_shape)

"""


def hook(name: str, *yielded: str) -> str:
    """Source of one hook that yields the given expressions."""
    body = "\n".join(f"    yield {expression}" for expression in yielded)
    return f"@hookimpl\ndef {name}():\n{body}\n\n"


def filter_named(name: str) -> str:
    return f"FilterPlugin({name!r}, 'a fake', Options, ones)"


COMMAND = """\
hello = typer.Typer(name="hello", help="Greet.")

@hello.command()
def greet():
    print("greetings")

"""
# For every hook, the source of a module that implements it, and what it provides.
FAKES = {
    "sagd_filters": (hook("sagd_filters", filter_named("fake")), "filter", "fake"),
    "sagd_datasets": (
        hook("sagd_datasets", "DatasetPlugin('fake', 'a fake', Options, 'json:loads')"),
        "dataset",
        "fake",
    ),
    "sagd_backbones": (
        hook("sagd_backbones", "BackbonePlugin('fake', 'a fake', Options, 'json:loads')"),
        "backbone",
        "fake",
    ),
    "sagd_features": (
        hook(
            "sagd_features", "FeaturePlugin('fake', 'a fake', Options, 'json:loads', ('64',), 3, 'fd-fake')"
        ),
        "feature",
        "fake",
    ),
    "sagd_commands": (COMMAND + hook("sagd_commands", "hello"), "command", "hello"),
}


class Distributions:
    """Fake installed distributions in one folder of sys.path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, name: str, source: str, point: str | None = None, version: str = "1.0") -> str:
        """Install distribution `name`, whose entry point (its name by default) is a module of `source`."""
        module = f"fake_module_of_{name}"
        (self.folder / f"{module}.py").write_text(IMPORTS + source)
        info = self.folder / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[sagd]\n{point or name} = {module}\n")
        importlib.invalidate_caches()
        return module


@pytest.fixture
def installed(tmp_path, monkeypatch):
    monkeypatch.delenv("SAGD_PLUGINS", raising=False)
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield Distributions(folder)
    for name in set(sys.modules) - before:
        if name.startswith(("fake_module_of_", "sagd_plugin_file_")):
            del sys.modules[name]


def load(*only: str, files: tuple[Path, ...] = ()) -> registry.Registry:
    """One built-in family, then these entry points alone, whatever else is installed."""
    return load_registry(Sources(frozenset(only), files), BUILTIN_PROBE)


def found(loaded: registry.Registry) -> list[tuple[str, str, str]]:
    """Kind, name and status of everything after the built-in family."""
    return [(e.kind, e.name, e.status) for e in loaded.entries[len(BUILTIN_PROBE) :]]


# Meta-tests: hooks, fakes and documentation stay together.


def hook_definitions() -> dict[str, ast.FunctionDef]:
    tree = ast.parse(inspect.getsource(spec.HookSpecs))
    return {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_hook_has_a_kind_and_a_fake_that_implements_it():
    assert set(hook_definitions()) == set(HOOKS) == set(FAKES)


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_brings_its_kind(installed, name):
    source, kind, plugin = FAKES[name]
    installed.add("dist", source)
    loaded = load("dist")
    assert found(loaded) == [(kind, plugin, "ok")]
    assert kind == HOOKS[name]
    assert plugin in loaded.names(kind)


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_is_documented_with_its_exact_signature(name):
    node = hook_definitions()[name]
    arguments = [a for a in node.args.args if a.arg != "self"]
    signature = f"{name}({', '.join(ast.unparse(a) for a in arguments)}) -> {ast.unparse(node.returns)}"
    assert f"`{signature}`" in (ROOT / "docs" / "plugins.md").read_text()


def test_every_record_and_field_is_documented():
    text = (ROOT / "docs" / "plugins.md").read_text()
    kinds = [
        r for r in vars(records).values() if isinstance(r, type) and issubclass(r, Plugin) and r is not Plugin
    ]
    assert {r.kind for r in kinds} == set(HOOKS.values()) - {"command"}
    for record in kinds:
        assert f"`{record.__name__}`" in text
        for field in dataclasses.fields(record):
            assert f"`{field.name}`" in text, (record, field.name)


def test_the_builtin_plugins_are_all_in_use():
    loaded = load_registry(Sources(frozenset()))
    assert {entry.provider.module for entry in loaded.entries} == set(BUILTIN_MODULES)
    assert {(e.status, e.provider.distribution, e.detail) for e in loaded.entries} == {("ok", "sagd", "")}
    files = (ROOT / "plugins" / "sagd_plugins").glob("*/*.py")
    marked = {f"sagd_plugins.{p.parent.name}.{p.stem}" for p in files if "@hookimpl" in p.read_text()}
    assert marked == set(BUILTIN_MODULES)


# Providers and conflicts.


def test_a_plugin_is_listed_with_its_distribution_version_and_module(installed):
    module = installed.add("dist", hook("sagd_filters", filter_named("fake")), version="2.5")
    (entry,) = [e for e in load("dist").entries if e.name == "fake"]
    assert (entry.provider.distribution, entry.provider.version, entry.provider.module) == (
        "dist",
        "2.5",
        module,
    )
    assert (entry.status, entry.summary, entry.detail) == ("ok", "a fake", "")


def test_a_distribution_without_metadata_still_loads(installed):
    installed.add("dist", hook("sagd_filters", filter_named("fake")))
    (installed.folder / "dist-1.0.dist-info" / "METADATA").unlink()
    (entry,) = [e for e in load("dist").entries if e.name == "fake"]
    assert (entry.status, entry.provider.distribution, entry.provider.version) == ("ok", "unknown", "")


def test_a_builtin_wins_a_conflict_and_both_providers_are_named(installed):
    module = installed.add("dist", hook("sagd_filters", filter_named("white"), filter_named("fake")))
    loaded = load("dist")
    assert found(loaded) == [("filter", "white", "conflict"), ("filter", "fake", "ok")]
    assert loaded.entry("filter", "white").provider.module == "sagd_plugins.filters.white"
    (conflict,) = [e for e in loaded.entries if e.status == "conflict"]
    for part in (module, "(dist)", "sagd_plugins.filters.white", "(sagd)"):
        assert part in conflict.detail


def test_a_name_is_taken_only_within_its_kind(installed):
    installed.add("dist", hook("sagd_datasets", "DatasetPlugin('white', 'a fake', Options, 'json:loads')"))
    assert found(load("dist")) == [("dataset", "white", "ok")]


def test_of_two_distributions_the_first_by_entry_point_wins(installed):
    second = installed.add("b", hook("sagd_filters", filter_named("fake")))
    first = installed.add("a", hook("sagd_filters", filter_named("fake")))
    loaded = load("a", "b")
    assert [(e.provider.distribution, e.status) for e in loaded.entries if e.name == "fake"] == [
        ("a", "ok"),
        ("b", "conflict"),
    ]
    assert loaded.entry("filter", "fake").provider.module == first
    assert f"of {second} (b) is already provided by {first} (a)" in loaded.entries[-1].detail


def test_a_command_of_sagd_itself_is_never_replaced(installed):
    installed.add("dist", COMMAND.replace('"hello"', '"train"') + hook("sagd_commands", "hello"))
    loaded = load("dist")
    assert found(loaded) == [("command", "train", "conflict")]
    assert "sagd_cli.commands.train (sagd)" in loaded.entries[-1].detail
    assert loaded.names("command") == []


# Broken modules.

BROKEN = {
    "ImportError": ("import no_such_module_anywhere\n", "ModuleNotFoundError: No module named"),
    "SystemExit": ("import sys\nsys.exit(0)\n", "SystemExit: 0"),
    "an exception of its own": ("class Stop(BaseException): ...\nraise Stop('enough')\n", "Stop: enough"),
    "GeneratorExit": ("raise GeneratorExit\n", "GeneratorExit"),
    "RecursionError": ("def deeper():\n    deeper()\ndeeper()\n", "RecursionError"),
    "an exception without a message": (
        "class Mute(Exception):\n    def __str__(self):\n        1 / 0\n\nraise Mute\n",
        "Mute: its message cannot be shown",
    ),
    "a hook that stops": (
        "class Stop(BaseException): ...\n" + hook("sagd_filters", filter_named("x")) + "    raise Stop\n",
        "Stop",
    ),
    "options that exit": (
        "class Own(Options):\n    def __init__(self, **values):\n        raise SystemExit(3)\n\n"
        + hook("sagd_filters", "FilterPlugin('x', '', Own, ones)"),
        "SystemExit: 3",
    ),
    "a name that is no text": (
        hook("sagd_filters", "FilterPlugin(3, '', Options, ones)"),
        "3 does not match",
    ),
    "a basis that is no function": (
        hook("sagd_filters", "FilterPlugin('x', '', Options, ones, 'ones')"),
        "basis of plug-in 'x' must be a function",
    ),
    "layers that are no tuple": (
        hook("sagd_features", "FeaturePlugin('x', '', Options, 'json:loads', '64')"),
        "layers of plug-in 'x' must be a tuple of names",
    ),
    "channels that are no number": (
        hook("sagd_features", "FeaturePlugin('x', '', Options, 'json:loads', ('64',), '3')"),
        "channels of plug-in 'x' must be a whole number or None",
    ),
    "SyntaxError": ("def (:\n", "SyntaxError"),
    "non-record": (hook("sagd_filters", "'ring'"), "must yield FilterPlugin records, not str"),
    "record of another kind": (
        hook("sagd_filters", "DatasetPlugin('x', 'a fake', Options, 'json:loads')"),
        "must yield FilterPlugin records, not DatasetPlugin",
    ),
    "bad name": (hook("sagd_filters", filter_named("Bad Name")), "'Bad Name' does not match"),
    "bad options": (
        hook("sagd_filters", "FilterPlugin('x', '', dict, ones)"),
        "subclass of sagd_cli.plugin.Options",
    ),
    "options without defaults": (
        "class Needs(Options):\n    size: int\n\n"
        + hook("sagd_filters", "FilterPlugin('x', '', Needs, ones)"),
        "Field required",
    ),
    "bad summary": (
        hook("sagd_filters", "FilterPlugin('x', None, Options, ones)"),
        "must be one line of text",
    ),
    "bad build": (hook("sagd_filters", "FilterPlugin('x', '', Options, 'ones')"), '"module:function"'),
    "wrong signature": (
        "@hookimpl\ndef sagd_filters(registry):\n    return []\n",
        "declared in the hookimpl but can not be found in the hookspec",
    ),
    "unknown hook": ("@hookimpl\ndef sagd_samplers():\n    return []\n", "unknown hook 'sagd_samplers'"),
    "no hook": ("", "implements no hook"),
    "not iterable": ("@hookimpl\ndef sagd_filters():\n    return 3\n", "'int' object is not iterable"),
    "returns None": ("@hookimpl\ndef sagd_filters():\n    pass\n", "sagd_filters returned None"),
    "raises halfway": (
        hook("sagd_filters", filter_named("first"), "1 / 0", filter_named("second")),
        "ZeroDivisionError",
    ),
    "one hook of two raises": (
        hook("sagd_filters", filter_named("first")) + hook("sagd_features", "1 / 0"),
        "ZeroDivisionError",
    ),
    "command without a name": (
        "app = typer.Typer()\n" + hook("sagd_commands", "app"),
        "must yield typer.Typer(name=",
    ),
    "empty command": ("app = typer.Typer(name='empty')\n" + hook("sagd_commands", "app"), "RuntimeError"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_module_is_listed_with_its_error_gives_nothing_and_harms_nobody(installed, case):
    source, message = BROKEN[case]
    module = installed.add("dist", source)
    installed.add("sound", hook("sagd_filters", filter_named("fake")))
    loaded = load("dist", "sound")
    assert found(loaded) == [("module", "dist", "broken"), ("filter", "fake", "ok")]
    (broken,) = [e for e in loaded.entries if e.status == "broken"]
    assert message in broken.detail
    assert "\n" not in broken.detail
    assert (broken.provider.distribution, broken.provider.module) == ("dist", module)
    assert loaded.names("filter") == ["fake", "white"]


def test_an_unknown_name_is_answered_with_near_ones_and_with_what_is_broken(installed):
    installed.add("dist", BROKEN["SystemExit"][0])
    with pytest.raises(PluginError) as error:
        load("dist").get("filter", "whit")
    assert error.value.message == "unknown filter 'whit'"
    assert error.value.hint == "Did you mean white? Broken plug-ins: dist (SystemExit: 0)."


def test_an_interrupt_is_not_a_broken_plugin(installed):
    installed.add("dist", "raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        load("dist")


@pytest.mark.parametrize("build", ["no_such_module:build", "json:no_such_function"])
def test_a_build_that_cannot_be_imported_is_an_error_that_names_the_plugin(build):
    with pytest.raises(PluginError, match=f"the filter 'x' cannot import {build}"):
        FilterPlugin("x", "a fake", Options, build).load()


# Where plug-ins come from.


def entry_points_loaded(monkeypatch, value: str | None, **arguments) -> set[str]:
    if value is None:
        monkeypatch.delenv("SAGD_PLUGINS", raising=False)
    else:
        monkeypatch.setenv("SAGD_PLUGINS", value)
    loaded = load_registry(Sources.from_environment(**arguments), BUILTIN_PROBE)
    assert "white" in loaded.names("filter")
    return {e.name for e in loaded.entries} & {"from-a", "from-b", "from-file"}


def test_sagd_plugins_is_a_whitelist_of_entry_points(installed, monkeypatch):
    for name in "ab":
        installed.add(f"dist_{name}", hook("sagd_filters", filter_named(f"from-{name}")), point=name)
    assert entry_points_loaded(monkeypatch, None) == {"from-a", "from-b"}
    assert entry_points_loaded(monkeypatch, "a") == {"from-a"}
    assert entry_points_loaded(monkeypatch, " b , a,") == {"from-a", "from-b"}
    assert entry_points_loaded(monkeypatch, "dist_a") == set()
    assert entry_points_loaded(monkeypatch, "") == set()


def test_what_the_whitelist_excludes_is_not_even_imported(installed, monkeypatch):
    module = installed.add("dist", hook("sagd_filters", filter_named("fake")))
    monkeypatch.setenv("SAGD_PLUGINS", "")
    load_registry(Sources.from_environment(), BUILTIN_PROBE)
    assert module not in sys.modules


def test_files_load_whatever_the_whitelist_says_and_safe_mode_loads_nothing(installed, monkeypatch, tmp_path):
    installed.add("a", hook("sagd_filters", filter_named("from-a")))
    file = tmp_path / "mine.py"
    file.write_text(IMPORTS + hook("sagd_filters", filter_named("from-file")))
    assert entry_points_loaded(monkeypatch, "", files=[file]) == {"from-file"}
    assert entry_points_loaded(monkeypatch, None, files=[file]) == {"from-a", "from-file"}
    assert entry_points_loaded(monkeypatch, None, files=[file], safe_mode=True) == set()
    assert entry_points_loaded(monkeypatch, "a", files=[file], safe_mode=True) == set()


def test_a_file_wins_over_an_installed_plugin(installed, tmp_path):
    installed.add("dist", hook("sagd_filters", filter_named("fake")))
    file = tmp_path / "mine.py"
    file.write_text(IMPORTS + hook("sagd_filters", filter_named("fake")))
    loaded = load("dist", files=(file,))
    assert loaded.entry("filter", "fake").provider.distribution == str(file)
    assert found(loaded) == [("filter", "fake", "ok"), ("filter", "fake", "conflict")]


def test_files_of_one_name_in_two_folders_are_two_modules(installed, tmp_path):
    files = tuple(tmp_path / folder / "mine.py" for folder in ("one", "two"))
    for file in files:
        file.parent.mkdir()
        file.write_text(IMPORTS + hook("sagd_filters", filter_named(file.parent.name)))
    assert load(files=files).names("filter") == ["one", "two", "white"]


def test_nothing_is_written_beside_a_file(installed, tmp_path, monkeypatch):
    """No bytecode, wherever Python writes it otherwise."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = tmp_path / "mine" / "plug.py"
    path.parent.mkdir()
    path.write_text(IMPORTS + hook("sagd_filters", filter_named("mine")))
    assert load(files=(path,)).names("filter") == ["mine", "white"]
    assert list(path.parent.iterdir()) == [path] and not sys.dont_write_bytecode


def test_a_file_may_postpone_its_annotations(installed, tmp_path):
    """Data classes and pydantic look the module up by name to resolve them."""
    file = tmp_path / "mine.py"
    source = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        + IMPORTS
        + "@dataclass\nclass Point:\n    x: float\n\nclass Own(Options):\n    size: Size = 3\n\nSize = int\n\n"
        + "Own.model_rebuild()\n"
        + hook("sagd_filters", "FilterPlugin('fake', 'a fake', Own, ones)")
    )
    file.write_text(source)
    loaded = load(files=(file,))
    assert found(loaded) == [("filter", "fake", "ok")]
    assert loaded.get("filter", "fake").options().model_dump() == {"size": 3}


@pytest.mark.parametrize("source", [None, "import no_such_module_anywhere\n"])
def test_a_missing_or_failing_file_is_listed_as_broken_and_leaves_no_module(installed, tmp_path, source):
    file = tmp_path / "mine.py"
    if source is not None:
        file.write_text(source)
    before = set(sys.modules)
    assert found(load(files=(file,))) == [("module", str(file), "broken")]
    assert not [name for name in set(sys.modules) - before if name.startswith("sagd_plugin_file_")]


def test_nothing_in_the_current_directory_is_loaded_by_itself(installed, tmp_path, monkeypatch):
    (tmp_path / "ring.py").write_text(IMPORTS + hook("sagd_filters", filter_named("ring")))
    (tmp_path / "sagd_ring.py").write_text(IMPORTS + hook("sagd_filters", filter_named("ring")))
    monkeypatch.chdir(tmp_path)
    assert "ring" not in load_registry(Sources.from_environment(), BUILTIN_PROBE).names("filter")


def test_a_data_set_of_files_says_which_paths_it_takes(tmp_path):
    fields = ("taker", "takes a kind of file", PathOptions, lambda options, split: None)
    plugin = DatasetPlugin(*fields, accepts=lambda path: path.suffix == ".h5")
    check_plugin(plugin)
    assert plugin.load("accepts")(tmp_path / "a.h5") and not plugin.load("accepts")(tmp_path / "a.png")
    with pytest.raises(ValueError, match="its options have no `path`"):
        DatasetPlugin("taker", "no path", Options, lambda options, split: None, accepts=lambda path: True)
    with pytest.raises(AssertionError, match="accepts returns None"):
        check_plugin(DatasetPlugin(*fields, accepts=lambda path: None))


class PathOptions(Options):
    path: Path = Path("file")
