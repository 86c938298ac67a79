"""The rules of the house (docs/architecture.md): who imports whom, and what never loads torch."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "sagd_cli"

# A room may import the rooms after it in its line, and itself; the foundation serves all.
FOUNDATION = {
    "errors",
    "files",
    "yaml_files",
    "images",
    "image_files",
    "plugin",
    "config",
    "arguments",
    "console",
    "datasets",
    "dataset_files",
    "documents",
    "devices",
    "signals",
    "__init__",
}
MAY_IMPORT = {
    "spectral": {"spectral", "errors"},
    "plugin": {"plugin", "spectral", "errors", "yaml_files", "command_names"},
    "config": {"plugin", "spectral", "errors", "yaml_files"},
    "arguments": {"config", "plugin", "spectral", "errors", "yaml_files"},
    "diffusion": {"diffusion", "spectral", "errors"},
    "reporting": {"reporting", "spectral", "errors", "files"},
    "design": {"design", "diffusion", "spectral"} | FOUNDATION,
    "training": {"training", "design", "diffusion", "spectral"} | FOUNDATION,
    "restoration": {"restoration", "training", "design", "diffusion", "spectral"} | FOUNDATION,
    "evaluation": {"evaluation", "training", "diffusion", "spectral"} | FOUNDATION,
    "report": {"report", "evaluation", "training", "reporting", "diffusion", "spectral"} | FOUNDATION,
    "sweep": {"sweep", "evaluation", "training", "reporting", "diffusion", "spectral"} | FOUNDATION,
}
TORCH_FREE = [
    "sagd_cli.spectral.grid",
    "sagd_cli.spectral.filter",
    "sagd_cli.spectral.band",
    "sagd_cli.spectral.peaks",
    "sagd_cli.spectral.power_law",
    "sagd_cli.spectral.snr",
    "sagd_cli.diffusion.schedule_tables",
    "sagd_cli.design.advice",
    "sagd_cli.design.describe",
    "sagd_cli.design.fit",
    "sagd_cli.design.measure",
    "sagd_cli.design.plot",
    "sagd_cli.run.manifest",
    "sagd_cli.sweep.plan",
    "sagd_cli.sweep.study",
    "sagd_cli.sweep.table",
    "sagd_cli.sweep.words",
    "sagd_cli.config.run",
    "sagd_cli.config.arguments",
    "sagd_cli.data.datasets",
    "sagd_cli.data.images",
    "sagd_cli.plugin",
    "sagd_cli.plugin.registry",
    "sagd_cli.plugin.testing",
    *sorted(f"sagd_cli.commands.{path.stem}" for path in (PACKAGE / "commands").glob("*.py")),
]


def imports(path: Path) -> set[str]:
    """Rooms of sagd_cli a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            if node.module == "sagd_cli":
                names = [f"sagd_cli.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "sagd_cli" and len(parts) > 1 and not parts[1].startswith("__version"):
                found.add(parts[1])
            if parts[0] == "sagd_plugins":
                found.add("sagd_plugins")
    return found


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_go_down_only(room):
    paths = (PACKAGE / room).rglob("*.py") if (PACKAGE / room).is_dir() else [PACKAGE / f"{room}.py"]
    for path in paths:
        assert imports(path) <= MAY_IMPORT[room], path


def test_the_core_names_no_plugin():
    for path in PACKAGE.rglob("*.py"):
        assert "sagd_plugins" not in imports(path), path


def test_nobody_imports_commands_or_click():
    for path in [*PACKAGE.rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]:
        if path.parent.name != "commands":
            assert "commands" not in imports(path), path
        assert "import click" not in path.read_text(), path


def test_normal_noise_is_drawn_in_one_place():
    """MATH, section 5: nothing but SpectralNoise calls randn, or training and sampling noise could differ."""
    drawing = [
        p for p in [*PACKAGE.rglob("*.py"), *(ROOT / "plugins").rglob("*.py")] if "randn" in p.read_text()
    ]
    assert drawing == [PACKAGE / "spectral" / "noise.py"]


def loaded_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_light_modules_load_neither_torch_nor_diffusers():
    loaded = loaded_after("\n".join(f"import {name}" for name in TORCH_FREE))
    assert loaded.isdisjoint({"torch", "diffusers", "matplotlib", "sklearn", "optuna"})


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["train", "--help"],
        ["filter", "design", "--type", "bandpass"],
        ["filter", "show", "powerlaw"],
        ["filter", "list"],
        ["filter", "show", "white", "--data", "digits"],
        ["filter", "compare", "white", "powerlaw"],
        ["filter", "fit", "digits"],
        ["spectrum", "digits", "--peaks"],
        ["plugins", "list"],
        ["config", "show"],
        ["data", "list"],
        [
            "train",
            "--preset",
            "ffhq64",
            "--dry-run",
        ],  # an estimate needs torch, but also the data, which are not here
    ],
    ids=" ".join,
)
def test_light_commands_load_no_torch(arguments):
    code = f"import sys\nfrom sagd_cli.__main__ import main\ntry: main({arguments!r})\nfinally: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"torch", "diffusers"}.isdisjoint(done.stdout.splitlines()[-1].split())


def test_help_reads_no_third_party_plugin_machinery():
    code = (
        "import sys\nfrom sagd_cli.__main__ import main\ntry: main(['--help'])\nfinally: print(*sys.modules)"
    )
    env = {**os.environ, "SAGD_PLUGINS": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert {"numpy", "pydantic"}.isdisjoint(done.stdout.splitlines()[-1].split())


def test_openmp_is_told_to_wait_passively_unless_the_user_chose():
    show = "import os, sagd_cli; print(os.environ['OMP_WAIT_POLICY'])"
    for chosen, expected in ((None, "PASSIVE"), ("ACTIVE", "ACTIVE")):
        env = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
        env |= {} if chosen is None else {"OMP_WAIT_POLICY": chosen}
        done = subprocess.run(
            [sys.executable, "-c", show], capture_output=True, text=True, env=env, check=True
        )
        assert done.stdout.strip() == expected


def test_the_readme_and_ci_run_the_same_two_commands():
    readme = (ROOT / "README.md").read_text()
    ci = (ROOT / ".ci" / "run").read_text().replace(" || exit 1", "").splitlines()
    commands = [
        line for line in readme.splitlines() if line.startswith((".venv/bin/pytest", "python3 -m venv"))
    ]
    assert len(commands) == 2
    for command in commands:
        assert command.replace("pip install -e", "pip install -q -e") in ci


def test_the_page_of_the_command_line_is_up_to_date():
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import generate_cli
    finally:
        sys.path.remove(str(ROOT / "docs"))
    assert (ROOT / "docs" / "cli.md").read_text() == generate_cli.page(), "run: python docs/generate_cli.py"


def test_links_between_the_pages_lead_somewhere():
    import re

    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), (page.name, target)
