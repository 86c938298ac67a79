"""`sagd import`."""  # noqa: N999 - commands are imported by their names

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sagd_cli.commands.common import common, single
from sagd_cli.config.arguments import parse_dataset, parse_size
from sagd_cli.diffusion.catalogue import PREDICTIONS, SCHEDULES
from sagd_cli.errors import UsageError
from sagd_cli.system.choices import chosen
from sagd_cli.system.console import output

if TYPE_CHECKING:
    from sagd_cli.integrations.diffusers_scheduler import TrainedProcess

app = single()


@app.command()
@common
def import_(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a diffusers pipeline or model.")],
    run: Annotated[
        Path | None, typer.Option("--output", metavar="RUN", help="Run folder; runs/NAME of DIR by default.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="DATA",
            help="What it was trained on: then the run has its spectra and the names of its classes.",
        ),
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option("--schedule", help="Noise levels of a model without a scheduler: linear or cosine."),
    ] = None,
    prediction: Annotated[
        str | None, typer.Option("--prediction", help="What such a model predicts: eps (default), x0 or v.")
    ] = None,
    size: Annotated[
        str | None,
        typer.Option("--size", metavar="N|HxW", help="Size of the images, where the model says none."),
    ] = None,
) -> None:
    """Make a run of a diffusers model, a UNet2DModel or a DiT, as if it had been trained here on white noise.

    Weights are read from safetensors files only. The run samples, is measured and is fine-tuned like any other.

    Examples:

      sagd import ddpm-cifar10-32 --output runs/cifar10         (then: sagd sample runs/cifar10 --grid grid.png)

      sagd import dit-xl-2-256 --output runs/dit                (latents; its autoencoder stays where it is)

      sagd import my-unet --schedule cosine --prediction v --data photos64.npy

      sagd train --init ddpm-cifar10-32 --dataset photos32.npy --filter powerlaw:alpha=-0.1    (fine-tunes it)
    """
    process = _process(schedule, prediction)
    sides = None if size is None else _sides(size)
    dataset = None if data is None else parse_dataset(data)

    from sagd_cli.integrations.diffusers_folder import open_diffusers
    from sagd_cli.integrations.diffusers_import import import_run

    out = output()
    model = open_diffusers(folder, process, sides)
    result = import_run(model, run or Path("runs") / folder.resolve().name, dataset, out)
    shape = "x".join(map(str, result["shape"]))
    out.note(
        f"{result['class']} of {result['parameters'] / 1e6:.4g} M parameters on {shape}, {result['schedule']}, "
        f"{result['prediction']}; use it with: sagd sample {result['run']}"
    )
    out.result(result, result["run"])


def _process(schedule: str | None, prediction: str | None) -> "TrainedProcess | None":
    """Return the process that the options name, None where they name none."""
    if schedule is None and prediction is None:
        return None
    if schedule is None:
        raise UsageError(
            "--prediction is for a model without a scheduler, whose noise levels are not known",
            "Add --schedule.",
        )
    from sagd_cli.integrations.diffusers_scheduler import TrainedProcess

    predicted = chosen("prediction", prediction or "eps", PREDICTIONS)
    levels = chosen("schedule", schedule, SCHEDULES)
    if not levels.preserves_variance or predicted.needs_power:
        raise UsageError(
            f"no model of diffusers is of {levels.name} and {predicted.name}", "Say linear or cosine."
        )
    return TrainedProcess(levels.name, predicted.name)


def _sides(text: str) -> tuple[int, int]:
    sides = parse_size(text)
    if len(sides) > 2:
        raise UsageError(f"{text} is no size of images", "Sizes are 64 and 28x32.")
    return sides[0], sides[-1]
