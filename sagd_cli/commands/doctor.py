"""`sagd doctor`."""

import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sagd_cli import __version__
from sagd_cli.commands.common import common, single
from sagd_cli.console import output
from sagd_cli.plugin.registry import registry

app = single()

ENGINES = (
    "torch",
    "torchvision",
    "diffusers",
    "torch-fidelity",
    "numpy",
    "pydantic",
    "typer",
    "scikit-learn",
)


@app.command()
@common
def doctor() -> None:
    """Say what this installation can do: versions, devices, threads, plug-ins, disk."""
    import torch

    problems = [f"{e.kind} {e.name}: {e.detail}" for e in registry().entries if e.status != "ok"]
    result: dict[str, Any] = {
        "sagd": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "engines": {name: _version(name) for name in ENGINES},
        "devices": ["cpu", *(_cuda(i) for i in range(torch.cuda.device_count()))],
        "threads": torch.get_num_threads(),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY"),
        "plugins": {
            kind: registry().names(kind) for kind in ("filter", "dataset", "backbone", "feature", "command")
        },
        "plugin_problems": problems,
        "free_disk_gib": round(shutil.disk_usage(Path.cwd()).free / 2**30, 1),
    }
    output().result(result, _text(result))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _cuda(index: int) -> str:
    import torch

    properties = torch.cuda.get_device_properties(index)
    return f"cuda:{index} {properties.name} ({properties.total_memory / 2**30:.0f} GiB)"


def _text(result: dict[str, Any]) -> str:
    lines = []
    for key, value in result.items():
        if isinstance(value, dict):
            items = [f"{k} {', '.join(v) if isinstance(v, list) else v}" for k, v in value.items()]
            lines += [f"{key if i == 0 else '':<16} {item}" for i, item in enumerate(items)]
        elif isinstance(value, list):
            lines += [f"{key if i == 0 else '':<16} {item}" for i, item in enumerate(value or ["none"])]
        else:
            lines.append(f"{key:<16} {value}")
    return "\n".join(lines)
