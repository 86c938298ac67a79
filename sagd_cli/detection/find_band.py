"""The band that `--band auto` stands for: the peaks and stripes of the images' spectrum."""

from collections.abc import Sequence
from pathlib import Path

from sagd_cli.config.noise_spectrum import NoisePart, NoiseSpectrum
from sagd_cli.damage.texture import texture
from sagd_cli.data.images import Image
from sagd_cli.detection.find_noise import find_offsets
from sagd_cli.errors import DataError
from sagd_cli.spectral.band import Band, Stripe
from sagd_cli.spectral.peaks import find_peaks


def find_thin(images: Sequence[Image], path: Path) -> NoiseSpectrum:
    """Return the noise that `--band auto` stands for: offsets of rows or columns, and other stripes and peaks.

    Offsets come with their measured width and level; the levels of the others are unknown. Raises what `find_band`
    raises when there are neither.
    """
    offsets = find_offsets([image.signal for image in images])
    try:
        peaks = find_band(images, path).parts
    except DataError:
        if not offsets:
            raise
        peaks = ()
    known = {stripe.direction for stripe, _ in offsets}
    others = [part for part in peaks if not (isinstance(part, Stripe) and part.direction in known)]
    return NoiseSpectrum(
        (
            *(NoisePart(Band((stripe,)), strength.cautious) for stripe, strength in offsets),
            *(NoisePart(Band((part,))) for part in others),
        )
    )


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
