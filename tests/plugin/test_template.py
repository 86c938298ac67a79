"""The template of an external plug-in builds from a bare copy, is found, and passes its own tests."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sagd_cli.system.yaml import parse_yaml

TEMPLATE = Path(__file__).resolve().parents[2] / "examples" / "sagd-filter-template"

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("hatchling") is None, reason="hatchling builds the template"),
    pytest.mark.skipif(importlib.util.find_spec("pip") is None, reason="pip installs the template"),
]


def run(*arguments, environment=None, folder=None) -> str:
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """A copy of the template, and an environment that has it installed."""
    copy, target = tmp_path_factory.mktemp("template") / "copy", tmp_path_factory.mktemp("site-packages")
    shutil.copytree(TEMPLATE, copy, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    offline = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
    run("-m", "pip", "install", *offline, "--target", target, copy)
    environment = {key: value for key, value in os.environ.items() if key != "SAGD_PLUGINS"}
    return copy, {**environment, "PYTHONPATH": str(target)}


def test_the_family_of_the_template_is_designed_and_listed_with_its_distribution(installed):
    copy, environment = installed
    design = ("filter", "design", "--type", "ring", "-o", "center=0.4")
    text = run("-m", "sagd_cli", *design, environment=environment, folder=copy)
    assert parse_yaml(text, "design") == {
        "type": "ring",
        "options": {"center": 0.4, "width": 0.1, "floor": 0.05},
        "normalize": "power",
        "units": "rho",
    }
    listed = json.loads(
        run("-m", "sagd_cli", "filter", "list", "--json", environment=environment, folder=copy)
    )
    assert [row["distribution"] for row in listed["filters"] if row["type"] == "ring"] == [
        "sagd-filter-template"
    ]


def test_the_templates_own_tests_pass(installed):
    copy, environment = installed
    assert " passed" in run("-m", "pytest", "-p", "no:cacheprovider", environment=environment, folder=copy)


def test_the_templates_readme_tells_its_length_and_its_version():
    readme = (TEMPLATE / "README.md").read_text()
    source = (TEMPLATE / "src" / "sagd_filter_template" / "__init__.py").read_text()
    assert f"{len(source.splitlines())} lines of Python" in readme
    assert 'version = "1.0.0"' in (TEMPLATE / "pyproject.toml").read_text()
    assert "sagd-filter-template 1.0.0" in readme
