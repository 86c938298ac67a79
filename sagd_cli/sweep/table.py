"""What a sweep found: means and deviations over seeds, the best cell, and whether it differs from white noise."""

import csv
import io
import math
from collections.abc import Mapping
from statistics import fmean, stdev
from typing import Any

import numpy as np

from sagd_cli.sweep.plan import Cell, Plan
from sagd_cli.sweep.study import DONE, FAILED, WAITING, RunState

CONFIDENCE = 0.95


def summarise(
    plan: Plan, records: Mapping[str, RunState], shape: tuple[int, ...], versions: Mapping[str, str]
) -> dict[str, Any]:
    """Return the JSON object of `sagd sweep` from what is known of each run; `shape` is that of the fields."""
    cells = [_cell(plan, cell, records, shape) for cell in plan.cells]
    # A mean over the seeds that were not stopped early, or did not fail, is better than the cell is.
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
    """The white cell that the best one is tested against: one with all its other settings, if there is one."""
    white = [cell for cell in complete if cell["baseline"]]
    alike = [cell for cell in white if best is not None and not _other_settings(cell, best)]
    return _lowest(alike or white)


def _other_settings(one: Mapping[str, Any], two: Mapping[str, Any]) -> list[str]:
    """Swept keys, other than those of the filter, in which two cells differ."""
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
        **{key: found[key] for key in ("fd", "fd_floor", "kid", "kid_std") if key in found},
        "images": found.get("images"),
        "run": str(plan.run_path(cell, seed)),
        "error": record.error,
    }


def _test(
    cells: list[dict[str, Any]], best: dict[str, Any], baseline: dict[str, Any]
) -> dict[str, Any] | None:
    """A paired t-test of the best cell against white noise over the seeds both have; None where there is none.

    The best was picked among the others, so it is corrected for their number (Bonferroni).
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


def paired_test(differences: list[float], rivals: int, best: str, baseline: str) -> dict[str, Any] | None:
    """Test whether the mean of `differences`, best less baseline by seed, is 0; None for fewer than 2 of them.

    Student's t for pairs. p is also given corrected for the number of rivals the best was picked from, and the interval
    is: it holds the mean difference, whichever rival is the best, with a confidence of 95 % (Bonferroni).
    """
    from scipy.stats import t, ttest_1samp

    pairs = len(differences)
    if pairs < 2:
        return None
    mean = float(np.mean(differences))
    if np.ptp(differences) == 0:  # t is 0 / 0, or no number
        p, low, high, least = (1.0 if mean == 0 else 0.0), mean, mean, 0.0
    else:
        found = ttest_1samp(differences, 0.0)
        error = float(np.std(differences, ddof=1)) / math.sqrt(pairs)
        least = error * float(t.isf((1 - CONFIDENCE) / 2 / rivals, pairs - 1))
        p, low, high = float(found.pvalue), mean - least, mean + least
    corrected = min(1.0, p * rivals)
    differs = corrected < 1 - CONFIDENCE
    verdict = "differs from" if differs else "cannot be told from"
    picked = f", both corrected for {rivals} rivals" if rivals > 1 else ""
    text = (
        f"the best cell, {best}, {verdict} the baseline {baseline}: difference {mean:+.3g}, 95 % interval {low:+.3g} "
        f"to {high:+.3g}, p = {corrected:.2g}{picked} (paired over {pairs} seeds)"
    )
    if not differs:
        text += f"; with this spread {pairs} seeds tell no difference below {least:.3g}"
    return {
        "difference": mean,
        "interval": [low, high],
        "p": p,
        "p_corrected": corrected,
        "pairs": pairs,
        "differs": differs,
        "text": text,
    }


def as_csv(summary: Mapping[str, Any]) -> str:
    """One line a run: the swept values, seed, state, figures, images and folder."""
    figures = ("value", "fd", "fd_floor", "kid", "kid_std", "images", "run", "error")
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["cell", *summary["keys"], "baseline", "seed", "state", *figures])
    for cell in summary["cells"]:
        values = [cell["values"][key] for key in summary["keys"]]
        for run in cell["runs"]:
            rest = [run.get(key) for key in figures]
            writer.writerow([cell["name"], *values, cell["baseline"], run["seed"], run["state"], *rest])
    return buffer.getvalue()
