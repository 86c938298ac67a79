"""A smooth spectrum of noise, from that of a few images, which scatters; lines and peaks stay what they are."""

from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np
import scipy
from numpy.typing import NDArray

from sagd_cli.spectral.grid import Array, FrequencyGrid

FALSE_PEAKS = 1e-3  # expected over a whole spectrum of Gaussian noise
BLOCK, MOST_BLOCKS = (
    8,
    64,
)  # frequencies a side at least, and blocks along an axis at most, of the smooth part
LINE_SIGMAS = 6.0  # by which the median along a line exceeds that of all frequencies
FAINTEST_POWER = 1e-12  # of the largest: below it there is only rounding
FAR_ABOVE = 20.0  # times the median, which noise without a peak does not reach

_Places = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class SmoothedSpectrum:
    """A power spectrum of fields of two axes: a smooth part, and what is one frequency wide.

    `smooth` is on the full spectrum, DC first. `columns` are the places of lines f_x = const and their powers above it
    (shape[0], lines). `rows` are those of lines f_y = const (shape[1], lines). `peaks` are the places (M, 2) of single
    frequencies and their powers (M,) above all that.
    """

    smooth: Array
    columns: tuple[_Places, Array]
    rows: tuple[_Places, Array]
    peaks: tuple[_Places, Array]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the fields that it was measured on."""
        return self.smooth.shape

    def power(self, grid: FrequencyGrid) -> Array:
        """Return E|F n|^2 / N on the half spectrum of `grid`, of any shape of two axes; it is 0 at DC.

        On another grid the variance of the noise stays. Each frequency of the smooth part has the mean power over its
        width. A line that is one frequency wide stays so, and its power grows with the number of samples across it:
        rows of W samples, each offset by a number of deviation s, have the power W s^2 on the axis f_x = 0. The power
        of a peak grows with the number of all samples. It is shared by the nearest two frequencies along either axis.
        """
        (spread_y, spread_x), (whole_y, whole_x) = (
            [change(old, new) for old, new in zip(self.shape, grid.shape, strict=True)]
            for change in (_spread, _whole)
        )
        spread_x, whole_x = spread_x[: grid.half_shape[1]], whole_x[: grid.half_shape[1]]
        total = spread_y @ (spread_x @ self.smooth.T).T
        places, power = self.columns
        total += (whole_x[:, places] @ (spread_y @ power).T).T
        places, power = self.rows
        total += whole_y[:, places] @ (spread_x @ power).T
        places, power = self.peaks
        total += (
            whole_y[:, places[:, 0]] @ scipy.sparse.diags_array(power) @ whole_x[:, places[:, 1]].T
        ).toarray()
        total[0, 0] = 0.0
        return np.asarray(total)


def smoothed_spectrum(power: Array, count: int) -> SmoothedSpectrum:
    """Return the likely spectrum of Gaussian noise of which `count` images have the mean `power` (full spectrum).

    That of one image scatters by 100 % about it. The smooth part is the product of a function of the radius and one of
    blocks of 8x8 frequencies or more. A line along an axis is where the median along it is far above the rest; it is
    smoothed along itself. What is farther from all this than noise is in one of 1,000 spectra keeps its power: peaks,
    and in the mean of many images edges.
    Lines and peaks that are two or more frequencies wide are in the smooth part.
    """
    floor = FAINTEST_POWER * power.max()
    seen = np.maximum(power, floor)
    level = _radial(seen)
    level *= _blocks(seen / level)
    level = (level + _mirrored(level)) / 2
    lines = [_lines(seen, level), _lines(seen.T, level.T)]
    model = level.copy()
    for view, (places, excess) in zip((model, model.T), lines, strict=True):
        view[:, places] += excess
    # The median of noise is below its mean, by how much depends on how many spectra were averaged.
    above = seen / model
    usual = above[(power > floor) & (above < FAR_ABOVE)]
    bias = float(usual.mean()) if usual.size else 1.0
    smooth, model = np.where(level > 2 * floor, bias * level, 0.0), bias * model
    single = []
    for view, (places, excess) in zip((smooth, smooth.T), lines, strict=True):
        beside = [(places + step) % view.shape[1] for step in (1, -1)]
        alone = ~np.isin(places, beside)
        view[:, places[~alone]] += bias * excess[:, ~alone]
        single.append((places[alone], bias * excess[:, alone]))
    excess = power - model
    rare = FALSE_PEAKS / power.size
    low = power < scipy.special.gammaincinv(count, rare) / count * model
    high = power > scipy.special.gammainccinv(count, rare) / count * model
    near = scipy.ndimage.convolve(high.astype(np.int8), np.ones((3, 3), np.int8), mode="wrap")
    wide, peaks = low | (high & (near > 1)), high & (near == 1)
    smooth[wide] = np.maximum(smooth + excess, 0)[wide]
    return SmoothedSpectrum(smooth, single[0], single[1], (np.argwhere(peaks), excess[peaks]))


def spread_power(power: Array, grid: FrequencyGrid, other: FrequencyGrid) -> Array:
    """Return a power spectrum of fields of `grid` on the half spectrum of `other`; their variance stays.

    Each frequency has the mean power over its width. So a crop has as much noise as the whole: what fills one
    frequency of the whole has less power in the wider ones of the crop.
    """
    full = grid.full(power)
    for axis, (old, new) in enumerate(zip(grid.shape, other.shape, strict=True)):
        moved = np.moveaxis(full, axis, 0)
        spread = _spread(old, new) @ moved.reshape(old, -1)
        full = np.moveaxis(spread.reshape(new, *moved.shape[1:]), 0, axis)
    return full[..., : other.half_shape[-1]]


def _radial(seen: Array) -> Array:
    """Return a smooth function of the radius: at each radius the geometric mean, which lines and peaks move little.

    It is a local line in the logarithms of radius and power, over more radii where these are few.
    """
    side = max(seen.shape)
    radius = side * np.hypot(*np.ix_(*(np.fft.fftfreq(n) for n in seen.shape)))
    ring = np.rint(radius).astype(int)
    weight = np.ones(seen.shape)
    weight[0], weight[:, 0] = 1e-3, 1e-3  # where lines often are
    weight[0, 0] = 0.0
    weights = np.bincount(ring.ravel(), weight.ravel())
    rings = np.flatnonzero(weights)
    weights = weights[rings]
    sums = np.bincount(ring.ravel(), (weight * np.log(seen)).ravel())[rings]
    place = np.bincount(ring.ravel(), (weight * np.log(np.maximum(radius, 1))).ravel())[rings] / weights
    width = np.clip(8 / rings**2, 0.35 / rings, 0.8)
    offset = place - place[:, None]
    kernel = np.exp(-0.5 * (offset / width[:, None]) ** 2)
    s0, s1, s2 = (kernel * offset**k @ weights for k in range(3))
    t0, t1 = (kernel * offset**k @ sums for k in range(2))
    spread = s0 * s2 - s1**2
    sure = spread > 1e-6 * s0**2 * width**2
    fitted = np.where(sure, s2 * t0 - s1 * t1, t0) / np.where(sure, spread, s0)
    return np.asarray(np.exp(np.interp(np.log(np.maximum(radius, 1.0)), place, fitted)))


def _blocks(rest: Array) -> Array:
    """Return the medians of blocks, smoothed, at every frequency."""
    sides = [min(n, max(BLOCK, ceil(n / MOST_BLOCKS))) for n in rest.shape]
    counts = [ceil(n / side) for n, side in zip(rest.shape, sides, strict=True)]
    (across, down), (side_y, side_x) = counts[::-1], sides
    padding = [(0, k * side - n) for n, k, side in zip(rest.shape, counts, sides, strict=True)]
    blocks = np.pad(rest, padding, mode="wrap").reshape(down, side_y, across, side_x).swapaxes(1, 2)
    medians = np.median(blocks.reshape(down, across, -1), axis=2)
    medians = scipy.ndimage.median_filter(medians, 3, mode="wrap")
    places = [(np.arange(n) - (side - 1) / 2) / side for n, side in zip(rest.shape, sides, strict=True)]
    for axis, place in enumerate(places):
        low = np.clip(np.floor(place).astype(int), 0, medians.shape[axis] - 1)
        high = np.minimum(low + 1, medians.shape[axis] - 1)
        share = np.clip(place - low, 0, 1).reshape([-1, 1][:: 1 if axis == 0 else -1])
        medians = (1 - share) * medians.take(low, axis) + share * medians.take(high, axis)
    return np.asarray(medians)


def _mirrored(values: Array) -> Array:
    """Return the values of a full spectrum at the opposite frequencies."""
    return np.roll(values[::-1, ::-1], 1, axis=(0, 1))


def _lines(seen: Array, level: Array) -> tuple[_Places, Array]:
    """Return the places of columns that stand out, and what they have above `level`, smoothed along themselves."""
    ratio = seen / level
    typical = float(np.median(ratio))
    # The relative deviation of a median of n exponential numbers is 1.44 / sqrt(n); half of them are mirrors.
    least = typical * (1 + LINE_SIGMAS * 2.04 / sqrt(len(seen)))
    places = np.flatnonzero(np.median(ratio, axis=0) > least)
    size = max(11, len(seen) // 8) | 1
    along = scipy.ndimage.median_filter(seen[:, places], (size, 1), mode="wrap") / typical
    along = np.where(seen[:, places] > seen.min(), (along + along[-np.arange(len(along))]) / 2, 0.0)
    return places, np.maximum(along - level[:, places], 0.0)


def _spread(old: int, new: int) -> "scipy.sparse.csr_array":
    """Return the map (new, old) that gives each new frequency of an axis the mean of the old ones over its width."""
    # In units of 1 / (2 old new) cycles/sample all ends are whole numbers.
    whole = 2 * old * new
    ends = [(2 * np.arange(n) - 1) * other % whole for n, other in ((old, new), (new, old))]
    breaks = np.unique(np.concatenate(ends))
    widths = np.diff(breaks, append=breaks[0] + whole)
    middles = 2 * breaks + widths
    places = [(middles + 2 * other) // (4 * other) % n for n, other in ((new, old), (old, new))]
    return scipy.sparse.csr_array((widths / (2 * old), tuple(places)), shape=(new, old))


def _whole(old: int, new: int) -> "scipy.sparse.csr_array":
    """Return the map (new, old) that gives what is at each old frequency to the new one there, or to two neighbours."""
    signed = (np.arange(old) + old // 2) % old - old // 2
    low, rest = np.divmod(signed * new, old)
    places = (np.concatenate([low, low + 1]) % new, np.tile(np.arange(old), 2))
    weights = np.concatenate([1 - rest / old, rest / old]) * (new / old)
    return scipy.sparse.csr_array((weights, places), shape=(new, old))
