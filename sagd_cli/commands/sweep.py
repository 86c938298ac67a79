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
    refuse_given,
    single,
)
from sagd_cli.errors import SagdError, UsageError
from sagd_cli.metrics.catalogue import distances
from sagd_cli.system.choices import listing
from sagd_cli.system.console import output

if TYPE_CHECKING:
    from sagd_cli.config.run import DatasetConfig, RunConfig
    from sagd_cli.sweep.grid import Grid
    from sagd_cli.sweep.plan import Evaluation, Plan

DEFAULT_METRIC, DEFAULT_SAMPLES = "fid", 500
METRIC_HELP = listing({f"{name} ({metric.summary})": metric for name, metric in distances().items()})

app = single()


@app.command()
@common
def sweep(
    grid: Annotated[
        list[str] | None,
        typer.Option(
            "--grid",
            metavar="KEY=V,V,...",
            help="Values of any key of the configuration; several make all combinations. Without: continue --output.",
        ),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option("--seeds", metavar="N,N,...", help="Seeds of the trainings; 0 by default."),
    ] = None,
    config: ConfigOption = None,
    preset: PresetOption = None,
    overrides: SetOption = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", metavar="DATA", help="What to train on.")
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option("--metric", help=f"What counts: {METRIC_HELP}; {DEFAULT_METRIC} by default."),
    ] = None,
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
    count: Annotated[
        int | None, typer.Option("-n", "--count", min=10, help="Samples of each run; 500 by default.")
    ] = None,
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
    """Train and measure a grid of settings, with several seeds each; the same command again continues it.

    Every run is a run folder. What is finished is skipped. What failed is listed, and tried again the next time.
    Further values and seeds are added to what --output holds. White noise, where it is among the cells, is the
    baseline that the best cell is tested against.

    Examples:

      sagd sweep --grid filter.options.alpha=-0.1,0,0.1 --seeds 0,1,2

      sagd sweep --grid filter=white,powerlaw:alpha=-0.06,mine.yaml --seeds 0,1 --jobs 2 --output sweeps/filters

      sagd sweep --output sweeps/filters --seeds 2

      sagd sweep --config mnist.yaml --grid filter.options.alpha=-0.2,-0.1,0 --halving 3 --storage postgresql://host/sweeps
    """
    from sagd_cli.config.arguments import parse_dataset
    from sagd_cli.config.layers import resolve
    from sagd_cli.sweep.folder import has_plan
    from sagd_cli.sweep.grid import make_cells, parse_grid, parse_seeds
    from sagd_cli.sweep.plan import Halving, Plan, default_output
    from sagd_cli.system.yaml import read_mapping

    chosen = () if seeds is None else parse_seeds(seeds)
    if not grid and folder is not None and has_plan(folder):
        settings = {
            "--config": config,
            "--preset": preset,
            "--set": overrides,
            "--dataset": dataset,
            "--metric": metric,
            "--features": features,
            "--layer": layer,
            "--weights": weights,
            "--reference": reference,
            "--count": count,
            "--halving": halving,
        }
        refuse_given(f"without --grid the settings are those of {folder}", settings)
        plan = _stored(folder, chosen, storage)
    else:
        flags = {} if dataset is None else {"dataset": parse_dataset(dataset).document()}
        layers = (flags, overrides or [], read_mapping(config) if config == "-" else config, preset)
        base, values = resolve(*layers), parse_grid(grid or [])
        cells = make_cells(values, *layers)
        against = _reference(reference, base, values)
        plan = Plan(
            base=base,
            cells=cells,
            seeds=chosen,
            evaluation=_evaluation(
                metric or DEFAULT_METRIC, count or DEFAULT_SAMPLES, against, features, layer, weights
            ),
            halving=None if halving is None else Halving.of([cell.config for cell in cells], halving),
            output=folder or default_output(base, cells),
            storage=storage,
        )
    if dry_run:
        _describe(plan)
    else:
        _run(plan, jobs, device)


def _stored(folder: Path, seeds: tuple[int, ...], storage: str | None) -> "Plan":
    """Return the plan that a folder holds, with these seeds if any are given."""
    from dataclasses import replace

    from sagd_cli.sweep.folder import read_plan

    plan = read_plan(folder, storage)
    return replace(plan, seeds=seeds or plan.seeds)


def _reference(reference: str | None, base: "RunConfig", grid: "Grid") -> "DatasetConfig":
    from sagd_cli.config.arguments import parse_dataset
    from sagd_cli.sweep.reference import held_out

    if reference is not None:
        return parse_dataset(reference)
    if any(key.partition(".")[0] == "dataset" for key in grid):
        raise UsageError(
            "the data are swept, so their own held-out images are no common reference",
            "Name the images that samples of all cells are compared with: --reference DATA.",
        )
    return held_out(base.dataset, output())


def _evaluation(
    metric: str,
    count: int,
    reference: "DatasetConfig",
    features: str | None,
    layer: str | None,
    weights: Path | None,
) -> "Evaluation":
    from sagd_cli.sweep.plan import Evaluation, hash_file

    if metric not in distances():
        raise UsageError(f"unknown metric {metric!r}", f"Metrics of a sweep are {' and '.join(distances())}.")
    return Evaluation(
        metric=distances()[metric].figure.key,
        count=count,
        reference=reference,
        features=features,
        layer=layer,
        weights=None if weights is None else str(weights),
        weights_sha256=None if weights is None else hash_file(weights),
    )


def _describe(plan: "Plan") -> None:
    from sagd_cli.sweep.folder import joined_plan
    from sagd_cli.sweep.run import check_plan

    plan = joined_plan(plan)
    check_plan(plan)
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
    from sagd_cli.sweep.run import run_sweep
    from sagd_cli.sweep.words import sweep_text

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
