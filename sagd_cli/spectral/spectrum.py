"""Power spectra of images (MATH: 7. Spectra)."""

import numpy as np
from numpy.typing import NDArray

from sagd_cli.spectral.grid import Array, FrequencyGrid


def power_spectrum(images: NDArray[np.floating], grid: FrequencyGrid) -> Array:
    """Mean of |F x|^2 / N over `images` (M, ..., *spatial), on the half spectrum; the mean image is kept.

    White noise of variance s^2 has power s^2 at every frequency.
    """
    axes = tuple(range(-grid.ndim, 0))
    spectra = np.fft.rfftn(np.asarray(images, dtype=np.float64), axes=axes)
    return np.asarray(np.mean(np.abs(spectra) ** 2, axis=tuple(range(spectra.ndim - grid.ndim))) / grid.size)
