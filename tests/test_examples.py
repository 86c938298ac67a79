"""The example scripts: what they import is there, and the path of ImageNet in latents runs whole."""

import ast
import importlib
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sagd_cli.data.images import read_image

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
