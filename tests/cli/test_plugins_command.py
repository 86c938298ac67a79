"""`sagd plugins`, and what plug-ins, broken ones included, do to the rest of the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sagd_cli.app import COMMANDS
from sagd_cli.plugin import registry

RING = """\
import numpy as np
from sagd_cli.plugin import FilterPlugin, Options, hookimpl

def weight(grid, options):
    return 0.1 + np.exp(-((grid.rho - 0.5) / 0.1) ** 2)

@hookimpl
def sagd_filters():
    yield FilterPlugin("ring", "a ring", Options, weight)
"""
BAD = RING.replace('"ring"', '"dent"').replace("0.1 + np.exp", "-np.exp")
HELLO = """\
import typer
from sagd_cli.plugin import hookimpl

app = typer.Typer(name="hello", help="Greet somebody.")

@app.command()
def greet(name: str):
    print(f"greetings, {name}")

@hookimpl
def sagd_commands():
    yield app
"""
DOCUMENTED_HELLO = HELLO.replace(', help="Greet somebody."', "").replace(
    "    print(", '    """Greet somebody.\n\n    At length."""\n    print('
)
COLUMNS = {"kind", "name", "status", "distribution", "version", "module", "summary", "detail"}


@pytest.fixture(autouse=True)
def sources_of_a_fresh_process(monkeypatch):
    monkeypatch.delenv("SAGD_PLUGINS", raising=False)
    monkeypatch.setattr(registry, "_sources", None)
    registry.registry.cache_clear()
    yield
    registry.registry.cache_clear()


@pytest.fixture
def file(tmp_path):
    def write(source: str, name: str = "mine.py") -> Path:
        path = tmp_path / name
        path.write_text(source)
        return path

    return write


def distribution(folder: Path, name: str, source: str) -> None:
    """Install a distribution `name` 1.0 in `folder`, whose entry point is a module of `source`."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / f"{name}.py").write_text(source)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[sagd]\n{name} = {name}\n")


def process(*arguments, folder=None, **environment) -> subprocess.CompletedProcess:
    """Run the installed script, whose sys.path does not hold the current directory."""
    inherited = {key: value for key, value in os.environ.items() if key not in ("SAGD_PLUGINS", "PYTHONPATH")}
    command = [sys.executable, "-P", "-m", "sagd_cli", *map(str, arguments)]
    environment = {**inherited, "COLUMNS": "120", **environment}
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)


# sagd plugins list


def test_list_shows_every_plugin_with_its_provider(sagd, file):
    mine = file(RING)
    result = sagd("--plugin", mine, "plugins", "list", "--json")
    rows = result.json["plugins"]
    assert result.code == 0
    assert all(set(row) == COLUMNS for row in rows)
    (ring,) = [row for row in rows if row["name"] == "ring"]
    assert (ring["kind"], ring["status"], ring["module"], ring["summary"]) == (
        "filter",
        "ok",
        str(mine),
        "a ring",
    )
    (white,) = [row for row in rows if row["name"] == "white"]
    assert (white["distribution"], white["module"]) == ("sagd", "sagd_plugins.filters.white")


def test_list_prints_a_line_for_each_plugin_and_one_for_each_problem(sagd, file):
    conflict = file(RING.replace('"ring"', '"white"'), "conflict.py")
    result = sagd("--plugin", conflict, "--plugin", "missing.py", "plugins", "list")
    table, problems = result.out.split("\n\n")
    lines = table.splitlines()
    assert lines[0].split() == ["kind", "name", "status", "provider", "module", "summary"]
    assert [line.split()[:3] for line in lines if line.split()[2] != "ok"][1:] == [
        ["filter", "white", "conflict"],
        ["module", "missing.py", "broken"],
    ]
    assert len(lines) == 1 + len(registry.BUILTIN_MODULES) + 2
    first, second = problems.splitlines()
    assert first.startswith("white: ") and str(conflict) in first and "sagd_plugins.filters.white" in first
    assert second == "missing.py: PluginError: missing.py is not a Python file"


def test_list_is_the_same_for_people_and_programs(sagd):
    rows = sagd("plugins", "list", "--json").json["plugins"]
    lines = sagd("--no-plugins", "plugins", "list").out.splitlines()[1:]
    assert [line.split()[:3] for line in lines] == [
        [row["kind"], row["name"], row["status"]] for row in rows if row["distribution"] == "sagd"
    ]


