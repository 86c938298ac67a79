"""Synthetic fields for tests of spectra."""

import numpy as np

from sagd_cli.spectral.grid import FrequencyGrid


def natural(shape: tuple[int, ...], seed: int, count: int = 1, beta: float = 2.0) -> np.ndarray:
    """`count` Gaussian fields of power r^-beta and unit variance, cut from larger ones: like crops, not periodic."""
    grid = FrequencyGrid(tuple(2 * n for n in shape))
    weight = np.where(grid.radius > 0, grid.radius, np.inf) ** (-beta / 2)
    axes = tuple(range(1, grid.ndim + 1))
    white = np.random.default_rng(seed).standard_normal((count, *grid.shape))
    whole = np.fft.irfftn(np.fft.rfftn(white, axes=axes) * weight, s=grid.shape, axes=axes)
    cut = whole[(slice(None), *(slice(n) for n in shape))]
    return cut / cut.std()


def wave(shape: tuple[int, ...], frequency: tuple[float, ...], phase: float = 1.0) -> np.ndarray:
    angle = sum(f * i for f, i in zip(frequency, np.indices(shape), strict=True))
    return np.cos(2 * np.pi * angle + phase)


def gaussian_fields(count, shape, power, seed):
    """Gaussian fields (count, 1, *shape) whose power spectrum is `power` (half spectrum)."""
    white = np.random.default_rng(seed).standard_normal((count, 1, *shape))
    axes = (-2, -1)
    return np.fft.irfftn(np.fft.rfftn(white, axes=axes) * np.sqrt(power), s=shape, axes=axes)
