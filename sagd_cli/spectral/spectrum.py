"""Power spectra of images (docs/theory.md, section 7)."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sagd_cli.errors import DataError
from sagd_cli.spectral.annuli import Annuli
from sagd_cli.spectral.grid import Array, FrequencyGrid, format_shape

CHUNK = 2**20


def power_spectrum(images: NDArray[np.floating], grid: FrequencyGrid, hann: bool = False) -> Array:
    """Return the mean of |F x|^2 / N over `images` (M, ..., *spatial), on the half spectrum.

    The mean image is not subtracted. White noise of variance s^2 has power s^2 at every frequency. `hann` tapers the
    images first and divides by the power of the taper: so the borders of crops do not leak into high frequencies.
    """
    power = periodograms(images, grid, hann)
    return np.asarray(np.mean(power, axis=tuple(range(power.ndim - grid.ndim))))


def hann_taper(size: int) -> Array:
    """Return the Hann taper (size,) of one axis. The taper of a field is the outer product of those of its axes."""
    # Half-sample offsets keep the taper positive, so that even a field of one sample has a spectrum.
    return np.asarray(np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2)


def crop_spectrum(power: Array, grid: FrequencyGrid, crop: FrequencyGrid) -> Array:
    """Return the power spectrum (half spectrum of `crop`) of Hann-tapered crops of periodic Gaussian fields.

    The whole fields have `power` on the half spectrum of `grid`. The result is an exact sum over their frequencies,
    which are denser than those of the crop. So a band thinner than the crop's spacing keeps its power.
    """
    seen = grid.full(power) / grid.size
    for axis, (whole, side) in enumerate(zip(grid.shape, crop.shape, strict=True)):
        taper = hann_taper(side)
        waves = np.exp(2j * np.pi * np.fft.fftfreq(whole)[:, None] * np.arange(side))
        kernel = np.abs(np.fft.fft(taper * waves)) ** 2 / np.sum(taper**2)
        seen = np.moveaxis(np.tensordot(kernel, seen, axes=(0, axis)), 0, axis)
    return np.asarray(seen[..., : crop.half_shape[-1]])


def periodograms(images: NDArray[np.floating], grid: FrequencyGrid, hann: bool) -> Array:
    """Return |F x|^2 / N (..., *half_shape) of every field of `images` (..., *spatial), tapered first with `hann`."""
    fields = np.asarray(images, dtype=np.float64)
    scale = float(grid.size)
    if hann:
        taper = reduce(np.multiply.outer, [hann_taper(n) for n in grid.shape])
        fields, scale = fields * taper, float(np.sum(taper**2))
    return np.asarray(np.abs(np.fft.rfftn(fields, axes=tuple(range(-grid.ndim, 0)))) ** 2 / scale)


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The mean power of `count` images on the half spectrum of `grid`, with bootstrap replicates for its errors.

    `power` has shape `half_shape`. `fields` is the number of tiles without common samples that it was measured on.
    `hann` says whether the tiles were tapered. `replicates` (B, K) are the RAPSDs of Poisson-bootstrap samples of the
    images.
    """

    grid: FrequencyGrid
    power: Array
    count: int
    fields: int
    hann: bool
    replicates: Array

    @cached_property
    def annuli(self) -> Annuli:
        """The K annuli of `rapsd` and `replicates`."""
        return Annuli(self.grid)

    @cached_property
    def rapsd(self) -> Array:
        """Radially averaged power spectral density, with shape (K,)."""
        return self.annuli.mean(self.power)


