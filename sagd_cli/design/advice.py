"""What designing and training warn of: data that still show at t = 1 (MATH: 4.)."""

import numpy as np
from numpy.typing import NDArray

from sagd_cli.console import Output
from sagd_cli.diffusion.tables import snr_level
from sagd_cli.spectral.filter import SpectralFilter
from sagd_cli.spectral.grid import Array, FrequencyGrid
from sagd_cli.spectral.snr import LARGEST_TERMINAL_SNR, largest_snr
from sagd_cli.spectral.spectrum import power_spectrum

IMAGES = 2048


def warn_of_terminal_snr(
    spectral_filter: SpectralFilter, power: Array, schedule: str, output: Output, subject: str = "the filter"
) -> None:
    """Warn when samplers would start from the wrong prior in some band: no number of steps repairs that."""
    level = snr_level(schedule, 1.0)
    above = {
        name: value
        for name, value in largest_snr(spectral_filter, power, level).items()
        if value > LARGEST_TERMINAL_SNR
    }
    if not above:
        return
    places = ", ".join(f"{name} ({value:.3g})" for name, value in above.items())
    white_is_enough = level * float(power.max()) <= LARGEST_TERMINAL_SNR
    remedy = (
        "more weight there, as in a flatter filter,"
        if white_is_enough
        else "a schedule that ends lower, or weaker data,"
    )
    output.warn(
        f"with {subject} the data still show through the noise at t = 1 in the band {places}: signal to noise above "
        f"{LARGEST_TERMINAL_SNR}; samples will be wrong there, and {remedy} would mend it"
    )


def data_moments(images: NDArray[np.uint8]) -> dict[str, Array]:
    """`power` and `power_about_mean` of images (N, C, *spatial) on [-1, 1]: E |F x|^2 / N, and without the mean image.

    On the half spectrum, from at most 4,096 of the images.
    """
    fields, grid = images[:: max(1, len(images) // IMAGES)] / 127.5 - 1, FrequencyGrid(images.shape[2:])
    return {
        "power": power_spectrum(fields, grid),
        "power_about_mean": power_spectrum(fields - fields.mean(axis=0), grid),
    }
