"""The exponent of a power spectrum, S(f) = c r^-beta (docs/theory.md, section 7)."""

from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import product
from math import prod
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from sagd_cli.errors import DataError
from sagd_cli.spectral.grid import Array, FrequencyGrid, format_shape
from sagd_cli.spectral.spectrum import Spectrum, hann_taper

OFFSET = 0.005  # cycles/sample, added to r: keeps the law of an image finite at DC
SLOPE, SLOPE_DEVIATION = 2.9, 0.5  # of natural images: a prior
FEWEST_ANNULI = 3
ROUNDING = 1e-28


@dataclass(frozen=True, eq=False)
class PowerLaw:
    """S = c r^-beta, r in cycles/sample, as fitted to the annuli from `low_rho` to `high_rho`.

    `beta_se`: the standard error of `beta` over images, or None for a single image. `log_c`: log c. `misfit_db`: the
    root mean square difference between the RAPSD and the law, in dB. `expected` (K',): the RAPSD that the law gives in
    the K' fitted annuli.
    """

    beta: float
    beta_se: float | None
    log_c: float
    misfit_db: float
    low_rho: float
    high_rho: float
    expected: Array

    def curve(self, rho: Array) -> tuple[float, float | None, Array, Array]:
        """Return beta, its standard error, the part of `rho` (K,) that was fitted, and the RAPSD of the law there."""
        fitted = rho[(rho >= self.low_rho) & (rho <= self.high_rho)]
        return self.beta, self.beta_se, fitted, self.expected


def fit_power_law(spectrum: Spectrum) -> PowerLaw:
    """Fit c r^-beta to the RAPSD by least squares of its logarithm, weighted by the bins of each annulus.

    DC, the corners (r > 0.5 cycles/sample) and, with a taper, its main lobe are left out. The RAPSD is compared with
    the one that the same measurement would give for the power law. So the width of annuli, the taper and the logarithm
    cause no bias. Raises DataError when fewer than 3 annuli are left or the images have no power in one of them.
    """
    expected = _ExpectedRapsd(spectrum)
    fitted = expected.fitted
    _check(spectrum, fitted)
    fit = _LeastSquares(expected, np.log(spectrum.rapsd[fitted]), spectrum.annuli.count[fitted])
    beta = float(scipy.optimize.minimize_scalar(fit.loss, bracket=(0.0, 3.0)).x)
    rho = spectrum.annuli.rho[fitted]
    log_c, error = fit.log_c(beta), _standard_error(spectrum, fit, beta)
    misfit = 10 / np.log(10) * np.sqrt(fit.loss(beta) / np.sum(fit.weights))
    curve = np.exp(log_c + expected.log_rapsd(beta))
    return PowerLaw(beta, error, log_c, float(misfit), float(rho[0]), float(rho[-1]), curve)


@dataclass(frozen=True, eq=False)
class _ExpectedRapsd:
    """The RAPSD that the measurement of `spectrum` would give for Gaussian fields with the power r^-beta."""

    spectrum: Spectrum

    @cached_property
    def fitted(self) -> NDArray[np.bool_]:
        """Which annuli take part in the fit, with shape (K,)."""
        grid = self.spectrum.grid
        radius = self.spectrum.annuli.rho * np.sqrt(grid.ndim) / 2
        lobe = np.sqrt(grid.ndim) / min(grid.shape) if self.spectrum.hann else 0.0
        return np.asarray((radius > lobe * (1 + 1e-9)) & (radius <= 0.5 * (1 + 1e-9)))

    def log_rapsd(self, beta: float) -> Array:
        """Return the expected logarithm of the RAPSD in the fitted annuli."""
        power = np.zeros(self.spectrum.grid.half_shape)
        np.power(self.spectrum.grid.radius, -beta, out=power, where=self.spectrum.grid.radius > 0)
        if self.spectrum.hann:
            power = _leak(power, self.spectrum.grid)
        return np.asarray(np.log(self.spectrum.annuli.mean(power)[self.fitted]) + self._log_bias)

    @cached_property
    def _log_bias(self) -> Array:
        """Expected logarithm of an average of n exponentials of mean 1; n counts an annulus' independent bins."""
        # f and -f together hold one exponential; a bin that is its own mirror counts as half of one.
        bins = self.spectrum.annuli.count / 2
        if self.spectrum.hann:
            bins = bins / self._correlated_bins
        n = bins[self.fitted] * self.spectrum.fields
        return np.asarray(scipy.special.digamma(n) - np.log(n))

    @cached_property
    def _correlated_bins(self) -> Array:
        """How many bins of its annulus, with itself, a bin's power is correlated with because of the taper, (K,)."""
        grid, index = self.spectrum.grid, self.spectrum.annuli.index
        kernel = _kernel([hann_taper(n) ** 2 for n in grid.shape])
        shared = [weight * (_shift(index, grid, shifts) == index) for shifts, weight in kernel]
        return self.spectrum.annuli.mean(np.sum(shared, axis=0) / kernel[0][1])


