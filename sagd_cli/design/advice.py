"""What designing and training warn of: data that still show at t = 1 (MATH: 4.), and data of another scale."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sagd_cli.console import Output
from sagd_cli.datasets import as_signal, blocks, mean_and_std
from sagd_cli.diffusion.tables import snr_level
from sagd_cli.spectral.filter import SpectralFilter
from sagd_cli.spectral.grid import Array, FrequencyGrid
from sagd_cli.spectral.snr import LARGEST_TERMINAL_SNR, largest_snr
from sagd_cli.spectral.spectrum import power_spectrum

IMAGES = 2048
UNIT_SCALE = (0.3, 3.0)


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


def warn_of_scale(images: NDArray[Any], output: Output) -> None:
    """Warn when float data (N, C, *spatial) are far from unit scale; images are on [-1, 1] by definition."""
    if images.dtype.kind != "f":
        return
    _, deviation = mean_and_std(_sample(images))
    if not UNIT_SCALE[0] <= deviation <= UNIT_SCALE[1]:
        output.warn(
            f"the data have the standard deviation {deviation:.3g}, and noise levels are made for about 1: divide the "
            "data by it, and multiply the samples"
        )


def data_moments(images: NDArray[Any]) -> dict[str, Array]:
    """`power` and `power_about_mean` of the signals of images (N, C, *spatial): E |F x|^2 / N, and without their mean.

    On the half spectrum, from at most 4,096 of the images.
    """
    sample, grid = _sample(images), FrequencyGrid(images.shape[2:])

    def power(mean: Array | float) -> Array:
        parts = (len(block) * power_spectrum(as_signal(block) - mean, grid) for block in blocks(sample))
        return np.asarray(sum(parts) / len(sample))

    mean = sum(as_signal(block).sum(axis=0) for block in blocks(sample)) / len(sample)
    return {"power": power(0.0), "power_about_mean": power(mean)}


def _sample(images: NDArray[Any]) -> NDArray[Any]:
    return images[:: max(1, len(images) // IMAGES)]
