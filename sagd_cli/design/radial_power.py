"""The power of images about their mean image, measured as they come by (docs/theory.md, section 7)."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sagd_cli.data.ranges import array_signal
from sagd_cli.spectral.annuli import Annuli
from sagd_cli.spectral.grid import Array, FrequencyGrid
from sagd_cli.spectral.region import PRESETS, indicator


@dataclass(frozen=True, eq=False)
class RadialPower:
    """The power E |F (x - E x)|^2 / N of images; white noise of variance s^2 has the power s^2 everywhere.

    `power` is that on the half spectrum of `grid`, `annuli` (K,) its mean over each annulus, and `bands` (3,) its mean
    over the bands low, mid and high. `annuli_se` and `bands_se` are their standard errors over images.
    """

    grid: FrequencyGrid
    power: Array
    annuli: Array
    annuli_se: Array
    bands: Array
    bands_se: Array

    @cached_property
    def rho(self) -> Array:
        """The normalised radius (K,) of each annulus."""
        return Annuli(self.grid).rho


class PowerAverage:
    """Measures RadialPower on images that are seen once; they are taken as whole periodic fields.

    It uses Welford's recurrence at each frequency. Let m be the mean of the i - 1 images before. Then
    |F (x_i - m)|^2 (i - 1) / i has the expectation that is sought. To first order it does not depend on the other
    images, which gives the standard error.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        """Start without images; they will have the `shape` (C, *spatial)."""
        self._grid = FrequencyGrid(shape[1:])
        self._annuli = Annuli(self._grid)
        weights = [indicator(*edges, self._grid) * self._grid.multiplicity for edges in PRESETS.values()]
        self._bands = np.stack([w.ravel() / max(w.sum(), 1) for w in weights])
        self._mean = np.zeros((shape[0], *self._grid.half_shape), complex)
        self._power = np.zeros(self._grid.half_shape)
        # Sums of values and of their squares.
        self._radial = np.zeros((2, len(self._annuli.count) + len(PRESETS)))
        self._count = 0

    def add(self, image: NDArray[Any]) -> None:
        """Take in the next image (C, *spatial), which `array_signal` maps to [-1, 1]."""
        axes = tuple(range(1, image.ndim))
        spectrum = np.fft.rfftn(array_signal(image), axes=axes) / np.sqrt(self._grid.size)
        self._count += 1
        difference = spectrum - self._mean
        self._mean += difference / self._count
        if self._count == 1:
            return
        power = np.mean(np.abs(difference) ** 2, axis=0) * ((self._count - 1) / self._count)
        self._power += power
        radial = np.append(self._annuli.mean(power), self._bands @ power.ravel())
        self._radial += np.stack([radial, radial**2])

    def result(self) -> RadialPower:
        """Return what was measured; it takes at least 3 images."""
        terms = self._count - 1
        mean, square = self._radial / terms
        error = np.sqrt(np.maximum(square - mean**2, 0) / (terms - 1))
        k = len(self._annuli.count)
        return RadialPower(self._grid, self._power / terms, mean[:k], error[:k], mean[k:], error[k:])
