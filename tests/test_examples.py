"""The example scripts: what they import is there."""

import ast
import importlib
import re
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.mark.parametrize("script", sorted(EXAMPLES.rglob("*.sh")), ids=lambda path: path.stem)
def test_the_python_in_a_script_imports_what_is_there(script):
    for block in re.findall(r"<<'PYTHON'\n(.*?)\nPYTHON", script.read_text(), re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("sagd_cli"):
                module = importlib.import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names), (script, node.module)


@pytest.mark.parametrize(
    "script", sorted(EXAMPLES.parent.glob("benchmarks/*.py")), ids=lambda path: path.stem
)
def test_a_benchmark_imports_what_is_there(script):
    """Of the program; peers that are compared with it need not be installed."""
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in ("sagd_cli", "sagd_plugins"):
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names), (script, node.module)
