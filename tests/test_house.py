"""The rules of the house (docs/architecture.md): who imports whom, and what never loads torch."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "sagd_cli"

# The rooms from the ground up: each may import those before it, and none of its own row. `errors` serves all.
FLOORS = [
    {"errors", "builtin"},
    {"system", "spectral"},
    {"diffusion", "plugin", "files"},
    {"config", "denoising"},
    {"data"},
    {"datasets"},
    {"figures", "design"},
    {"damage", "model", "latents"},
    {"run", "detection"},
    {"sampling"},
    {"features", "training", "restorer"},
    {"metrics"},
    {"evaluation", "restoration"},
    {"sweep"},
    {"report", "library", "integrations"},
    {"commands"},
    {"app"},
    {"__main__"},
]
# Narrower than its floor allows.
MAY_IMPORT = {
    "system": {"errors"},
    "spectral": {"errors"},
    "files": {"errors", "system"},
    "plugin": {"errors", "builtin", "system", "spectral"},
    "diffusion": {"errors", "system", "spectral"},
    "denoising": {"errors", "system", "spectral", "diffusion"},
    "figures": {"errors", "system", "spectral", "data"},
}
# Rooms, or modules of a room, that others must do without.
APART = [
    (room, "training") for room in ("evaluation", "features", "metrics", "report", "sampling", "run", "model")
]
MOST_MODULES, MOST_LINES, MOST_ARGUMENTS = 14, 300, 6
LISTS_OF_OPTIONS = {"commands/train.py", "commands/filter.py", "config/run.py"}
TORCH_FREE = [
    *(
        f"sagd_cli.spectral.{name}"
        for name in ("grid", "filter", "band", "peaks", "power_law", "snr", "region")
    ),
    "sagd_cli.diffusion.catalogue",
    "sagd_cli.diffusion.schedule_tables",
    *(f"sagd_cli.restorer.{name}" for name in ("catalogue", "restoring", "tones", "untrained")),
    *(
        f"sagd_cli.restoration.{name}"
        for name in (
            "computing",
            "folder_work",
            "measuring",
            "omission",
            "options",
            "prepare",
            "prepared",
            "quality",
        )
    ),
    "sagd_cli.library.arrays",
    "sagd_cli.metrics.catalogue",
    *(f"sagd_cli.design.{name}" for name in ("advice", "describe", "fit", "measure", "plot", "words")),
    "sagd_cli.run.manifest",
    *(f"sagd_cli.run.{name}" for name in ("tracker_kinds", "trackers")),
    *(f"sagd_cli.sweep.{name}" for name in ("plan", "study", "table", "words")),
    *(f"sagd_cli.data.{name}" for name in ("images", "ranges", "folders")),
    *(f"sagd_cli.datasets.{name}" for name in ("loading", "truth", "writing")),
    "sagd_cli.files.formats",
    "sagd_cli",
    "sagd_cli.builtin",
    "sagd_cli.config",
    "sagd_cli.config.arguments",
    "sagd_cli.plugin",
    "sagd_cli.plugin.registry",
    "sagd_cli.plugin.testing",
    *sorted(f"sagd_cli.commands.{path.stem}" for path in (PACKAGE / "commands").glob("*.py")),
]
ROOMS = sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file())


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


def modules(room: str) -> list[Path]:
    return sorted((PACKAGE / room).rglob("*.py")) if (PACKAGE / room).is_dir() else [PACKAGE / f"{room}.py"]


def below(room: str) -> set[str]:
    floor = next(k for k, rooms in enumerate(FLOORS) if room in rooms)
    return MAY_IMPORT.get(room, set().union(*FLOORS[:floor])) | {room}


def test_every_room_has_a_floor():
    loose = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    assert loose == {"__main__", "app", "errors", "builtin"}
    assert {*ROOMS, *loose} == set().union(*FLOORS)


@pytest.mark.parametrize("room", sorted(set().union(*FLOORS)))
def test_imports_go_down_only(room):
    """Anywhere in a module, also inside functions, so there is no circle either."""
    for path in modules(room):
        # The application imports a command when it is called, by its name.
        assert imports(path) - {"__init__"} <= below(room), path


@pytest.mark.parametrize(("room", "other"), APART)
def test_who_only_reads_trains_nothing(room, other):
    for path in modules(room):
        assert other not in imports(path), path


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_and_modules_stay_small(room):
    # There are as many modules in `commands` as commands.
    if room != "commands":
        assert len([path for path in modules(room) if path.name != "__init__.py"]) <= MOST_MODULES
    for path in modules(room):
        if str(path.relative_to(PACKAGE)) not in LISTS_OF_OPTIONS:
            assert len(path.read_text().splitlines()) <= MOST_LINES, path


def public_names() -> dict[str, set[str]]:
    """The rooms of each public class, function and constant of the package."""
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0]
        for node in ast.parse(path.read_text()).body:
            names = []
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names = [node.name]
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names = [
                    part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)
                ]
            for name in names:
                if not name.startswith("_"):
                    found.setdefault(name, set()).add(room)
    return found


def test_no_public_name_means_two_things():
    # `app` is what Typer calls an application: the root one and that of each command.
    assert {name: rooms for name, rooms in public_names().items() if len(rooms) > 1 and name != "app"} == {}


def test_functions_below_the_commands_take_few_arguments():
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name == "commands":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                own = [argument for argument in given if argument.arg not in ("self", "cls")]
                assert len(own) <= MOST_ARGUMENTS, (path, node.name)


def test_no_reference_points_outside_the_repository():
    for folder in ("sagd_cli", "plugins", "tests", "benchmarks", "docs", "examples"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".md", ".sh", ".yaml") and path != Path(__file__):
                text = path.read_text(encoding="utf-8")
                for word in ("MATH:", "MATH.md", "MATH,", "CLI:", "CLI.md", "ARCHITECTURE.md"):
                    assert word not in text, (path, word)


def test_sections_that_are_cited_are_in_the_theory():
    """`docs/theory.md, section 5.4` and `sections 2, 4 and 5`."""
    import re

    headings = re.findall(r"^#+ (\d+(?:\.\d+)?)\b", (ROOT / "docs" / "theory.md").read_text(), re.MULTILINE)
    for folder in ("sagd_cli", "plugins", "tests", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            for cited in re.findall(r"docs/theory\.md, sections? ([\d., and]+)", path.read_text()):
                for section in re.findall(r"\d+(?:\.\d+)?", cited):
                    assert section in headings, (path, section)


def test_the_core_names_no_plugin():
    for path in PACKAGE.rglob("*.py"):
        assert "sagd_plugins" not in imports(path), path


def test_nobody_imports_commands_or_click():
    for path in [*PACKAGE.rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]:
        if path.parent.name != "commands":
            assert "commands" not in imports(path), path
        assert "import click" not in path.read_text(), path


def test_normal_noise_is_drawn_in_one_place():
    """Nothing but SpectralNoise calls randn, or the noise of training and of sampling could differ (section 5)."""
    drawing = [
        p for p in [*PACKAGE.rglob("*.py"), *(ROOT / "plugins").rglob("*.py")] if "randn" in p.read_text()
    ]
    assert drawing == [PACKAGE / "spectral" / "noise.py"]


def test_the_parts_of_scipy_are_imported_when_they_are_used():
    """`import scipy` imports a part at its first use; all that we use take 0.7 s, which most commands do not need."""
    for path in [*PACKAGE.rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]:
        assert "from scipy" not in path.read_text() and "import scipy." not in path.read_text(), path


def loaded_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_light_modules_load_neither_torch_nor_diffusers():
    # A command is imported by its name, which may be a keyword.
    imports = "\n".join(f"importlib.import_module({name!r})" for name in TORCH_FREE)
    loaded = loaded_after(f"import importlib\n{imports}")
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


def test_images_that_need_no_model_are_restored_without_torch(tmp_path):
    """By an estimate without one, and by the bare command, which finds offsets of rows or nothing."""
    import numpy as np
    import tifffile

    random = np.random.default_rng(0)
    smooth = np.add.outer(np.linspace(-0.5, 0.4, 96), np.sin(np.arange(96) / 30) / 3)
    tifffile.imwrite(tmp_path / "clean.tif", smooth.astype(np.float32) / 2 + 0.5)
    lines = smooth + random.normal(0, 0.1, (96, 1)) + random.normal(0, 0.01, (96, 96))
    tifffile.imwrite(tmp_path / "lines.tif", lines.astype(np.float32) / 2 + 0.5)
    told = ["--noise", "stripe:horizontal,0,0", "--estimate", "wiener"]
    commands = [
        ["omit", str(tmp_path / "lines.tif"), *told, "--output", str(tmp_path / "wiener")],
        ["omit", str(tmp_path / "lines.tif"), "--output", str(tmp_path / "lines")],
        ["omit", str(tmp_path / "clean.tif"), "--output", str(tmp_path / "clean")],
    ]
    code = (
        "import sys\nfrom sagd_cli.__main__ import main\n"
        f"for command in {commands!r}:\n    try: main(command)\n    except SystemExit as stop: assert not stop.code\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "torch" not in done.stdout.splitlines()[-1].split(), done.stderr
    assert "lines.tif: stripe:horizontal,0,0" in done.stderr and "clean.tif: no noise found" in done.stderr


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


def test_every_module_has_tests_of_its_name_or_a_row_that_says_where_they_are():
    tests = ROOT / "tests"
    rows = [line.split("|") for line in (tests / "README.md").read_text().splitlines() if line[:3] == "| `"]
    listed = [name for row in rows for name in re.findall(r"`([\w/]+)`", row[1])]
    named = {path for row in rows for path in re.findall(r"`([\w/.]+)`", row[2])}
    assert [path for path in named if not (tests / path).is_file()] == []
    modules = [path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"]
    own = {path for path in modules if (tests / path.parent / f"test_{path.name}").is_file()}
    assert sorted(listed) == sorted(str(path.with_suffix("")) for path in set(modules) - own)


def test_the_readme_and_ci_run_the_same_two_commands():
    readme = (ROOT / "README.md").read_text()
    ci = [re.split(r" >| \|\|", line)[0] for line in (ROOT / ".ci" / "run").read_text().splitlines()]
    assert ".venv/bin/pytest -n 2 -m slow" in ci and "`.venv/bin/pytest -n 2 -m slow`" in readme
    commands = [
        line for line in readme.splitlines() if line.startswith((".venv/bin/pytest", "python3 -m venv"))
    ]
    assert len(commands) == 2
    start, tests = commands
    assert tests in ci
    install, _, quickstart = start.rpartition(" && ")
    assert {install.replace("pip install -e", "pip install -q -e"), quickstart} <= {*ci}


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