# sagd plugins check


def test_check_passes_the_builtin_filters_and_a_good_plugin(sagd, file):
    for name in ("white", "ring"):
        result = sagd("--plugin", file(RING), "plugins", "check", name, "--json")
        assert result.code == 0
        assert result.json == {"checked": [{"kind": "filter", "name": name, "ok": True, "reason": ""}]}


def test_check_names_what_a_bad_plugin_does_wrong_and_exits_1(sagd, file):
    result = sagd("--plugin", file(BAD), "plugins", "check", "dent", "--json")
    assert result.code == 1
    (row,) = result.json["checked"]
    assert (row["name"], row["ok"]) == ("dent", False)
    assert row["reason"] == "filter 'dent' on shape (8, 8): the weight is negative at some frequency"
    assert json.loads(result.err)["error"]["message"] == "1 of 1 plug-ins failed: dent"


def test_check_of_everything_fails_for_a_broken_or_shadowed_plugin(sagd, file, monkeypatch):
    monkeypatch.setattr(registry, "BUILTIN_MODULES", ("sagd_plugins.filters.white",))
    monkeypatch.setenv("SAGD_PLUGINS", "")
    monkeypatch.setattr(registry.load_registry, "__defaults__", (registry.BUILTIN_MODULES,))
    assert sagd("plugins", "check").out == "ok  filter  white\n"
    shadowed = file(RING.replace('"ring"', '"white"'))
    result = sagd("--plugin", shadowed, "--plugin", "missing.py", "plugins", "check")
    assert result.code == 1
    assert [line.split()[:3] for line in result.out.splitlines()] == [
        ["ok", "filter", "white"],
        ["failed", "filter", "white"],
        ["failed", "module", "missing.py"],
    ]
    assert "2 of 3 plug-ins failed: white, missing.py" in result.err


def test_check_suggests_names(sagd):
    result = sagd("plugins", "check", "bandpas")
    assert result.code == 2
    assert "unknown plug-in 'bandpas'. Did you mean bandpass" in result.err


# The rest of the command line.


def test_a_misspelt_family_is_answered_with_the_near_one(sagd, file):
    result = sagd("--plugin", file(RING), "filter", "design", "--type", "rng")
    assert (result.code, result.out) == (2, "")
    assert "unknown filter 'rng'. Did you mean ring?" in result.err


@pytest.mark.parametrize("source", [None, "import sys\nsys.exit(0)\n", "def (:\n"])
def test_a_missing_or_broken_file_is_one_sentence_for_the_command_that_needs_it(sagd, file, tmp_path, source):
    path = tmp_path / "mine.py" if source is None else file(source)
    result = sagd("--plugin", path, "filter", "design", "--type", "ring")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: unknown filter 'ring'.")
    assert f"Broken plug-ins: {path} (" in result.err
    assert len(result.err.splitlines()) == 1
    assert sagd("--plugin", path, "filter", "design", "--type", "white").code == 0


def test_a_family_whose_function_cannot_be_imported_is_one_sentence(sagd, file):
    path = file(RING.replace("Options, weight)", "Options, 'no_such_module:weight')"))
    result = sagd("--plugin", path, "filter", "design", "--type", "ring")
    assert result.code == 2
    assert (
        "the filter 'ring' cannot import no_such_module:weight: No module named 'no_such_module'."
        in result.err
    )
    assert sagd("--plugin", path, "filter", "list").code == 0


NOISY = "import os\nprint('imported')\nos.write(1, b'raw')\n" + RING.replace(
    "    return 0.1", "    print('built')\n    return 0.1"
)


def test_what_plugins_print_is_not_in_the_data(sagd, file):
    for arguments in (
        ("filter", "show", "ring", "--size", "8"),
        ("plugins", "list"),
        ("plugins", "check", "ring"),
    ):
        registry.registry.cache_clear()
        result = sagd("--plugin", file(NOISY), *arguments, "--json")
        assert result.code == 0 and isinstance(result.json, dict)
        assert "imported" in result.err and "raw" in result.err
        assert ("built" in result.err) == (arguments[1] != "list")
    designed = sagd("--plugin", file(NOISY), "filter", "design", "--type", "ring").out
    assert designed.startswith("type: ring\n")


STOP = "class Stop(BaseException): ...\n"


