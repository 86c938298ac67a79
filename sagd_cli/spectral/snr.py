"""Signal-to-noise ratios of a filter on data with a known spectrum (MATH: 4. Forward process and loss).

`power` is S(f) on the half spectrum, |F x|^2 / N of the data about their mean; `level` is alpha_t^2 / sigma_t^2.
"""

import numpy as np

from sagd_cli.spectral.filter import SpectralFilter
from sagd_cli.spectral.grid import Array, FrequencyGrid
from sagd_cli.spectral.region import PRESETS, indicator

# Above this, samplers start from the wrong prior in the band.
LARGEST_TERMINAL_SNR = 0.01


def band_snr(spectral_filter: SpectralFilter, power: Array, level: float) -> dict[str, float | None]:
    """Level times sum S / sum w^2 over each preset band and over `all` frequencies; None where there is no noise."""
    grid = FrequencyGrid(spectral_filter.grid.shape)
    noise = spectral_filter.weight**2
    masks = {name: indicator(*edges, grid) for name, edges in {**PRESETS, "all": (0.0, 1.0)}.items()}
    totals = {name: (grid.total(power * mask), grid.total(noise * mask)) for name, mask in masks.items()}
    return {
        name: level * signal / shaped if shaped > 0 else None for name, (signal, shaped) in totals.items()
    }


def largest_snr(spectral_filter: SpectralFilter, power: Array, level: float) -> dict[str, float]:
    """Largest level S(f) / w(f)^2 of each preset band, on the filter's support."""
    grid = FrequencyGrid(spectral_filter.grid.shape)
    used = spectral_filter.support
    ratio = np.where(used, level * power / np.where(used, spectral_filter.weight, 1.0) ** 2, 0.0)
    return {
        name: float(np.max(ratio, where=indicator(*edges, grid), initial=0.0))
        for name, edges in PRESETS.items()
    }
