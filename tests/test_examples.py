"""The example scripts: what they import is there, and the path of ImageNet in latents runs whole."""

import ast
import importlib
import importlib.util
import json
import math
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
import yaml

from sagd_cli.data.images import read_image

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


@pytest.mark.slow
def test_imagenet_in_latents_from_jpegs_to_a_figure(tmp_path):
    out = tmp_path / "out"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    script = EXAMPLES / "imagenet-latents.sh"
    environment = {**os.environ, "PATH": path, "DEVICE": "cpu"}
    done = subprocess.run([script, out], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert np.load(out / "latents.npy", mmap_mode="r").shape == (200, 4, 16, 16)
    np.testing.assert_array_equal(np.load(out / "latents.labels.npy"), np.repeat(np.arange(10), 20))
    pictures = sorted((out / "samples").glob("*.png"))
    assert [read_image(picture).pixels.shape for picture in pictures] == [(3, 32, 32)] * 100
    assert (out / "samples.png").is_file()
    assert math.isfinite(json.loads((out / "run" / "evaluation" / "fid.json").read_text())["fd"])
