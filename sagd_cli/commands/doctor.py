"""`sagd doctor`."""

import math
import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.table import Table

from sagd_cli import __version__
from sagd_cli.commands.common import DeviceOption, announced_device, common, single
from sagd_cli.errors import SagdError, UsageError
from sagd_cli.plugin.registry import registry
from sagd_cli.system.console import output

app = single()

ENGINES = (
    "torch",
    "torchvision",
    "diffusers",
    "torch-fidelity",
    "optuna",
    "numpy",
    "pydantic",
    "typer",
    "scikit-learn",
)


@app.command()
@common
def doctor(
    numerics: Annotated[
        bool,
        typer.Option(
            "--numerics", help="Compare noise and samplers with closed forms; exit 1 when a check fails."
        ),
    ] = False,
    device: DeviceOption = "auto",
) -> None:
    """Say what this installation can do: versions, CUDA, devices, threads, plug-ins, disk.

    Each GPU computes a product and a convolution, which are compared with the CPU's.

    With --numerics, compare noise and samplers on the device with closed forms instead. This takes seconds. It is
    useful after a change to them, and on a new machine.

    Examples:

      sagd doctor

      sagd doctor --numerics --device cpu
    """
    if numerics:
        _numerics(device)
        return
    if device != "auto":
        raise UsageError("--device is for the checks of --numerics", "Add --numerics, or leave it out.")
    import torch

    from sagd_cli.system.gpus import cuda_facts, gpu_facts

    problems = [f"{e.kind} {e.name}: {e.detail}" for e in registry().entries if e.status != "ok"]
    gpus = {f"cuda:{i}": gpu_facts(torch.device("cuda", i)) for i in range(torch.cuda.device_count())}
    result: dict[str, Any] = {
        "sagd": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "engines": {name: _version(name) for name in ENGINES},
        "devices": ["cpu", *gpus],
        "cuda": cuda_facts(),
        "gpus": gpus,
        "threads": torch.get_num_threads(),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY"),
        "plugins": {
            kind: registry().names(kind) for kind in ("filter", "dataset", "backbone", "feature", "command")
        },
        "plugin_problems": problems,
        "free_disk_gib": round(shutil.disk_usage(Path.cwd()).free / 2**30, 1),
    }
    told = {key: value for key, value in result.items() if key != "gpus"}
    output().result(result, _text({**told, **gpus}))


def _numerics(device: str) -> None:
    """Print the checks and the verdict; raise SagdError, which names the failed checks, when there are any."""
    from sagd_cli.diffusion.self_check import run_checks

    chosen = announced_device(device)
    checks = run_checks(chosen)
    out_of_bounds = [check.name for check in checks if not check.ok]
    table = Table(box=None, pad_edge=False)
    for heading in ("check", "value", "at most", "", "compared"):
        table.add_column(heading)
    for check in checks:
        verdict = "ok" if check.ok else "OUT"
        table.add_row(check.name, f"{check.value:.3g}", f"{check.bound:.3g}", verdict, check.compared)
    rows = [
        {
            "name": check.name,
            "compared": check.compared,
            "value": check.value if math.isfinite(check.value) else None,
            "bound": check.bound,
            "ok": check.ok,
        }
        for check in checks
    ]
    verb = "is" if len(out_of_bounds) == 1 else "are"
    verdict = f"{len(out_of_bounds)} of {len(checks)} checks {verb} out of bounds"
    result = {"device": str(chosen), "ok": not out_of_bounds, "checks": rows}
    output().result(result, Group(table, f"{verdict} on {chosen}"))
    if out_of_bounds:
        raise SagdError(f"{verdict}: {', '.join(out_of_bounds)}")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _text(result: dict[str, Any]) -> str:
    lines = []
    for key, value in result.items():
        if isinstance(value, dict):
            items = [
                f"{k} {', '.join(v) if isinstance(v, list) else v}" for k, v in value.items() if v is not None
            ]
            lines += [f"{key if i == 0 else '':<16} {item}" for i, item in enumerate(items)]
        elif isinstance(value, list):
            lines += [f"{key if i == 0 else '':<16} {item}" for i, item in enumerate(value or ["none"])]
        else:
            lines.append(f"{key:<16} {value}")
    return "\n".join(lines)
