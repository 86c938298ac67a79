"""`sagd sample`."""

from pathlib import Path
from typing import Annotated

import typer

from sagd_cli.commands.common import DeviceOption, ForceOption, announced_device, common, single
from sagd_cli.console import output
from sagd_cli.errors import UsageError

app = single()


@app.command()
@common
def sample(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of `sagd train`.")],
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="Images to draw.")] = 64,
    sampler: Annotated[
        str | None, typer.Option("--sampler", help="dpmpp, dpmpp-sde, ddim, ddpm or heun; the run's default.")
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option("--steps", min=1, max=1000, help="Network evaluations an image; the run's default."),
    ] = None,
    spacing: Annotated[
        str | None,
        typer.Option(
            "--spacing", help="Of the evaluations: uniform, quadratic or karras; the run's default."
        ),
    ] = None,
    eta: Annotated[
        float | None, typer.Option("--eta", min=0, max=1, help="Randomness of ddim: 0 (default) to 1 (ddpm).")
    ] = None,
    churn: Annotated[
        float | None,
        typer.Option("--churn", min=0, max=0.5, help="Randomness of heun: growth of sigma a step."),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", min=0, metavar="BASE", help="Image i is drawn from seed BASE + i.")
    ] = 0,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Images at a time.")] = 250,
    format_: Annotated[str, typer.Option("--format", help="png: a folder of images; npz: one file.")] = "png",
    grid: Annotated[
        Path | None, typer.Option("--grid", metavar="FILE.png", help="Also draw a contact sheet.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--output", metavar="DIR", help="Where; RUN/samples/NAME by default.")
    ] = None,
    filter_: Annotated[
        str | None, typer.Option("--filter", help="Refuse unless the run was trained with this filter.")
    ] = None,
    device: DeviceOption = "auto",
    force: ForceOption = False,
) -> None:
    """Draw images from a trained run.

    Examples:

      sagd sample runs/digits --grid grid.png

      sagd sample runs/digits -n 1000 --steps 20 --seed 5000 --format npz --output samples
    """
    from sagd_cli.config import parse_filter
    from sagd_cli.training.run import check_filter, open_run
    from sagd_cli.training.samples import ImageGenerator, SampleTarget, describe, save_samples

    out = output()
    opened = open_run(run, out)
    if filter_ is not None:
        check_filter(parse_filter(filter_).sha256(), opened.filter.sha256(), "--filter names")
    chosen = announced_device(device)
    sampler = sampler or opened.config.sampling.sampler
    steps = steps or opened.config.sampling.steps
    target = folder or run / "samples" / f"{sampler}-{steps}-seed{seed}-n{count}"
    drawn = SampleTarget(target, format_, grid, force)
    amount = _amount(sampler, {"eta": eta, "churn": churn})
    spacing = spacing or opened.config.sampling.spacing
    generator = ImageGenerator(opened, sampler, steps, chosen, spacing, amount)
    seeds = range(seed, seed + count)
    drawn.check(opened.shape, seeds)
    generator.warn_of_terminal_snr(out)
    save_samples(generator, seeds, batch_size, drawn, out)
    result = describe(opened, generator, sampler, seeds, drawn)
    out.result(result, str(result["output"]))


def _amount(sampler: str, given: dict[str, float | None]) -> float | None:
    """The randomness the sampler was given; raise UsageError for one that it does not take."""
    from sagd_cli.diffusion.samplers import SAMPLERS

    wanted = SAMPLERS[sampler].amount if sampler in SAMPLERS else ""
    for name, value in given.items():
        if value is not None and name != wanted:
            takers = [key for key, known in SAMPLERS.items() if known.amount == name]
            raise UsageError(
                f"the sampler {sampler} takes no --{name}", f"It belongs to {', '.join(takers)}."
            )
    return given.get(wanted)
