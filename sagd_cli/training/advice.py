"""What a training is warned of before it starts."""

import numpy as np
import torch
from numpy.typing import NDArray

from sagd_cli.console import Output
from sagd_cli.diffusion.schedule import Schedule
from sagd_cli.spectral.filter import SpectralFilter
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.region import PRESETS, indicator
from sagd_cli.spectral.spectrum import power_spectrum

LARGEST_TERMINAL_SNR = 0.01
IMAGES = 2048


def terminal_snr(
    schedule: Schedule, spectral_filter: SpectralFilter, images: NDArray[np.uint8]
) -> dict[str, float]:
    """Largest alpha_1^2 S(f) / (sigma_1^2 w(f)^2) of each preset band, on the filter's support (MATH: 4.).

    S is the power spectrum of `images` (N, C, *spatial) without their mean image, on the [-1, 1] range.
    """
    grid = FrequencyGrid(spectral_filter.grid.shape)
    fields = images[:: max(1, len(images) // IMAGES)].astype(np.float64) / 127.5
    power = power_spectrum(fields - fields.mean(axis=0), grid)
    level = float(torch.exp(schedule.log_snr(torch.ones(()))))
    used = spectral_filter.support
    ratio = np.where(used, level * power / np.where(used, spectral_filter.weight, 1.0) ** 2, 0.0)
    return {
        name: float(np.max(ratio, where=indicator(*edges, grid), initial=0.0))
        for name, edges in PRESETS.items()
    }


def warn_of_terminal_snr(
    schedule: Schedule, spectral_filter: SpectralFilter, images: NDArray[np.uint8], output: Output
) -> None:
    """Warn when samplers would start from the wrong prior in some band: no number of steps repairs that."""
    for name, value in terminal_snr(schedule, spectral_filter, images).items():
        if value > LARGEST_TERMINAL_SNR:
            output.warn(
                f"the data still show through the noise at t = 1 in the band {name}: signal to noise {value:.3g}, "
                f"above {LARGEST_TERMINAL_SNR}; samples will be wrong there, so give the filter more weight in it"
            )
