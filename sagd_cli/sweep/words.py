"""The result of a sweep in words, and as a table for the terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from sagd_cli.metrics.catalogue import distance_figure


def sweep_text(summary: Mapping[str, Any]) -> RenderableType:
    """Return the cells with mean ± deviation over seeds, the best and the baseline marked, the test and what failed."""
    table = Table(box=None, pad_edge=False)
    metric = distance_figure(summary["metric"]).title(summary["label"] or "")
    for name in ("cell", *(f"seed {seed}" for seed in summary["seeds"]), metric, ""):
        table.add_column(escape(name), justify="left" if name in ("cell", "") else "right")
    for cell in summary["cells"]:
        runs = [_run(run) for run in cell["runs"]]
        table.add_row(escape(cell["name"]), *runs, _mean(cell), _mark(cell, summary))
    lines = [summary["test"]["text"]] if summary["test"] else []
    if len(summary["seeds"]) == 1:
        lines.append("One seed has no deviation and allows no test: give --seeds 0,1,2 or more.")
    lines += chance(summary)
    errors = [(cell, run) for cell in summary["cells"] for run in cell["runs"] if run["state"] == "failed"]
    lines += [f"failed: {cell['name']}/seed-{run['seed']}: {run['error']}" for cell, run in errors]
    return Group(table, *map(escape, lines))


def figure_label(summary: Mapping[str, Any]) -> str:
    """Return what the figures of a sweep are called, with the features and the count of samples."""
    return distance_figure(summary["metric"]).full_title(str(summary["label"]))


def chance(summary: Mapping[str, Any]) -> list[str]:
    """Return a sentence on how much of the distances is due to the count of samples, for a metric that knows it."""
    done = [run for cell in summary["cells"] for run in cell["runs"] if run["state"] == "done"]
    key = distance_figure(summary["metric"]).floor
    if key is None or not done:
        return []
    floor = done[0].get(key)
    if floor is None:
        return [
            "No more samples than features: the distances are biased upwards, all alike; read them side by side only."
        ]
    return [f"About {floor:.2g} of each distance is what so few samples show by chance."]


def _run(run: Mapping[str, Any]) -> str:
    if run["state"] == "done":
        return f"{run['value']:.4g}"
    return f"pruned at {run['images']}" if run["state"] == "pruned" else str(run["state"])


def _mean(cell: Mapping[str, Any]) -> str:
    if cell["mean"] is None:
        return "–"
    return f"{cell['mean']:.4g}" + ("" if cell["deviation"] is None else f" ± {cell['deviation']:.2g}")


def _mark(cell: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    marks = [name for name in ("best", "baseline") if summary[name] == cell["name"]]
    return ", ".join(marks)
