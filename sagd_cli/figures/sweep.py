"""The figure of a sweep: the metric of every run against the swept values."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sagd_cli.figures.style import COLOURS, DASHES, STYLE, legend_below, plain

MOST_TICKS = 40
LONGEST_TICK = 42


@mpl.rc_context(STYLE)
def sweep_figure(summary: Mapping[str, Any], label: str) -> Figure:
    """Draw means with deviations over seeds, and each run as a point; the baseline is a dashed line.

    `summary` is the JSON object of `sagd sweep`, and `label` what its metric is called. A single swept key with numbers
    is an axis of numbers. Of two keys the first with numbers is the axis, and the other one makes the lines. In all
    other cases the axis is one of cells.
    """
    cells = [cell for cell in summary["cells"] if cell["mean"] is not None]
    axis, lines = _layout(summary["keys"], cells)
    names = [cell["name"] for cell in summary["cells"]]
    width = 6.5 if axis is not None else min(18.0, max(6.5, 0.45 * len(names)))
    figure = Figure(figsize=(width, 4.6), layout="constrained")
    axes = figure.subplots()
    handles, labels = [], []
    for index, (line, members) in enumerate(lines.items()):
        places = [
            float(c["values"][axis]) if axis is not None else float(names.index(c["name"])) for c in members
        ]
        handles.append(_draw(axes, places, members, index, joined=axis is not None))
        labels.append(line or "mean ± deviation over seeds")
    baseline = next((cell for cell in cells if cell["name"] == summary["baseline"]), None)
    if baseline is not None:
        handles.append(axes.axhline(baseline["mean"], color="0.35", ls=(0, (6, 3)), lw=1.2, zorder=1))
        labels.append(f"white noise: {baseline['mean']:.4g}")
    axes.set_ylabel(label)
    if axis is not None:
        axes.set_xlabel(axis)
    else:
        _name_cells(axes, names, summary["keys"])
    legend_below(figure, handles, labels, wrap=85)
    return figure


def _layout(
    keys: Sequence[str], cells: list[dict[str, Any]]
) -> tuple[str | None, dict[str, list[dict[str, Any]]]]:
    """Return the key that is the axis, None for an axis of cells, and the cells of each line by its name."""
    numeric = [key for key in keys if all(_is_number(cell["values"][key]) for cell in cells)]
    if len(keys) > 2 or not numeric:
        return None, {"": cells}
    axis = numeric[0]
    lines: dict[str, list[dict[str, Any]]] = {}
    for cell in sorted(cells, key=lambda one: float(one["values"][axis])):
        rest = [f"{key.rpartition('.')[2]} = {cell['values'][key]}" for key in keys if key != axis]
        lines.setdefault(", ".join(rest), []).append(cell)
    return axis, lines


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _draw(axes: Axes, places: list[float], cells: list[dict[str, Any]], index: int, joined: bool) -> Line2D:
    colour = COLOURS[index % len(COLOURS)]
    for place, cell in zip(places, cells, strict=True):
        values = [run["value"] for run in cell["runs"] if run["state"] == "done"]
        axes.plot([place] * len(values), values, "o", color=colour, mfc="none", ms=3.5, alpha=0.7)
    means, deviations = [cell["mean"] for cell in cells], [cell["deviation"] or 0.0 for cell in cells]
    style = DASHES[index % len(DASHES)] if joined else "none"
    drawn = axes.errorbar(
        places, means, deviations, color=colour, ls=style, marker="s", ms=5, capsize=4, lw=1.6
    )
    line: Line2D = drawn.lines[0]
    return line


def _name_cells(axes: Axes, names: list[str], keys: Sequence[str]) -> None:
    """Name the places of an axis of cells; a single key is named once, below them."""
    shown = names if len(names) <= MOST_TICKS else []
    if len(keys) == 1:
        axes.set_xlabel(plain(keys[0], 80), parse_math=False)
        shown = [name.removeprefix(f"{keys[0].rpartition('.')[2]}=") for name in shown]
    short = [
        plain((name if len(name) <= LONGEST_TICK else name[: LONGEST_TICK - 1] + "…").replace("_", " "), 14)
        for name in shown
    ]
    axes.set_xticks(np.arange(len(shown)), short, rotation=0 if len(shown) <= 6 else 60)
    for label in axes.get_xticklabels():
        label.set_parse_math(False)
    axes.set_xlim(-0.5, len(names) - 0.5)
