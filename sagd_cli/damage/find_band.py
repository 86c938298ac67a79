"""The band that `--band auto` stands for: the peaks and stripes of the images' spectrum."""

from collections.abc import Sequence
from pathlib import Path

from sagd_cli.damage.texture import texture
from sagd_cli.data.images import Image
from sagd_cli.errors import DataError
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.peaks import find_peaks


def find_band(images: Sequence[Image], path: Path) -> Band:
    """Return the isolated peaks and stripes of the images' mean spectrum, as `sagd spectrum --peaks` prints them.

    `path` is where the images are from. Raises DataError when there are no peaks, and when the images are constant.
    """
    spectrum = texture(images)
    if not spectrum.power.any():
        raise DataError(f"the images of {path} are constant: they have no spectrum")
    peaks = find_peaks(spectrum.power, spectrum.grid, spectrum.fields)
    if not peaks:
        raise DataError(
            f"no isolated peaks or stripes were found in {path}: nothing was changed",
            f"Look at `sagd spectrum {path} --plot spectrum.png` and give the --band.",
        )
    return Band.parse("+".join(peak.band for peak in peaks))
