"""A whole report: one page of runs and sweeps."""

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
from sagd_cli.run.manifest import has_run
from sagd_cli.sweep.summary import has_summary, read_sweep, runs_to_show
from sagd_cli.system.console import Output
from sagd_cli.system.files import write_text

LARGEST_PAGE = 2_000_000  # bytes of a page
# The shares of their usual bytes that pictures may take; they are tried in this order.
SHARES = (1, 1 / 2, 1 / 4, 1 / 8, 1 / 16)

Subject = Callable[[Embedding], Section]


def check_targets(targets: Sequence[Path]) -> None:
    """Raise UsageError when one of the targets is neither a run nor a sweep."""
    for path in targets:
        if not (has_summary(path) or has_run(path)):
            raise UsageError(
                f"{path} is neither a run nor a sweep", "Train one with `sagd train` or `sagd sweep`."
            )


def write_report(
    targets: Sequence[Path], page: Path, device: torch.device, count: int, output: Output
) -> dict[str, Any]:
    """Write the `page` of `targets`, with `count` samples drawn of each run; return the JSON object of `sagd report`.

    Raises what `check_targets` raises, and SagdError when the page cannot be written.
    """
    check_targets(targets)
    subjects = [subject for path in targets for subject in _subjects(path, device, count, output)]
    names = ", ".join(path.resolve().name for path in targets)
    text, sections = _fitting_page(f"sagd: {names}", subjects)
    size = len(text.encode())
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


def _subjects(path: Path, device: torch.device, count: int, output: Output) -> list[Subject]:
    """Return what lays out a target: a run, or a sweep and the runs of it that are shown."""
    subjects: list[Subject] = []
    runs = {path.resolve().name: path}
    if has_summary(path):
        summary = read_sweep(path)
        subjects.append(partial(sweep_section, path, summary))
        runs = runs_to_show(path, summary)
    portraits = {name: portray(run, device, count, output) for name, run in runs.items()}
    return [*subjects, *(partial(run_section, portrait, name) for name, portrait in portraits.items())]


def _fitting_page(title: str, subjects: Sequence[Subject]) -> tuple[str, list[Section]]:
    """Return the page with pictures as fine as its size allows, and its sections."""
    for share in SHARES:
        sections = [subject(Embedding(share)) for subject in subjects]
        text = render_page(title, sections, f"Written by sagd {__version__}.")
        if len(text.encode()) <= LARGEST_PAGE:
            break
    return text, sections