def test_an_exception_of_a_plugins_own_kind_is_one_sentence(sagd, file):
    path = file(STOP + "raise Stop('enough')\n", "broken.py")
    assert sagd("--plugin", path, "filter", "list").code == 0
    path = file(STOP + RING.replace("    return 0.1", "    raise Stop('enough')\n    return 0.1"))
    result = sagd("--plugin", path, "filter", "show", "ring", "--size", "8")
    assert (result.code, result.out) == (2, "")
    assert " ".join(result.err.split()) == "error: the filter 'ring' failed: Stop: enough."
    result = sagd("--plugin", path, "plugins", "check", "ring", "--json")
    assert result.code == 1 and "Stop: enough" in result.json["checked"][0]["reason"]
    path = file(STOP + HELLO.replace("    print(", "    raise Stop('enough')\n    print("), "command.py")
    result = sagd("--plugin", path, "hello", "world")
    assert result.code == 1
    assert result.err.startswith("error: internal error: Stop: enough.")


def test_what_a_plugin_changes_for_everyone_is_put_back(sagd, file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = file("import os, torch\nos.chdir('/')\ntorch.set_default_dtype(torch.float64)\n" + RING)
    result = sagd(
        "--plugin", path, "filter", "show", "ring", "--size", "8", "--json", "--output", "ring.yaml"
    )
    assert result.code == 0 and isinstance(result.json, dict)
    changed = "the working folder, torch's default dtype"
    assert f"the plug-in {path} changed {changed} for the whole program" in " ".join(result.err.split())
    assert (tmp_path / "ring.yaml").is_file()


def test_safe_mode_ignores_files(sagd, file):
    result = sagd("--no-plugins", "--plugin", file(RING), "filter", "design", "--type", "ring")
    assert result.code == 2
    assert "Broken" not in result.err


@pytest.mark.parametrize("source", [HELLO, DOCUMENTED_HELLO], ids=["help=", "docstring"])
def test_a_plugins_command_is_listed_under_its_name_and_runs(sagd, file, source):
    path = file(source)
    listed = sagd("--plugin", path, "--help").out
    (line,) = [line for line in listed.splitlines() if "Greet somebody." in line]
    assert "hello" in line
    assert "greet " not in listed
    assert sagd("--plugin", path, "hello", "world").out == "greetings, world\n"
    assert sagd("--plugin", path, "filter", "list").code == 0
    summary = sagd("--plugin", path, "plugins", "list", "--json").json["plugins"][-1]["summary"]
    assert summary == "Greet somebody."
    assert "No such command 'hello'" in sagd("--no-plugins", "hello", "world").err


def test_a_plugins_command_does_not_replace_one_of_sagd(sagd, file):
    path = file(HELLO.replace('"hello"', '"data"'))
    assert "Greet somebody." not in sagd("--plugin", path, "--help").out
    assert "digits" in sagd("--plugin", path, "data", "list").out
    assert "sagd_cli.commands.data (sagd)" in sagd("--plugin", path, "plugins", "list").out


def test_every_command_of_sagd_is_a_module():
    folder = Path(registry.__file__).parents[1] / "commands"
    assert set(COMMANDS) == {path.stem for path in folder.glob("*.py")} - {"__init__", "common"}


def test_an_installed_command_runs_and_a_broken_neighbour_does_no_harm(tmp_path):
    distribution(tmp_path, "hello_dist", HELLO)
    distribution(tmp_path, "broken_dist", "import sys\nsys.exit(0)\n")
    done = process("hello", "world", PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "greetings, world\n", "")
    assert process("hello", "world", PYTHONPATH=str(tmp_path), SAGD_PLUGINS="broken_dist").returncode == 2


def test_nothing_in_the_current_directory_is_loaded_by_itself(tmp_path):
    distribution(tmp_path, "ring", RING)
    done = process("filter", "design", "--type", "ring", folder=tmp_path)
    assert done.returncode == 2
    assert "unknown filter 'ring'." in done.stderr
    assert process("filter", "design", "--type", "ring", PYTHONPATH=str(tmp_path)).returncode == 0


def test_listing_plugins_loads_no_engine():
    code = (
        "import sys, sagd_cli.__main__ as m\ntry: m.main(['plugins', 'list'])\nfinally: print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert loaded.isdisjoint({"torch", "diffusers", "torchvision", "sklearn", "matplotlib"})
