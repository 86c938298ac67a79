"""A whole report: of runs and sweeps, one page."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from sagd_cli import __version__
from sagd_cli.errors import UsageError
from sagd_cli.report.embed import Embedding
from sagd_cli.report.html import Section, render_page
from sagd_cli.report.portrait import portray
from sagd_cli.report.run_section import run_section
from sagd_cli.report.sweep_section import sweep_section
from sagd_cli.run.manifest import CONFIG
from sagd_cli.sweep.summary import is_sweep, read_sweep, runs_to_show
from sagd_cli.system.console import Output
from sagd_cli.system.files import write_text

LARGEST_PAGE = 2_000_000  # bytes of a page
# Of their usual bytes, what pictures may take, tried one after the other.
SHARES = (1, 1 / 2, 1 / 4, 1 / 8, 1 / 16)


def check_targets(targets: Sequence[Path]) -> None:
    """Raise UsageError when one of them is neither a run nor a sweep."""
    for path in targets:
        if not (is_sweep(path) or (path / CONFIG).is_file()):
            raise UsageError(
                f"{path} is neither a run nor a sweep", "Train one with `sagd train` or `sagd sweep`."
            )


def write_report(
    targets: Sequence[Path], page: Path, device: torch.device, count: int, output: Output
) -> dict[str, Any]:
    """Write the page of `targets`, with `count` samples drawn of each run; return the JSON object of `sagd report`.

    Raises what `check_targets` raises, SagdError when the page cannot be written.
    """
    check_targets(targets)
    subjects: list[Callable[[Embedding], Section]] = []
    for path in targets:
        if is_sweep(path):
            summary = read_sweep(path)
            subjects.append(partial(sweep_section, path, summary))
            runs = runs_to_show(path, summary)
        else:
            runs = {path.resolve().name: path}
        subjects += [
            partial(run_section, portray(run, device, count, output), name) for name, run in runs.items()
        ]
    names = ", ".join(path.resolve().name for path in targets)
    for share in SHARES:
        sections = [subject(Embedding(share)) for subject in subjects]
        text = render_page(f"sagd: {names}", sections, f"Written by sagd {__version__}.")
        size = len(text.encode())
        if size <= LARGEST_PAGE:
            break
    write_text(page, text)
    if size > LARGEST_PAGE:
        output.warn(f"{page} is larger than {LARGEST_PAGE / 1e6:.0f} MB; report fewer runs at a time")
    missing = [f"{section.name}: {sentence}" for section in sections for sentence in section.missing]
    for sentence in missing:
        output.note(f"missing: {sentence}")
    return {
        "output": str(page),
        "bytes": size,
        "targets": [str(path) for path in targets],
        "missing": missing,
    }
