"""`sagd corrupt`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sagd_cli.commands.common import BAND_HELP, NOISE_HELP, ForceOption, RangeOption, common, single
from sagd_cli.errors import UsageError
from sagd_cli.system.console import output

if TYPE_CHECKING:
    from sagd_cli.config.noise_spectrum import NoiseSpectrum
    from sagd_cli.data.ranges import Range

app = single()


@app.command()
@common
def corrupt(
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT", help="Folder of images, or one image or stack; with --output FILE.npy any DATA."
        ),
    ],
    target: Annotated[
        Path,
        typer.Option(
            "--output", metavar="DIR|FILE.npy|FILE.npz", help="Folder to write, or array of float32."
        ),
    ],
    band: Annotated[str | None, typer.Option("--band", metavar="BAND", help=BAND_HELP)] = None,
    noise: Annotated[str | None, typer.Option("--noise", metavar="NOISE", help=NOISE_HELP)] = None,
    strength: Annotated[
        float | None,
        typer.Option(
            "--strength",
            help="Amplitude on the [-1, 1] range: at each frequency of a band; rms of a filter's noise.",
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option("--seed", min=0, help="The noise of an image follows from seed and name, or index."),
    ] = 0,
    clip: Annotated[
        bool,
        typer.Option("--clip", help="Clip to the input's own format and depth; else float TIFF, unclipped."),
    ] = False,
    values: RangeOption = None,
    force: ForceOption = False,
) -> None:
    """Add noise to images: in a frequency band, or with the spectrum of a filter, of measured noise, or of a sum.

    Into a folder, the same command goes on where one was stopped; an array is written anew.

    Images are written as float TIFF, because clipping to 8 bits would spread the noise over all frequencies;
    or, to be trained on, into an array of float32 on the [-1, 1] range (with its labels). Black is -1 and white is 1.

    Examples:

      sagd corrupt photos --band high --strength 0.25 --output damaged

      sagd corrupt mnist --band 0.5:0.625 --strength 1 --output damaged.npy

      sagd corrupt photos --noise high:level=0.5+powerlaw:alpha=-1,level=0.1 --output damaged
    """
    from sagd_cli.config.arguments import parse_dataset
    from sagd_cli.damage.corruption import Corruption, corrupt_dataset, corrupt_files
    from sagd_cli.data.outcome import raise_if_failed
    from sagd_cli.data.ranges import Range
    from sagd_cli.system.files import has_suffix

    given = None if values is None else Range.parse(values)
    corruption = Corruption(_spectrum(band, noise, strength, given), seed, given, clip)
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
    result = corrupt_files(corruption, Path(source), target, force, output())
    output().result(result, str(target))
    raise_if_failed(result)


def _spectrum(
    band: str | None, noise: str | None, strength: float | None, given: "Range | None"
) -> "NoiseSpectrum":
    from sagd_cli.config.noise_spectrum import NoiseSpectrum
    from sagd_cli.damage.measured_noise import typed_noise
    from sagd_cli.spectral.band import Band

    if (band is None) == (noise is None):
        raise UsageError("the noise is given by either --band or --noise", "For example --band high.")
    if band is not None:
        return NoiseSpectrum.of_band(Band.parse(band), strength)
    spectrum = typed_noise(str(noise), given)
    if strength is not None and None not in spectrum.levels:
        raise UsageError(
            f"each part of the noise {spectrum.shown} has its own level", "Leave out --strength, or a level."
        )
    return spectrum.with_default(strength)
