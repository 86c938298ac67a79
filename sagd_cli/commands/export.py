"""`sagd export`."""

from pathlib import Path
from typing import Annotated

import typer

from sagd_cli.commands.common import EmaOption, ForceOption, common, single
from sagd_cli.diffusion.catalogue import SAMPLERS
from sagd_cli.integrations.catalogue import EXPORTS, ExportRequest
from sagd_cli.system.choices import chosen, listing
from sagd_cli.system.console import output

app = single()


@app.command()
@common
def export(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", help="Run folder of `sagd train`; or restorer, the one of the package (onnx)."
        ),
    ],
    target: Annotated[
        Path, typer.Argument(metavar="TARGET", help="What is written: a folder (diffusers) or a file (onnx).")
    ],
    to: Annotated[str, typer.Option("--to", help=f"Form: {listing(EXPORTS)}.")],
    sampler: Annotated[
        str | None, typer.Option("--sampler", help=f"{listing(SAMPLERS)}; the run's default.")
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option("--steps", min=1, max=1000, help="Network evaluations per image; the run's default."),
    ] = None,
    ema: EmaOption = None,
    force: ForceOption = False,
) -> None:
    """Write a trained run in the form of another program.

    A folder of diffusers has the network, the scheduler that equals the sampler, the noise and a model card. It is
    loaded with SagdPipeline of sagd_cli.integrations.diffusers, and then needs no run. An ONNX file has the network
    alone, for batches and, where the network allows, images of every size; noise and sampler are outside it.

    Examples:

      sagd export runs/digits --to diffusers digits-diffusers

      sagd export runs/digits --to diffusers digits-ddim --sampler ddim --steps 50

      sagd export restorer --to onnx restorer.onnx
    """
    form = chosen("form", to, EXPORTS)
    given = {"sampler": sampler, "steps": steps}
    sampling = {key: value for key, value in given.items() if value is not None}
    result = form.load()(ExportRequest(run, target, force, ema, sampling), output())
    output().result(result, str(target))
