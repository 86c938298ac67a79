"""`sagd sweep`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sagd_cli.commands.common import (
    ConfigOption,
    DeviceOption,
    PresetOption,
    SetOption,
    announced_device,
    common,
    single,
)
from sagd_cli.console import output
from sagd_cli.errors import SagdError, UsageError

if TYPE_CHECKING:
    from sagd_cli.sweep.plan import Plan

app = single()

METRICS = {"fid": "fd", "kid": "kid"}


@app.command()
@common
def sweep(
    grid: Annotated[
        list[str] | None,
        typer.Option(
            "--grid",
            metavar="KEY=V,V,...",
            help="Values of any key of the configuration; several make all combinations.",
        ),
    ] = None,
    seeds: Annotated[str, typer.Option("--seeds", metavar="N,N,...", help="Seeds of the trainings.")] = "0",
    config: ConfigOption = None,
    preset: PresetOption = None,
    overrides: SetOption = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", metavar="DATA", help="What to train on.")
    ] = None,
    metric: Annotated[
        str, typer.Option("--metric", help="What counts: fid (the Fréchet distance) or kid.")
    ] = "fid",
    features: Annotated[str | None, typer.Option("--features", help="Features, as in `sagd fid`.")] = None,
    layer: Annotated[str | None, typer.Option("--layer", help="Layer of the features.")] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", metavar="FILE", help="Weights of the features.")
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            "--reference",
            metavar="DATA",
            help="What samples are compared with; the held-out images, where there are any, by default.",
        ),
    ] = None,
    count: Annotated[int, typer.Option("-n", "--count", min=10, help="Samples of each run.")] = 500,
    halving: Annotated[
        int | None,
        typer.Option(
            "--halving",
            min=2,
            metavar="K",
            help="Stop early: at 1/K^2 and 1/K of the budget only the best 1/K of the runs go on.",
        ),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Runs at a time.")] = 1,
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage",
            metavar="URL",
            help="Database that machines share; a SQLite file in the output by default.",
        ),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--output", metavar="DIR", help="Where; sweeps/NAME by default, NAME made of the settings."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print the cells, run nothing.")
    ] = False,
    device: DeviceOption = "auto",
) -> None:
    """Train and measure a grid of settings, with several seeds each; the same command again goes on.

    Every run is a run folder. What is finished is skipped, what failed is listed and tried again the next time;
    cells and seeds may be added. White noise, where it is among the cells, is the baseline that the best cell is
    tested against.

    Examples:

      sagd sweep --grid filter.options.alpha=-0.1,0,0.1 --seeds 0,1,2

      sagd sweep --grid filter=white,powerlaw:alpha=-0.06,mine.yaml --seeds 0,1 --jobs 2 --output sweeps/filters

      sagd sweep --config mnist.yaml --grid filter.options.alpha=-0.2,-0.1,0 --halving 3 --storage postgresql://host/sweeps
    """
    from sagd_cli.arguments import parse_dataset
    from sagd_cli.config import resolve
    from sagd_cli.sweep.plan import (
        Evaluation,
        Halving,
        Plan,
        default_output,
        make_cells,
        parse_grid,
        parse_seeds,
    )
    from sagd_cli.sweep.reference import held_out
    from sagd_cli.yaml_files import read_mapping

    if metric not in METRICS:
        raise UsageError(f"unknown metric {metric!r}", "Metrics of a sweep are fid and kid.")
    flags = {} if dataset is None else {"dataset": parse_dataset(dataset).document()}
    given = read_mapping(config) if config == "-" else config
    settings = (flags, overrides or [], given, preset)
    base = resolve(*settings)
    cells = make_cells(parse_grid(grid or []), *settings)
    against = held_out(base.dataset, output()) if reference is None else parse_dataset(reference)
    measure = Evaluation(
        METRICS[metric], count, against, features, layer, None if weights is None else str(weights)
    )
    rungs = None if halving is None else Halving.of([cell.config for cell in cells], halving)
    target = folder or default_output(base, cells)
    plan = Plan(base, cells, parse_seeds(seeds), measure, rungs, target, storage)
    if dry_run:
        _describe(plan)
    else:
        _run(plan, jobs, device)


def _describe(plan: "Plan") -> None:
    from sagd_cli.sweep.sweep import check_output, check_plan

    check_plan(plan)
    check_output(plan)
    runs = len(plan.cells) * len(plan.seeds)
    images = sum(cell.config.training.images for cell in plan.cells) * len(plan.seeds)
    names = [cell.name for cell in plan.cells]
    result = {
        "output": str(plan.output),
        "cells": names,
        "seeds": list(plan.seeds),
        "runs": runs,
        "images": images,
    }
    lines = [*names, f"{runs} runs of {images:,} images in all, into {plan.output}"]
    output().result(result, "\n".join(lines))


def _run(plan: "Plan", jobs: int, device: str) -> None:
    from sagd_cli.reporting.sweep_text import sweep_text
    from sagd_cli.sweep.sweep import run_sweep

    summary = run_sweep(plan, jobs, announced_device(device), output())
    output().result(summary, sweep_text(summary))
    if not any(cell["baseline"] for cell in summary["cells"]):
        output().note("no cell has white noise, so there is no baseline to test against")
    states = [run["state"] for cell in summary["cells"] for run in cell["runs"]]
    elsewhere = states.count("running") + states.count("waiting")
    if elsewhere:
        output().note(
            f"{elsewhere} runs are not done here: other processes have them, or have just left them"
        )
        output().note("The same command again goes on, and shows the whole table.")
    if summary["failed"]:
        ok, failed = states.count("done") + states.count("pruned"), summary["failed"]
        raise SagdError(
            f"{ok} ok, {len(failed)} failed: {', '.join(failed[:5])}", "The same command tries them again."
        )