@dataclass(frozen=True, eq=False)
class _LeastSquares:
    """Weighted least squares of the log RAPSD against the expected one, with the best c for every beta."""

    expected: _ExpectedRapsd
    log_rapsd: Array
    weights: Array

    def log_c(self, beta: float) -> float:
        """Return the logarithm of the c that fits best."""
        return float(np.average(self.log_rapsd - self.expected.log_rapsd(beta), weights=self.weights))

    def loss(self, beta: float) -> float:
        """Return the weighted sum of the squared residuals."""
        residual = self.log_rapsd - self.expected.log_rapsd(beta)
        return float(self.weights @ (residual - np.average(residual, weights=self.weights)) ** 2)

    def influence(self, beta: float, step: float = 1e-3) -> Array:
        """Return the derivative of the fitted beta with respect to the log RAPSD of every annulus."""
        slope = (self.expected.log_rapsd(beta + step) - self.expected.log_rapsd(beta - step)) / (2 * step)
        slope = slope - np.average(slope, weights=self.weights)
        return self.weights * slope / (self.weights @ slope**2)


def _check(spectrum: Spectrum, fitted: NDArray[np.bool_]) -> None:
    if np.sum(fitted) < FEWEST_ANNULI:
        raise DataError(
            f"a spectrum of {format_shape(spectrum.grid.shape)} samples is too small to fit a power law to",
            f"It has {np.sum(fitted)} usable frequencies and {FEWEST_ANNULI} are needed: take larger images or tiles.",
        )
    absent = spectrum.rapsd[fitted] <= ROUNDING * np.max(spectrum.power)
    if np.all(absent):
        raise DataError(
            "the images are constant: they have no spectrum to fit", "Leave out the images without content."
        )
    if np.any(absent):
        rho = spectrum.annuli.rho[fitted][absent][0]
        raise DataError(
            f"the images have no power at rho = {rho:.3g}: no power law describes them",
            "They may have been enlarged or filtered: analyse the originals.",
        )


def _standard_error(spectrum: Spectrum, fit: _LeastSquares, beta: float) -> float | None:
    """Return the bootstrap standard error of beta over images, or None for a single image.

    The fit is linearised, which is exact enough within the spread of the replicates.
    """
    replicates = spectrum.replicates[:, fit.expected.fitted]
    replicates = replicates[np.all(replicates > 0, axis=1)]
    if spectrum.count < 2 or len(replicates) < 2:
        return None
    spread = np.std(np.log(replicates) @ fit.influence(beta))
    return float(spread * np.sqrt(spectrum.count / (spectrum.count - 1)))


def _leak(power: Array, grid: FrequencyGrid) -> Array:
    """Return the power (half spectrum) that periodic Gaussian fields have after tapering.

    `power` (half spectrum, even along every axis) is their power before. The result is its circular convolution with
    the taper's power kernel. It is computed as a sum of positive terms, which keeps its precision over the many
    decades of a steep spectrum. A product of transforms would not.
    """
    kernel = _kernel([hann_taper(n) for n in grid.shape])
    return reduce(np.add, (weight * _shift(power, grid, shifts) for shifts, weight in kernel))


def _kernel(tapers: list[Array]) -> list[tuple[tuple[int, ...], float]]:
    """Return the kernel |F h|^2 / (N sum h^2) as pairs (shifts in bins, weight), the shift 0 first.

    h is the product of `tapers`. The weights sum to 1.
    """
    return [
        (tuple(shifts), prod(weights))
        for shifts, weights in (zip(*taps, strict=True) for taps in product(*map(_taps, tapers)))
    ]


def _taps(taper: Array) -> list[tuple[int, float]]:
    kernel = np.abs(np.fft.fft(taper)) ** 2
    kernel = kernel / np.sum(kernel)
    return [(int(shift), float(kernel[shift])) for shift in np.flatnonzero(kernel > 1e-12)]


def _shift(values: NDArray[Any], grid: FrequencyGrid, shifts: tuple[int, ...]) -> NDArray[Any]:
    """Return `values` (half spectrum, even along every axis) at frequencies `shifts` bins further along each axis."""
    bins = [(np.arange(n) + shift) % n for n, shift in zip(grid.shape, shifts, strict=True)]
    last = bins[-1][: values.shape[-1]]
    bins[-1] = np.minimum(last, grid.shape[-1] - last)
    return values[np.ix_(*bins)]
