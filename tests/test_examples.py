"""The example scripts: what they import is there."""

import ast
import importlib
import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def is_there(module, name):
    """Whether a module has a name, perhaps that of a module in it."""
    found = importlib.import_module(module)
    return hasattr(found, name) or importlib.util.find_spec(f"{module}.{name}") is not None


@pytest.mark.parametrize("script", sorted(EXAMPLES.rglob("*.sh")), ids=lambda path: path.stem)
def test_the_python_in_a_script_imports_what_is_there(script):
    for block in re.findall(r"<<'PYTHON'\n(.*?)\nPYTHON", script.read_text(), re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("sagd_cli"):
                assert all(is_there(node.module, alias.name) for alias in node.names), (script, node.module)


@pytest.mark.parametrize(
    "script", sorted(EXAMPLES.parent.glob("benchmarks/*.py")), ids=lambda path: path.stem
)
def test_a_benchmark_imports_what_is_there(script):
    """Of the program; peers that are compared with it need not be installed."""
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in ("sagd_cli", "sagd_plugins"):
            assert all(is_there(node.module, alias.name) for alias in node.names), (script, node.module)


def commands_in(document):
    """The lines that call the program, of all texts in a document."""
    if isinstance(document, dict):
        document = [*document.values()]
    if isinstance(document, list):
        return [line for part in document for line in commands_in(part)]
    return [line for line in str(document).splitlines() if line.startswith("sagd ")]


@pytest.mark.parametrize("page", sorted(EXAMPLES.glob("ci/*.yml")), ids=lambda path: path.stem)
def test_the_commands_of_a_pipeline_are_ones_that_there_are(page):
    # YAML 1.1 reads the key `on` as true, which house rules refuse; a plain loader serves for a look.
    lines = commands_in(yaml.safe_load(page.read_text()))
    assert {line.split()[1] for line in lines} == {"fid", "omit"} and any(
        "--max-fid" in line for line in lines
    )
    for line in lines:
        name, *arguments = shlex.split(line.partition(" > ")[0])[1:]
        module = importlib.import_module(f"sagd_cli.commands.{name}")
        typer.main.get_command(module.app).make_context(name, arguments)  # refuses what it does not know
