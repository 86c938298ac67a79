"""What a sweep found: means and deviations over seeds, the best cell, and whether it differs from white noise."""

import csv
import io
from collections.abc import Mapping
from statistics import fmean, stdev
from typing import Any

from sagd_cli.metrics.catalogue import distance_keys
from sagd_cli.sweep.paired_test import paired_test
from sagd_cli.sweep.plan import Cell, Plan
from sagd_cli.sweep.study import DONE, FAILED, WAITING, RunState


def summarise(
    plan: Plan, records: Mapping[str, RunState], shape: tuple[int, ...], versions: Mapping[str, str]
) -> dict[str, Any]:
    """Return the JSON object of `sagd sweep` from what is known of each run.

    `records` are the states of the runs by their key. `shape` is the spatial shape of the data. `versions` are those of
    what computed the figures.
    """
    cells = [_cell(plan, cell, records, shape) for cell in plan.cells]
    # A mean over only the seeds that were not stopped early, and did not fail, would flatter a cell.
    complete = [cell for cell in cells if cell["count"] == len(plan.seeds)]
    best = _lowest(complete)
    baseline = _baseline(complete, best)
    labels = [str(record.result["label"]) for record in records.values() if "label" in record.result]
    return {
        "output": str(plan.output),
        "metric": plan.evaluation.metric,
        "label": labels[0] if labels else None,
        "keys": plan.keys,
        "seeds": list(plan.seeds),
        "cells": cells,
        "best": best["name"] if best else None,
        "baseline": baseline["name"] if baseline else None,
        "test": None if best is None or baseline is None else _test(cells, best, baseline),
        "failed": [
            f"{cell['name']}/seed-{run['seed']}"
            for cell in cells
            for run in cell["runs"]
            if run["state"] == FAILED
        ],
        "config": plan.base.document(),
        "evaluation": plan.evaluation.document(),
        "versions": dict(versions),
    }


def _lowest(cells: list[dict[str, Any]]) -> dict[str, Any] | None:
    return min(cells, key=lambda cell: float(cell["mean"]), default=None)


def _baseline(complete: list[dict[str, Any]], best: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the white cell that the best one is tested against.

    It is one with the other settings of the best cell, if there is one, else the best of all white cells.
    """
    white = [cell for cell in complete if cell["baseline"]]
    alike = [cell for cell in white if best is not None and not _other_settings(cell, best)]
    return _lowest(alike or white)


def _other_settings(one: Mapping[str, Any], two: Mapping[str, Any]) -> list[str]:
    """Return the swept keys, other than those of the filter, in which two cells differ."""
    return [
        key
        for key, value in one["values"].items()
        if key.partition(".")[0] != "filter" and value != two["values"][key]
    ]


def _cell(plan: Plan, cell: Cell, records: Mapping[str, RunState], shape: tuple[int, ...]) -> dict[str, Any]:
    runs = [
        _run(plan, cell, seed, records.get(f"{cell.name}/seed-{seed}", RunState())) for seed in plan.seeds
    ]
    values = [run["value"] for run in runs if run["state"] == DONE]
    return {
        "name": cell.name,
        "values": dict(cell.values),
        "baseline": cell.is_white(shape),
        "mean": fmean(values) if values else None,
        "deviation": stdev(values) if len(values) > 1 else None,
        "count": len(values),
        "runs": runs,
    }


def _run(plan: Plan, cell: Cell, seed: int, record: RunState) -> dict[str, Any]:
    found = record.result if record.state != WAITING else {}
    return {
        "seed": seed,
        "state": record.state,
        "value": found.get("value"),
        **{key: found[key] for key in distance_keys() if key in found},
        "images": found.get("images"),
        "run": str(plan.run_path(cell, seed)),
        "error": record.error,
    }


def _test(
    cells: list[dict[str, Any]], best: dict[str, Any], baseline: dict[str, Any]
) -> dict[str, Any] | None:
    """Return a paired t-test of the best cell against white noise, over the seeds that both have.

    The best cell was picked among its rivals, so the test is corrected for their number. Return None when the best cell
    is the baseline, and when there are fewer than two such seeds.
    """
    if best is baseline:
        return None
    mine, white = (
        {run["seed"]: run["value"] for run in cell["runs"] if run["state"] == DONE}
        for cell in (best, baseline)
    )
    seeds = sorted({*mine} & {*white})
    differences = [mine[seed] - white[seed] for seed in seeds]
    rivals = sum(not cell["baseline"] for cell in cells)
    found = paired_test(differences, rivals, best["name"], baseline["name"])
    others = _other_settings(best, baseline)
    if found is not None and others:
        found["text"] += f"; they differ in {', '.join(others)} too, not in the filter alone"
    return found


def as_csv(summary: Mapping[str, Any]) -> str:
    """Return the table with one line for each run: the swept values, seed, state, figures, images and folder."""
    figures = ("value", *distance_keys(), "images", "run", "error")
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["cell", *summary["keys"], "baseline", "seed", "state", *figures])
    for cell in summary["cells"]:
        values = [cell["values"][key] for key in summary["keys"]]
        for run in cell["runs"]:
            rest = [run.get(key) for key in figures]
            writer.writerow([cell["name"], *values, cell["baseline"], run["seed"], run["state"], *rest])
    return buffer.getvalue()