class SpectrumAverage:
    """The mean power spectrum of images that are added one by one; memory does not grow with their number.

    A field larger than `tile` is covered by half-overlapping tiles (Welch, IEEE Trans. Audio Electroacoust. 1967); the
    last tile ends at the border. The mean of each tile is subtracted unless `keep_mean`, and the tile is tapered with
    `hann`. Every image has the same weight. In each of the `replicates` bootstrap samples, each image has a Poisson(1)
    weight, a function of `seed` and of the order of the images (Hanley & MacGibbon, Comput. Methods Programs Biomed.
    2006).
    """

    def __init__(
        self,
        tile: tuple[int, ...],
        hann: bool,
        keep_mean: bool = False,
        replicates: int = 200,
        seed: int = 0,
    ) -> None:
        self.grid = FrequencyGrid(tile)
        self.hann = hann
        self.keep_mean = keep_mean
        self._annuli = Annuli(self.grid)
        self._random = np.random.default_rng(seed)
        self._power = np.zeros(self.grid.half_shape)
        self._weights = np.zeros(replicates)
        self._weighted = np.zeros((replicates, len(self._annuli.count)))
        self._count = 0
        self._fields = 0

    def add(self, field: NDArray[Any]) -> None:
        """Add one image `field` (C, *spatial).

        Raises DataError when it is smaller than the tile or holds values that are not finite.
        """
        self._check(field)
        power = self._mean_power(field)
        weights = self._random.poisson(1.0, len(self._weights))
        self._power += power
        self._weights += weights
        self._weighted += np.multiply.outer(weights, self._annuli.mean(power))
        self._count += 1
        self._fields += int(np.prod(np.array(field.shape[1:]) // self.grid.shape))

    def result(self) -> Spectrum:
        """Return the mean spectrum of the images added so far; raise DataError when there are none."""
        if self._count == 0:
            raise DataError("there is no image to take a spectrum of", "Give at least one image.")
        drawn = self._weights > 0
        replicates = self._weighted[drawn] / self._weights[drawn, np.newaxis]
        power = self._power / self._count
        return Spectrum(self.grid, power, self._count, self._fields, self.hann, replicates)

    def _check(self, field: NDArray[Any]) -> None:
        spatial, tile = field.shape[1:], self.grid.shape
        if len(spatial) != len(tile) or any(n < t for n, t in zip(spatial, tile, strict=True)):
            raise DataError(
                f"an image of {format_shape(spatial)} samples does not hold a tile of {format_shape(tile)}",
                "Take a smaller tile or leave the image out.",
            )
        if not np.all(np.isfinite(field)):
            raise DataError("the image holds values that are not finite", "Mend or leave out the image.")

    def _mean_power(self, field: NDArray[Any]) -> Array:
        """Mean power over the channels and tiles of one image (C, *spatial)."""
        corners = self._corners(field.shape)
        windows = np.lib.stride_tricks.sliding_window_view(
            field, self.grid.shape, axis=tuple(range(1, field.ndim))
        )
        chunks = _chunks(corners, max(1, CHUNK // self.grid.size))
        total = sum((self._sum_of_powers(windows[tuple(chunk)]) for chunk in chunks), np.zeros(()))
        return np.asarray(total / corners.shape[1])

    def _corners(self, shape: tuple[int, ...]) -> NDArray[np.int64]:
        """Return one column for each tile of a field of `shape`: its channel and its first sample along each axis."""
        starts = [_starts(n, t) for n, t in zip(shape[1:], self.grid.shape, strict=True)]
        return np.stack(np.meshgrid(np.arange(shape[0]), *starts, indexing="ij")).reshape(len(shape), -1)

    def _sum_of_powers(self, tiles: NDArray[Any]) -> Array:
        """Sum of the power of `tiles` (M, *tile)."""
        values = tiles.astype(np.float64)
        if not self.keep_mean:
            axes = tuple(range(1, values.ndim))
            # The first sample goes before the mean, so that a constant tile leaves 0 without rounding.
            values -= values[(slice(None), *[slice(1)] * len(axes))]
            values -= np.mean(values, axis=axes, keepdims=True)
        return np.asarray(np.sum(periodograms(values, self.grid, self.hann), axis=0))


def _starts(side: int, tile: int) -> NDArray[np.int64]:
    """Return the first samples of half-overlapping tiles along an axis; the last tile ends where the axis ends."""
    return np.unique(np.append(np.arange(0, side - tile, max(1, tile // 2)), side - tile))


def _chunks(columns: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    for first in range(0, columns.shape[1], size):
        yield columns[:, first : first + size]
