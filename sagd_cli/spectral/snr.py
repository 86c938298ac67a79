"""Signal-to-noise ratios of a filter on data with a known spectrum (docs/theory.md, section 4.5).

`power` is S(f) on the half spectrum, |F x|^2 / N of the data about their mean; `level` is alpha_t^2 / sigma_t^2.
"""

import numpy as np

from sagd_cli.spectral.filter import SpectralFilter
from sagd_cli.spectral.grid import Array, FrequencyGrid
from sagd_cli.spectral.region import PRESETS, indicator

# Above this ratio at t = 1, the noise that samplers start from differs too much from x_T in the band.
LARGEST_TERMINAL_SNR = 0.01


def band_snr(spectral_filter: SpectralFilter, power: Array, level: float) -> dict[str, float | None]:
    """Return level * (sum of S) / (sum of w^2) for each preset band, and for `all` frequencies.

    The value is None for a band without noise.
    """
    grid = FrequencyGrid(spectral_filter.grid.shape)
    noise = spectral_filter.weight**2
    masks = {name: indicator(*edges, grid) for name, edges in {**PRESETS, "all": (0.0, 1.0)}.items()}
    totals = {name: (grid.total(power * mask), grid.total(noise * mask)) for name, mask in masks.items()}
    return {
        name: level * signal / shaped if shaped > 0 else None for name, (signal, shaped) in totals.items()
    }


def largest_snr(spectral_filter: SpectralFilter, power: Array, level: float) -> dict[str, float]:
    """Return the largest value of level * S(f) / w(f)^2 in each preset band, on the filter's support."""
    grid = FrequencyGrid(spectral_filter.grid.shape)
    used = spectral_filter.support
    ratio = np.where(used, level * power / np.where(used, spectral_filter.weight, 1.0) ** 2, 0.0)
    return {
        name: float(np.max(ratio, where=indicator(*edges, grid), initial=0.0))
        for name, edges in PRESETS.items()
    }
