"""The band that `--band auto` stands for: the peaks and stripes of the images' spectrum (CLI: BAND)."""

from pathlib import Path

from sagd_cli.console import Output
from sagd_cli.design.measure import measure_texture
from sagd_cli.errors import DataError
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.peaks import find_peaks


def find_band(path: Path, output: Output) -> Band:
    """Return the isolated peaks and stripes of the images of `path`, as `sagd spectrum --peaks` prints them.

    A folder has one spectrum, the mean over its images. Raises DataError when there are none, and when the images
    are constant.
    """
    # An absolute path is never taken for the name of a data set.
    spectrum = measure_texture(str(path.absolute()), output).spectrum
    if not spectrum.power.any():
        raise DataError(f"the images of {path} are constant: they have no spectrum")
    peaks = find_peaks(spectrum.power, spectrum.grid, spectrum.fields)
    if not peaks:
        raise DataError(
            f"no isolated peaks or stripes were found in {path}: nothing was changed",
            f"Look at `sagd spectrum {path} --plot spectrum.png` and give the --band.",
        )
    return Band.parse("+".join(peak.band for peak in peaks))
