"""`sagd corrupt`."""

from pathlib import Path
from typing import Annotated

import typer

from sagd_cli.commands.common import BandOption, ForceOption, common, single
from sagd_cli.console import output

app = single()


@app.command()
@common
def corrupt(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="Folder of images, or one image.")],
    band: BandOption,
    strength: Annotated[
        float, typer.Option("--strength", help="Amplitude per frequency of the band, on the [-1, 1] range.")
    ],
    folder: Annotated[Path, typer.Option("--output", metavar="DIR", help="Folder to write.")],
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="The noise of a file follows from seed and name.")
    ] = 0,
    clip: Annotated[
        bool,
        typer.Option(
            "--clip", help="Clip to the input's own format and depth; else 32-bit float TIFF, unclipped."
        ),
    ] = False,
    force: ForceOption = False,
) -> None:
    """Add noise confined to a frequency band to images.

    Images are written as 32-bit float TIFF, because clipping to 8 bits would spread the noise over all frequencies.

    Example:

      sagd corrupt photos --band high --strength 0.25 --output damaged
    """
    from sagd_cli.restoration.corruption import corrupt_files
    from sagd_cli.restoration.files import raise_if_failed
    from sagd_cli.spectral.band import Band

    result = corrupt_files(source, Band.parse(band), strength, seed, folder, clip, force, output())
    output().result(result, str(folder))
    raise_if_failed(result)
