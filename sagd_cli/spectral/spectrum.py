"""Power spectra of images (MATH: 7. Spectra)."""

from functools import reduce

import numpy as np
from numpy.typing import NDArray

from sagd_cli.spectral.grid import Array, FrequencyGrid


def power_spectrum(images: NDArray[np.floating], grid: FrequencyGrid, hann: bool = False) -> Array:
    """Mean of |F x|^2 / N over `images` (M, ..., *spatial), on the half spectrum; the mean image is kept.

    White noise of variance s^2 has power s^2 at every frequency. `hann` tapers the images first, which keeps
    the borders of crops from leaking into high frequencies, and divides by the power of the taper.
    """
    axes = tuple(range(-grid.ndim, 0))
    fields = np.asarray(images, dtype=np.float64)
    scale = float(grid.size)
    if hann:
        # Half-sample offsets keep the taper positive, so that even a field of one sample has a spectrum.
        lines = [np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2 for n in grid.shape]
        taper = reduce(np.multiply.outer, lines)
        fields, scale = fields * taper, float(np.sum(taper**2))
    power = np.abs(np.fft.rfftn(fields, axes=axes)) ** 2 / scale
    return np.asarray(np.mean(power, axis=tuple(range(power.ndim - grid.ndim))))
