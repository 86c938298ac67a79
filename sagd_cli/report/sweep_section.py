"""A sweep, laid out for the page of a report: its table, its figure, and its best cell beside white noise."""

import shlex
from pathlib import Path
from typing import Any

from sagd_cli.figures.sweep import sweep_figure
from sagd_cli.report.embed import Embedding
from sagd_cli.report.html import Picture, Section, Subsection, Table
from sagd_cli.sweep.words import chance, figure_label
from sagd_cli.system.yaml import dump_yaml


def sweep_section(path: Path, summary: dict[str, Any], embed: Embedding) -> Section:
    """Lay out the sweep in the folder `path`."""
    parts = [Subsection("Cells", chance(summary), pictures=_picture(summary, embed), table=_table(summary))]
    failed = [
        (f"{c['name']}, seed {r['seed']}", str(r["error"]))
        for c in summary["cells"]
        for r in c["runs"]
        if r["error"]
    ]
    parts += [Subsection("Failed", table=Table(("run", "why"), failed))] if failed else []
    folded: list[tuple[str, Table | str]] = [
        ("Configuration all cells share", dump_yaml(summary["config"])),
        ("How they were measured", dump_yaml(summary["evaluation"])),
        ("Versions", Table((), [*summary["versions"].items()])),
    ]
    command = shlex.join(["sagd", "sweep", "--output", str(path)])
    words = "What goes on with it, and adds what --grid and --seeds name:"
    parts.append(Subsection("Configuration", [words], code=command, folded=folded))
    return Section(path.resolve().name, "sweep", _headline(summary), _facts(summary), parts)


def _headline(summary: dict[str, Any]) -> str:
    if summary["best"] is None:
        return "No run is finished."
    if summary["test"] is not None:
        return f"{summary['test']['text'][:1].upper()}{summary['test']['text'][1:]}."
    best = next(cell for cell in summary["cells"] if cell["name"] == summary["best"])
    why = {
        summary["best"]: "The best cell is white noise itself.",
        None: "There is no white cell to test it against.",
    }.get(summary["baseline"], "With fewer than two common seeds there is no test against white noise.")
    return f"Best is {summary['best']} with {best['mean']:.4g}. {why}"


def _facts(summary: dict[str, Any]) -> list[tuple[str, str]]:
    runs = [run for cell in summary["cells"] for run in cell["runs"]]
    states = ", ".join(
        f"{sum(r['state'] == s for r in runs)} {s}" for s in dict.fromkeys(r["state"] for r in runs)
    )
    return [
        ("metric", figure_label(summary)),
        ("swept", ", ".join(summary["keys"])),
        ("seeds", ", ".join(map(str, summary["seeds"]))),
        ("runs", states),
        ("best", str(summary["best"])),
        ("baseline", str(summary["baseline"])),
    ]


def _picture(summary: dict[str, Any], embed: Embedding) -> list[Picture]:
    if not any(cell["mean"] is not None for cell in summary["cells"]):
        return []
    return [
        Picture(
            embed.figure(sweep_figure(summary, figure_label(summary))),
            "The metric of every run, means and deviations over seeds",
        )
    ]


def _table(summary: dict[str, Any]) -> Table:
    rows, marked = [], set()
    for index, cell in enumerate(summary["cells"]):
        roles = [role for role in ("best", "baseline") if summary[role] == cell["name"]]
        marked |= {index} if roles else set()
        mean = "–" if cell["mean"] is None else f"{cell['mean']:.4g}"
        deviation = "" if cell["deviation"] is None else f" ± {cell['deviation']:.2g}"
        rows.append(
            (cell["name"], f"{mean}{deviation}", *(_run(run) for run in cell["runs"]), ", ".join(roles))
        )
    seeds = [f"seed {seed}" for seed in summary["seeds"]]
    return Table(("cell", "mean ± deviation", *seeds, ""), rows, frozenset(marked))


def _run(run: dict[str, Any]) -> str:
    if run["state"] == "done":
        return f"{run['value']:.4g}"
    return f"pruned at {run['images']:,} images" if run["state"] == "pruned" else str(run["state"])
