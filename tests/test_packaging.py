"""A built wheel holds all that the program needs; it is not run from this folder."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("hatchling") is None, reason="hatchling builds the package"),
    pytest.mark.skipif(importlib.util.find_spec("pip") is None, reason="pip installs the package"),
]


def test_an_installed_package_has_presets_weights_and_templates(tmp_path):
    offline = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        *offline,
        "--target",
        str(tmp_path / "site"),
        str(ROOT),
    ]
    subprocess.run(install, check=True, capture_output=True, text=True)
    site = tmp_path / "site"
    for top in ("sagd_cli", "sagd_plugins"):
        source = ROOT / top if top == "sagd_cli" else ROOT / "plugins" / top
        wanted = {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
        held = {path.relative_to(site / top) for path in (site / top).rglob("*") if path.is_file()}
        assert {path for path in wanted if "__pycache__" not in path.parts} <= held
    environment = {**os.environ, "PYTHONPATH": str(site)}
    code = "import sagd_cli, sagd_plugins; print(sagd_cli.__file__, sagd_plugins.__file__)"
    for arguments in (["-c", code], ["-m", "sagd_cli", "config", "show", "--preset", "cifar10", "--json"]):
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        if arguments[0] == "-c":
            assert all(Path(file).is_relative_to(site) for file in done.stdout.split())
        else:
            assert json.loads(done.stdout)["training"]["images"] == 102_400_000
