"""`sagd corrupt`."""

from pathlib import Path
from typing import Annotated

import typer

from sagd_cli.commands.common import BAND_HELP, ForceOption, RangeOption, common, single
from sagd_cli.errors import UsageError
from sagd_cli.system.console import output

app = single()


@app.command()
@common
def corrupt(
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT", help="Folder of images, or one image; with --output FILE.npy any DATA."
        ),
    ],
    band: Annotated[str, typer.Option("--band", metavar="BAND", help=BAND_HELP)],
    strength: Annotated[
        float, typer.Option("--strength", help="Amplitude per frequency of the band, on the [-1, 1] range.")
    ],
    target: Annotated[
        Path,
        typer.Option(
            "--output", metavar="DIR|FILE.npy|FILE.npz", help="Folder to write, or array of float32."
        ),
    ],
    seed: Annotated[
        int,
        typer.Option("--seed", min=0, help="The noise of an image follows from seed and name, or index."),
    ] = 0,
    clip: Annotated[
        bool,
        typer.Option(
            "--clip", help="Clip to the input's own format and depth; else 32-bit float TIFF, unclipped."
        ),
    ] = False,
    values: RangeOption = None,
    force: ForceOption = False,
) -> None:
    """Add noise confined to a frequency band to images.

    Images are written as 32-bit float TIFF, because clipping to 8 bits would spread the noise over all frequencies;
    or, to be trained on, into an array of float32 on the [-1, 1] range (.npz keeps labels). Black is -1 and white is 1.

    Examples:

      sagd corrupt photos --band high --strength 0.25 --output damaged

      sagd corrupt mnist --band 0.5:0.625 --strength 1 --output damaged.npy
    """
    from sagd_cli.config.arguments import parse_dataset
    from sagd_cli.damage.corruption import Corruption, corrupt_dataset, corrupt_files
    from sagd_cli.data.folders import raise_if_failed
    from sagd_cli.data.ranges import Range
    from sagd_cli.spectral.band import Band
    from sagd_cli.system.files import has_suffix

    given = None if values is None else Range.parse(values)
    corruption = Corruption(Band.parse(band), strength, seed, given)
    if has_suffix(target, ".npy", ".npz"):
        if clip:
            raise UsageError("an array is written as it is, unclipped", "Leave out --clip, or name a folder.")
        if given is not None:
            raise UsageError(
                "--range is for folders of images", f"For an array write {source},range={values}."
            )
        result = corrupt_dataset(corruption, parse_dataset(source), target, force, output())
        output().result(result, str(target))
        return
    result = corrupt_files(corruption, Path(source), target, clip, force, output())
    output().result(result, str(target))
    raise_if_failed(result)
