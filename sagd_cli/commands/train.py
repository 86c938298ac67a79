"""`sagd train`."""

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from sagd_cli.config.arguments import as_pictures, parse_dataset, parse_filter
from sagd_cli.config.layers import kept_settings, resolve
from sagd_cli.config.noise_text import as_typed
from sagd_cli.config.run import RunConfig
from sagd_cli.diffusion.catalogue import LOSSES, PREDICTIONS, SCHEDULES
from sagd_cli.errors import SagdError, UsageError
from sagd_cli.run.trackers import TRACKERS, check_trackers
from sagd_cli.system.choices import listing
from sagd_cli.system.console import binary_size, output
from sagd_cli.system.environment import rank
from sagd_cli.system.yaml import dump_yaml

if TYPE_CHECKING:
    from rich.table import Table

    from sagd_cli.training.initial import InitialWeights
    from sagd_cli.training.train import Conduct

app = single()


@app.command()
@common
def train(
    config: ConfigOption = None,
    preset: PresetOption = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", metavar="DATA", help="Data set, folder of images or FILE.npy.")
    ] = None,
    size: Annotated[
        int | None,
        typer.Option("--size", min=2, help="Crop a folder's images to squares and resize them to N x N."),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            "--init",
            metavar="RUN|DIR",
            help="Start from the averaged weights of this run, or of this folder of diffusers. Network, schedule, "
            "prediction and classes are as there, unless they are set.",
        ),
    ] = None,
    backbone: Annotated[str | None, typer.Option("--backbone", help="Network: unet or dit.")] = None,
    filter_: Annotated[
        str | None,
        typer.Option("--filter", metavar="FILTER", help="Filter file, TYPE[:k=v,...] or - (stdin)."),
    ] = None,
    omit_band: Annotated[
        str | None,
        typer.Option(
            "--omit-band",
            metavar="BAND",
            help="Give no noise in this BAND (as for `sagd omit`), so that the network does not learn it.",
        ),
    ] = None,
    blind: Annotated[
        bool | None,
        typer.Option(
            "--blind/--sighted",
            help="Also hide the image content in the omitted band from the network, or not (default).",
        ),
    ] = None,
    class_conditional: Annotated[
        bool | None,
        typer.Option(
            "--class-conditional/--unconditional",
            help="Train on the data set's class labels, or not (default).",
        ),
    ] = None,
    restore: Annotated[
        list[str] | None,
        typer.Option(
            "--restore",
            metavar="BAND|NOISE",
            help="Learn to remove noise in this BAND, or this NOISE, for `sagd omit --model`; may be repeated. rings: "
            "any ring; any: all noise.",
        ),
    ] = None,
    schedule: Annotated[str | None, typer.Option("--schedule", help=f"{listing(SCHEDULES)}.")] = None,
    prediction: Annotated[str | None, typer.Option("--prediction", help=f"{listing(PREDICTIONS)}.")] = None,
    loss: Annotated[str | None, typer.Option("--loss", help=f"{listing(LOSSES)}.")] = None,
    images: Annotated[int | None, typer.Option("--images", min=1, help="Budget in images.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Budget in steps.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=1, help="Images per step.")] = None,
    lr: Annotated[float | None, typer.Option("--lr", help="Peak learning rate.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Seed of the run.")] = None,
    precision: Annotated[str | None, typer.Option("--precision", help="auto, fp32 or bf16.")] = None,
    compile_: Annotated[
        bool | None, typer.Option("--compile/--no-compile", help="Compile the network (torch.compile).")
    ] = None,
    device: DeviceOption = "auto",
    overrides: SetOption = None,
    download: Annotated[
        bool, typer.Option("--download", help="Let the data set fetch its files if they are missing.")
    ] = False,
    run: Annotated[
        Path | None, typer.Option("--output", metavar="RUN", help="Run folder; runs/NAME by default.")
    ] = None,
    allow_change: Annotated[
        bool, typer.Option("--allow-config-change", help="Go on with other settings than the run's own.")
    ] = False,
    check_memory: Annotated[
        bool,
        typer.Option(
            "--check-memory/--no-check-memory",
            help="Refuse to start when the device has too little free memory (default), or start anyway.",
        ),
    ] = True,
    track: Annotated[
        list[str] | None,
        typer.Option(
            "--track",
            metavar="TRACKER",
            help=f"Also give figures and contact sheets to {listing(TRACKERS)}; may be repeated.",
        ),
    ] = None,
    profile: Annotated[
        int | None,
        typer.Option(
            "--profile",
            min=1,
            metavar="N",
            help="Train N steps, print where their time goes and keep nothing.",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print the resolved configuration and what the run would take; train nothing."
        ),
    ] = False,
) -> None:
    """Train a diffusion model with shaped noise; the same command again resumes.

    Examples:

      sagd train                                    (digits, power-law filter, minutes on two cores)

      sagd filter design --type bandpass | sagd train --filter - --steps 500 --output runs/mid

      sagd train --batch-size 512 --dry-run         (parameters, memory, FLOPs, epochs and disk, on standard error)

      sagd train --profile 50                       (milliseconds per step, for each of its parts)

      sagd train --preset mnist --dataset mnist:root=data --filter powerlaw:alpha=-0.1

      sagd train --preset restorer --dataset patches:path=photos,mode=RGB,size=160,count=4000 --output runs/restorer

      sagd train --class-conditional --output runs/classes    (then: sagd sample runs/classes --class 3 --guidance 2)

      sagd train --init runs/photos --filter powerlaw:alpha=-0.1 --dataset photos64.npy    (fine-tunes a model)

      sagd train --dataset damaged.npy --omit-band 0.5:0.625 --blind --output runs/omitted
    """
    if config == "-" and filter_ == "-":
        raise UsageError("--config - and --filter - both read standard input", "Give one of them as a file.")
    check_trackers(track or ())
    flags: dict[str, Any] = {
        "init": init,
        "backbone.name": backbone,
        "blind": blind,
        "class_conditional": class_conditional,
        "restoration.bands": restore and [as_typed(text) for text in restore],
        "schedule": schedule,
        "prediction": prediction,
        "loss": loss,
        "training.batch_size": batch_size,
        "training.images": images,
        "training.learning_rate": lr,
        "training.seed": seed,
        "training.precision": precision,
        "training.compile": compile_,
    }
    flags = {key: value for key, value in flags.items() if value is not None}
    if dataset is not None:
        flags["dataset"] = parse_dataset(dataset).document()
    if filter_ is not None:
        # The whole filter, with its defaults: nothing of a filter in --config or --preset is kept.
        flags["filter"] = parse_filter(filter_).model_dump(mode="json")
    if omit_band is not None:
        flags["filter.omit"] = omit_band
    if steps is not None and images is not None:
        raise UsageError("--images and --steps both set the budget", "Give one of them.")
    chosen = resolve(flags, overrides or [], config, preset, partial(_kept, run))
    if size is not None:
        chosen = chosen.model_copy(update={"dataset": as_pictures(chosen.dataset, size=size)})
    if steps is not None:
        budget = chosen.training.model_copy(update={"images": steps * chosen.training.batch_size})
        chosen = chosen.model_copy(update={"training": budget})
    if download and not dry_run:
        from sagd_cli.datasets.loading import fetch

        fetch(chosen.dataset)
    run = run or Path("runs") / chosen.default_name
    if dry_run:
        _describe(chosen, run, device)
    elif profile is not None:
        _profile(chosen, device, profile, check_memory)
    else:
        from sagd_cli.training.train import Conduct

        initial = None if chosen.init is None else partial(_initial_weights, chosen.init)
        _train(chosen, run, device, Conduct(allow_change, check_memory, track or (), initial=initial))


def _kept(run: Path | None, init: str) -> Mapping[str, Any]:
    """Return what a training from the weights of `init` takes over; a run that has begun has it itself."""
    from sagd_cli.integrations.diffusers_import import initial_model
    from sagd_cli.run.folder import read_config
    from sagd_cli.run.manifest import CHECKPOINTS, has_checkpoints, has_run

    if run is not None and has_run(run) and has_checkpoints(run / CHECKPOINTS):
        begun = read_config(run)
        if begun.init == init:
            return kept_settings(begun)
    return initial_model(Path(init), output()).settings


def _initial_weights(init: str) -> "InitialWeights":
    from sagd_cli.integrations.diffusers_import import initial_model

    return initial_model(Path(init), output()).read()


def _describe(config: RunConfig, run: Path, device: str) -> None:
    out = output()
    document = config.document()
    estimate = _estimate(config, device)
    if estimate is not None:
        out.note("\n".join(_lines(estimate)))
    result = {"run": str(run), "config": document, "estimate": estimate}
    out.result(result, f"# would train into {run}\n{dump_yaml(document)}")


def _estimate(config: RunConfig, device: str) -> dict[str, Any] | None:
    """Return what the run would take, or None, with a note that says why, when it cannot be estimated."""
    from sagd_cli.datasets.loading import data_size

    try:
        data = data_size(config.dataset, config.class_conditional)
    except SagdError as error:
        output().note(f"no estimate without the images: {error.message}. {error.hint}".rstrip())
        return None
    from sagd_cli.system.devices import available_memory, choose_device
    from sagd_cli.training.cost import estimate_cost

    chosen = choose_device(device, must_exist=False)  # a run may be planned for another machine
    estimate = estimate_cost(config, data, chosen)
    if estimate is None:
        output().note(
            f"no estimate: the network {config.backbone.name} cannot be followed without training it"
        )
        return None
    return {"device": str(chosen), **estimate.document(), "available_bytes": available_memory(chosen)}


def _lines(estimate: dict[str, Any]) -> list[str]:
    memory, flops, disk = (estimate[key] for key in ("memory_bytes", "flops_per_image", "disk_bytes"))
    parts = ", ".join(f"{name} {binary_size(size)}" for name, size in memory.items() if name != "total")
    free = estimate["available_bytes"]
    rows = {
        "parameters": f"{estimate['parameters'] / 1e6:.4g} M",
        "memory": f"{binary_size(memory['total'])} on {estimate['device']}: {parts} (estimated)",
        "free": "unknown" if free is None else binary_size(free),
        "arithmetic": f"{flops['forward'] / 1e9:.4g} GFLOP per image forward, "
        f"{flops['training'] / 1e9:.4g} in training",
        "budget": f"{estimate['steps']:,} steps, {estimate['epochs']:,.4g} epochs of {estimate['images_per_epoch']:,}",
        "disk": f"{binary_size(disk['total'])} at most, {binary_size(disk['checkpoint'])} per checkpoint",
    }
    return [f"{name:<11} {text}" for name, text in rows.items()]


def _profile(config: RunConfig, device: str, steps: int, check_memory: bool) -> None:
    os.environ.setdefault(
        "KINETO_LOG_LEVEL", "99"
    )  # torch's profiler reports its own start and end otherwise
    from sagd_cli.training.profiling import profile_training

    out = output()
    result = profile_training(config, announced_device(device), steps, check_memory).document()
    summary = (
        f"{result['step_ms']:.2f} ms per step of {result['batch_size']} images, "
        f"{result['images_per_second']:,.0f} img/s with the profiler watching"
    )
    out.note(summary)
    out.result(result, _table(result))


def _table(result: dict[str, Any]) -> "Table":
    from rich.table import Table

    clocks = [clock for clock in ("cpu", "cuda") if result[clock] is not None]
    table = Table(box=None, pad_edge=False)
    table.add_column("part")
    for clock in clocks:
        table.add_column(f"{clock} ms", justify="right")
        table.add_column(f"{clock} share", justify="right")
    for part in result["cpu"]:
        times = [result[clock][part] for clock in clocks]
        table.add_row(part, *(cell for t in times for cell in (f"{t['ms']:.3f}", f"{t['share']:.1%}")))
    return table


def _train(config: RunConfig, run: Path, device: str, conduct: "Conduct") -> None:
    from sagd_cli.training.train import run_training

    out = output()
    result = run_training(config, run, announced_device(device), out, conduct)
    if rank() > 0:
        return
    loss = "" if result["loss"] is None else f", loss {result['loss']:.4f}"
    use = f"sagd sample {run}" if config.restoration is None else f"sagd omit INPUT --band BAND --model {run}"
    out.note(f"{result['step']} steps{loss}; use it with: {use}")
    out.result(result, str(run))
