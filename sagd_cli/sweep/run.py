"""A whole sweep: it is checked, run or continued, and its results are written down."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sagd_cli.datasets.loading import data_size
from sagd_cli.errors import Interrupted, UsageError
from sagd_cli.features.receipt import versions
from sagd_cli.figures.style import save_figure
from sagd_cli.figures.sweep import sweep_figure
from sagd_cli.sweep.folder import joined_plan, keep_joined
from sagd_cli.sweep.plan import Plan
from sagd_cli.sweep.processes import run_plan
from sagd_cli.sweep.scoring import check_measure
from sagd_cli.sweep.storage import check_storage
from sagd_cli.sweep.study import Study
from sagd_cli.sweep.summary import SUMMARY
from sagd_cli.sweep.table import as_csv, summarise
from sagd_cli.sweep.words import figure_label
from sagd_cli.sweep.work import jobs_of
from sagd_cli.system.console import Output
from sagd_cli.system.files import write_json, write_text

TABLE, FIGURE = "results.csv", Path("figures") / "sweep.png"
ENDED = ("done", "pruned", "failed")


def check_plan(plan: Plan) -> tuple[int, ...]:
    """Raise what would keep a cell from running, before anything runs; return the spatial shape of the data."""
    if plan.storage is not None:
        check_storage(plan.storage)
    for cell in plan.cells:
        size = data_size(cell.config.dataset, cell.config.class_conditional)
        cell.config.filter.weights(size.shape[1:])
        if cell.config.restoration is not None:
            raise UsageError("a run that restores images draws none to measure", "Leave restoration out.")
    check_measure(plan)
    return data_size(plan.base.dataset, plan.base.class_conditional).shape[1:]


def run_sweep(plan: Plan, jobs: int, device: torch.device, output: Output) -> dict[str, Any]:
    """Do what is left of a sweep in `jobs` processes; return its JSON object, which is also written after every run.

    What its output holds already is part of it. Raises what `joined_plan` and `check_plan` raise, and Interrupted when
    a signal asked to stop.
    """
    plan = joined_plan(plan)
    shape = check_plan(plan)
    plan.output.mkdir(parents=True, exist_ok=True)
    study = Study(plan)
    plan = keep_joined(plan)
    study.enqueue([job.key for job in jobs_of(plan)])
    progress = _Progress(plan, study, shape, output)
    progress()
    try:
        run_plan(plan, jobs, device, output, progress)
    except Interrupted as error:
        runs = [run["state"] for cell in progress()["cells"] for run in cell["runs"]]
        done = sum(state in ENDED for state in runs)
        message = f"stopped; {done} of {len(runs)} runs are done, in {plan.output}"
        raise Interrupted(error.exit_code - 128, message, error.hint) from None
    return progress()


class _Progress:
    """Writes down what is known of a sweep, whenever that has changed."""

    def __init__(self, plan: Plan, study: Study, shape: tuple[int, ...], output: Output) -> None:
        self._plan, self._study, self._shape, self._output = plan, study, shape, output
        self._last: Mapping[str, Any] = {}
        self._summary: dict[str, Any] = {}
        self._ended = -1

    def __call__(self) -> dict[str, Any]:
        """Return the summary of the sweep as it is now."""
        records = self._study.records()
        if records != self._last:
            self._last = records
            self._plan = keep_joined(self._plan)
            self._summary = summarise(self._plan, records, self._shape, versions())
            self._write()
        return self._summary

    def _write(self) -> None:
        folder, summary = self._plan.output, self._summary
        write_json(folder / SUMMARY, summary)
        write_text(folder / TABLE, as_csv(summary))
        runs = [run for cell in summary["cells"] for run in cell["runs"]]
        ended = [run for run in runs if run["state"] in ENDED]
        if any(run["state"] == "done" for run in runs):
            save_figure(sweep_figure(summary, figure_label(summary)), folder / FIGURE, force=True)
        if len(ended) != self._ended:
            self._ended = len(ended)
            self._output.note(f"sweep {len(ended)}/{len(runs)} runs")
