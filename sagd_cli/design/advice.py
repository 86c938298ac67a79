"""What designing and training warn of (docs/theory.md, section 4).

Data may still show through the noise at t = 1, the filter may omit more of the data than of their damage, and data may
have another scale than the noise levels are made for.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sagd_cli.data.ranges import array_signal
from sagd_cli.datasets.loading import blocks, mean_and_std
from sagd_cli.diffusion.schedule_tables import snr_level
from sagd_cli.spectral.filter import SpectralFilter
from sagd_cli.spectral.grid import Array, FrequencyGrid
from sagd_cli.spectral.snr import LARGEST_TERMINAL_SNR, largest_snr
from sagd_cli.spectral.spectrum import power_spectrum
from sagd_cli.system.console import Output

SAMPLE_IMAGES = 2048
UNIT_SCALE = (0.3, 3.0)
# Damage this many times as strong as the predicted images is damage: a power law may miss theirs by nearly as much.
CLEAR_DAMAGE = 2.0


def warn_of_terminal_snr(
    spectral_filter: SpectralFilter, power: Array, schedule: str, output: Output, subject: str = "the filter"
) -> None:
    """Warn when samplers would start from the wrong prior in some band; no number of steps repairs that.

    `power` is that of the data about their mean, on the half spectrum; `subject` names the filter in the warning.
    """
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
    """Warn when float data (N, C, *spatial) are far from unit scale. Integers are images, which are on [-1, 1]."""
    if images.dtype.kind != "f":
        return
    _, deviation = mean_and_std(_sample(images))
    if not UNIT_SCALE[0] <= deviation <= UNIT_SCALE[1]:
        output.warn(
            f"the data have the standard deviation {deviation:.3g}, and noise levels are made for about 1: divide the "
            "data by it, and multiply the samples"
        )


def warn_of_omitted_signal(
    power: Array, omitted: NDArray[np.bool_], grid: FrequencyGrid, output: Output
) -> None:
    """Warn when the bins `omitted` may well hold more of the images than of their damage.

    `power` is that of the data about their mean, |F x|^2 / N on the half spectrum of `grid`. Clean images are taken to
    follow a power law there. It is fitted to the other frequencies, and is level below the lowest of them. When there
    are too few other frequencies, nothing is said.
    """
    radius = np.maximum(grid.radius, grid.radius[grid.radius > 0].min())
    known = ~omitted & (grid.radius > 0) & (power > 0)
    if len(np.unique(radius[known])) < 3:
        return
    law = np.polyfit(np.log(radius[known]), np.log(power[known]), 1)
    weights = grid.multiplicity[omitted]
    found = np.average(power[omitted], weights=weights)
    signal = np.average(np.exp(np.polyval(law, np.log(radius[omitted]))), weights=weights)
    damage = max(0.0, found - signal)
    if damage < CLEAR_DAMAGE * signal:
        output.warn(
            f"the omitted band holds the power {found:.3g} a frequency; the power law of the other frequencies gives "
            f"clean images {signal:.3g} there, which leaves {damage:.3g} for damage. Samples will lack both: where the "
            "signal is not far below the damage, rather restore the images with `sagd omit` and train on those"
        )


def data_moments(images: NDArray[Any]) -> dict[str, Array]:
    """Return the moments of the signals of images (N, C, *spatial), measured on at most 4,095 of them.

    `mean` is the mean image (C, *spatial), `power` is E |F x|^2 / N on the half spectrum, and `power_about_mean` is the
    power of the images without the mean image.
    """
    sample, grid = _sample(images), FrequencyGrid(images.shape[2:])

    def power(mean: Array | float) -> Array:
        parts = (len(block) * power_spectrum(array_signal(block) - mean, grid) for block in blocks(sample))
        return np.asarray(sum(parts) / len(sample))

    mean = np.asarray(sum(array_signal(block).sum(axis=0) for block in blocks(sample)) / len(sample))
    return {"mean": mean, "power": power(0.0), "power_about_mean": power(mean)}


def _sample(images: NDArray[Any]) -> NDArray[Any]:
    return images[:: max(1, len(images) // SAMPLE_IMAGES)]
