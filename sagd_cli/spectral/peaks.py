"""Periodic interference and scan lines in a power spectrum (docs/theory.md, section 7).

Interference lies on isolated peaks, scan lines and curtains on a narrow line along one frequency axis, above a
background that in natural images is steep, anisotropic and smooth. Both are told from it by comparison with the
bins beside them. A peak must rise above the bins in *every* direction, so that neither a steep slope nor a ridge
is one. A stripe must rise above the parallel lines on both sides, along most of its length.
"""

from dataclasses import dataclass
from itertools import product
from math import ceil, floor, log10, pi
from typing import Literal

import numpy as np
import scipy
from numpy.typing import NDArray

from sagd_cli.spectral.band import STRIPE_GUARD, Notch, Stripe
from sagd_cli.spectral.grid import Array, FrequencyGrid
from sagd_cli.spectral.lattice import Lattice, find_lattice

Kind = Literal["notch", "stripe-horizontal", "stripe-vertical"]
Bins = NDArray[np.intp]

FALSE_ALARMS = 1e-3  # expected over a whole spectrum of Gaussian noise
PEAK_FLOOR_DB = (
    10.0  # photographs are not Gaussian noise: bins of their smooth spectra reach 8 to 9 dB, rarely 10
)
# A peak with a smaller share of a field's variance is ignored. It is the share that rounding to 8 bits has (a variance
# of 1/12) in a photograph of ordinary contrast (a standard deviation of 50 levels). The Kodak images have such a peak
# at (1/2, 1/2).
FAINTEST = 1 / 12 / 50**2
HARMONIC_FLOOR_DB = 8.0  # of a peak on a lattice: it lies where one is expected
STRIPE_FLOOR_DB = 7.5  # house fronts, brick courses and planks reach 5 to 7 dB
WIDEST_PEAK = (
    0.25  # radius in cycles/sample; a wider disc and its mirror are two fifths of an image's spectrum
)
LOBE = 2  # half width of the main lobe of the Hann taper, in bins
# Neighbours up to this distance, in bins, give the background. A bar of a signal is one bin thick, so it has to be
# longer than a bar of an image, which is three bins thick, to hold about as many bins.
REACH = {1: 24, 2: 10, 3: 10}
STRIPE_SIDES = range(4, 9)  # bins off the axis that give a stripe's background; near, as edges widen slowly
STRIPE_SMALLEST = 64  # samples along either axis: in a smaller image, an edge often runs right across
LINE_START = 0.2  # cycles/sample; below it the edges in a picture dominate the axes, above it they have faded
# Bins of a Hann-tapered spectrum per independent bin and axis: 1 + 2 (2/3)^2 + 2 (1/6)^2, from the taper's
# autocorrelation (Percival and Walden, Spectral Analysis for Physical Applications, 1993, section 6.6).
CORRELATED_BINS = 35 / 18
NOISE_BANDWIDTH = 1.5  # of the Hann taper, bins per axis: power of a sinusoid over that of its highest bin


@dataclass(frozen=True)
class Peak:
    """A peak or stripe of the power spectrum; its mirror at the opposite frequency is implied.

    `center` is in cycles/sample; it is None along the axis that a stripe runs along. `extent` is the radius of a peak
    or the full width of a stripe, in cycles/sample. `excess_db` is the height above the background; for a stripe it is
    the median along its line.
    """

    kind: Kind
    center: tuple[float | None, ...]
    extent: float
    excess_db: float

    @property
    def part(self) -> Notch | Stripe:
        """Where it is, with numbers of four digits, rounded so that all of the peak is inside."""
        _, _, side = self.kind.partition("-")
        if side:
            return Stripe(side, _rounded_up(self.extent))
        exact = np.array([f for f in self.center if f is not None])
        rounded = tuple(float(f"{f:.4g}") for f in exact)
        return Notch(rounded, _rounded_up(self.extent + float(np.linalg.norm(rounded - exact))))

    @property
    def band(self) -> str:
        """The BAND for `sagd omit --band`."""
        return str(self.part)


def find_peaks(power: Array, grid: FrequencyGrid, count: int) -> tuple[list[Peak], Lattice | None]:
    """Return the peaks and stripes of `power`, strongest first, and the lattice of an image's peaks.

    `power` is the Hann-tapered power spectrum on the half spectrum of `grid`, the mean over `count` independent
    fields that have lost their means. A peak must be 10 dB above its background, and so high that Gaussian noise of
    that background has such a peak in fewer than one of 1,000 spectra. On the lattice of the other peaks of an image, 8
    dB are enough. A stripe must be 7.5 dB above its background. Stripes are sought in two dimensions only, from 64
    samples along both axes. A field of less than 21 samples along an axis (49 in one dimension) has no room for a
    background, and no peaks.
    """
    if min(grid.shape) <= 2 * REACH[grid.ndim] or not power.any():
        return [], None
    # Below -200 dB of the highest bin there is only rounding error.
    spectrum = np.maximum(grid.full(power), 1e-20 * power.max())
    stripes = _stripes(spectrum, count) if grid.ndim == 2 and min(grid.shape) >= STRIPE_SMALLEST else []
    peaks, lattice = _isolated(spectrum, grid, count, stripes)
    return sorted(stripes + peaks, key=lambda peak: -peak.excess_db), lattice


def _median_bias_db(count: int) -> float:
    """Return how far the median of a mean of `count` periodograms lies below its expectation, in dB."""
    return 10 * log10(count / float(scipy.special.gammaincinv(count, 0.5)))


def _threshold_db(grid: FrequencyGrid, count: int) -> float:
    """Return the excess in dB that any bin of Gaussian noise on `grid` reaches with probability `FALSE_ALARMS`.

    A bin is Gamma(count)/count times the background. The background is itself the highest of the medians of some such
    bins, and the quantile of a median of M bins is Beta((M + 1)/2, (M + 1)/2).
    """
    bars = _bars(grid.ndim)
    half = (np.mean([len(bar) for bar in bars]) / CORRELATED_BINS**grid.ndim + 1) / 2
    quantile = np.linspace(0, 1, 2001)[1:-1]
    density = (quantile * (1 - quantile)) ** (half - 1)  # of the Beta law, but for its scale
    weight = density * scipy.special.betainc(half, half, quantile) ** (len(bars) - 1)
    background = scipy.special.gammaincinv(count, quantile) / scipy.special.gammaincinv(count, 0.5)

    def surplus(log_excess: float) -> float:
        exceeding = scipy.special.gammaincc(count, count * np.exp(log_excess) * background)
        return float(np.log(np.average(exceeding, weights=weight) * grid.size / 2 / FALSE_ALARMS + 1e-300))

    return 10 * log10(np.e) * float(scipy.optimize.brentq(surplus, 0, 20))


def _bars(ndim: int) -> list[Bins]:
    """Return for each direction the offsets (M, ndim), in bins, of the neighbours outside the main lobe.

    Directions are those of the integer vectors with components of at most 2; there are 16 in two dimensions.
    """
    reach = REACH[ndim]
    offsets = np.array(list(product(range(-reach, reach + 1), repeat=ndim)))
    bars = []
    for vector in product(range(-2, 3), repeat=ndim):
        if np.gcd.reduce(vector) != 1:
            continue
        along = offsets @ vector / np.linalg.norm(vector)
        across = np.sqrt(np.maximum(np.sum(offsets**2, axis=1) - along**2, 0))
        bars.append(offsets[(along > LOBE) & (along <= reach) & (across < 1 + 1e-9)])
    return bars


def _summits(spectrum: Array, grid: FrequencyGrid) -> Bins:
    """Return the bins (M, ndim), as signed multiples of 1/n, that are the highest within a main lobe.

    Left out are bins whose main lobe meets that of DC, and bins so near to DC that the bars towards it lie mostly
    beyond it, where the background is lower again.
    """
    highest = spectrum == scipy.ndimage.maximum_filter(spectrum, 2 * LOBE + 1, mode="wrap")
    found = np.argwhere(highest[..., : grid.half_shape[-1]])
    shape = np.array(grid.shape)
    signed = (found + (shape - 1) // 2) % shape - (shape - 1) // 2
    nearest = max(2 * LOBE, REACH[grid.ndim] // 3)
    return np.asarray(signed[np.linalg.norm(signed, axis=1) > nearest])


def _background_db(level: Array, summits: Bins, bias: float) -> Array:
    """Return the background (M,) at the summits, in dB: of the bars around a summit the one with the highest median."""
    medians = [
        np.median(level[tuple(np.moveaxis((summits[:, None] + bar) % level.shape, -1, 0))], axis=1)
        for bar in _bars(level.ndim)
    ]
    return np.asarray(np.max(medians, axis=0) + bias)


def _isolated(
    spectrum: Array, grid: FrequencyGrid, count: int, stripes: list[Peak]
) -> tuple[list[Peak], Lattice | None]:
    """Return the peaks that no stripe covers, strongest first, then lower ones on their lattice; and the lattice."""
    level, summits = 10 * np.log10(spectrum), _summits(spectrum, grid)
    excess = level[tuple(summits.T)] - _background_db(level, summits, _median_bias_db(count))
    floor_db = max(PEAK_FLOOR_DB, _threshold_db(grid, count))
    frequencies = summits / np.array(grid.shape)
    pair = np.where(np.all(2 * frequencies % 1 == 0, axis=1), 1, 2)  # a bin at Nyquist is its own mirror
    share = pair * NOISE_BANDWIDTH**grid.ndim * spectrum[tuple(summits.T)] / np.sum(spectrum)
    free = (share > FAINTEST) & ~_covered(frequencies, stripes)
    peaks = _separate(spectrum, frequencies, np.where(free & (excess > floor_db), excess, 0.0))
    if grid.ndim != 2 or len(peaks) < 2:
        return peaks, None
    found = np.array([peak.center for peak in peaks], dtype=np.float64)
    lattice = find_lattice(found, grid.shape)
    if lattice is None:
        return peaks, None
    for peak in peaks:
        free &= _outside(frequencies, peak)
    lower = free & (excess > min(HARMONIC_FLOOR_DB, floor_db)) & lattice.holds(frequencies)
    return peaks + _separate(spectrum, frequencies, np.where(lower, excess, 0.0)), lattice


def _separate(spectrum: Array, frequencies: Array, excess: Array) -> list[Peak]:
    """Return a peak for each of the frequencies with an excess, in dB, but for those within a higher one's extent.

    What has rings wider than `WIDEST_PEAK` is not isolated, and no peak; nor is what lies within it.
    """
    excess, peaks = excess.copy(), []
    while excess.any():
        top = int(np.argmax(excess))
        here = tuple(np.rint(frequencies[top] * spectrum.shape).astype(int))
        radius = _radius(spectrum, frequencies[top], spectrum[here] / 10 ** (excess[top] / 10))
        peak = Peak("notch", _representative(frequencies[top]), radius, float(excess[top]))
        if radius <= WIDEST_PEAK:
            peaks.append(peak)
        excess *= _outside(frequencies, peak)
    return peaks


def _outside(frequencies: Array, peak: Peak) -> NDArray[np.bool_]:
    """Tell which of the frequencies (M, d) lie outside the extent of a peak and of its mirror."""
    center = np.array(peak.center, dtype=np.float64)
    distances = [np.linalg.norm(_wrapped(frequencies - sign * center), axis=1) for sign in (1, -1)]
    return np.asarray(np.min(distances, axis=0) > peak.extent)


def _wrapped(difference: Array) -> Array:
    """Return differences of frequency on the torus, in cycles/sample within [-1/2, 1/2]."""
    return difference - np.round(difference)


def _representative(frequency: Array) -> tuple[float, ...]:
    """Return the frequency or its mirror, whichever has the larger last component; -1/2 becomes 1/2."""
    both = [tuple(float(f) if f > -0.5 else 0.5 for f in sign * frequency + 0.0) for sign in (1, -1)]
    return max(both, key=lambda center: center[::-1])


def _radius(spectrum: Array, frequency: Array, background: float) -> float:
    """Return the radius in cycles/sample of the disc about `frequency` to omit from a whole image.

    The rings of the disc have more than twice the background. A whole image is not tapered, which makes the peak wider.
    Interference that is stronger at the borders is wider by a main lobe. A tone has arms along the axes; at a distance
    of d bins they have its power over (pi d)^2. The disc ends where a sixteenth of that is below the background, or a
    ring holds more than the arms have there: from there on a disc would cost more of the image than it takes of a tone.
    """
    coarse, reach = min(spectrum.shape), REACH[spectrum.ndim]
    widest = int(WIDEST_PEAK * coarse)
    axes = np.ix_(*(_wrapped(np.fft.fftfreq(n) - f) for n, f in zip(spectrum.shape, frequency, strict=True)))
    ring = np.round(np.sqrt(sum(f**2 for f in axes)) * coarse).astype(int)
    near = ring <= max(widest, reach)
    held, size = np.bincount(ring[near], spectrum[near]), np.bincount(ring[near])
    outside = np.flatnonzero((held / size)[LOBE + 1 : reach + 1] <= 2 * background)
    rings = LOBE + int(outside[0]) if len(outside) else reach
    bins = np.arange(rings, widest - LOBE)
    arms = NOISE_BANDWIDTH**spectrum.ndim * held[0] / (pi * bins) ** 2
    ends = bins[(arms <= 16 * background) | (2 * spectrum.ndim * arms <= held[bins + LOBE + 1])]
    last = int([*ends, *bins[-1:], rings][0]) + LOBE
    return float((last + 0.5) / coarse)


def _covered(frequencies: Array, stripes: list[Peak]) -> NDArray[np.bool_]:
    """Tell which of the frequencies (M, 2) lie in the band of a stripe, outside its guard."""
    covered = np.zeros(len(frequencies), dtype=bool)
    for stripe in stripes:
        across = 1 if stripe.kind == "stripe-horizontal" else 0
        covered |= np.abs(frequencies[:, across]) <= stripe.extent / 2
    rho = np.linalg.norm(frequencies, axis=1) * np.sqrt(2)
    return np.asarray(covered & (rho >= STRIPE_GUARD))


def _stripes(spectrum: Array, count: int) -> list[Peak]:
    """Return the stripes of an image: horizontal ones lie on the vertical frequency axis, vertical ones across it."""
    horizontal = _stripe(spectrum, "stripe-horizontal", (None, 0.0), count)
    vertical = _stripe(spectrum.T, "stripe-vertical", (0.0, None), count)
    return [stripe for stripe in (horizontal, vertical) if stripe]


def _stripe(spectrum: Array, kind: Kind, center: tuple[float | None, ...], count: int) -> Peak | None:
    """Return the stripe on the frequency axis along the first dimension of `spectrum`, or None if there is no stripe.

    The median along the line must stand out. A peak on the axis stands out at a few frequencies only. The ridge
    that straight edges make fades towards the high frequencies, to which the line is confined.
    """
    length, across = spectrum.shape
    line = spectrum[ceil(LINE_START * length) : length // 2 + 1]
    sides = [side * sign for side in STRIPE_SIDES for sign in (1, -1)]
    background = np.median(10 * np.log10(line[:, sides]), axis=1) + _median_bias_db(count)
    excess = float(np.median(10 * np.log10(np.mean(line[:, [-1, 0, 1]], axis=1)) - background))
    if excess < STRIPE_FLOOR_DB:
        return None
    return Peak(kind, center, (2 * _half_width(line) + 1) / across, excess)


def _half_width(line: Array) -> int:
    """Return the number of bins on either side of the axis that hold nine tenths of a stripe's power.

    It is the main lobe at least. `line` is the part (length, across) of the spectrum along the axis. The background
    here is measured beyond all lines that may belong to the stripe.
    """
    widest = STRIPE_SIDES[-1]
    far = np.arange(widest + 1, min(2 * widest, line.shape[1] // 2) + 1)
    level = 10 * np.log10(line)
    background = np.median(level[:, np.concatenate([far, -far])], axis=1)
    offsets = np.arange(widest + 1)
    above = np.median(np.stack([level[:, offsets], level[:, -offsets]]) - background[:, None], axis=(0, 1))
    power = np.maximum(10 ** (above / 10) - 1, 0) * np.where(offsets == 0, 1, 2)
    return max(LOBE, int(np.searchsorted(np.cumsum(power), 0.9 * np.sum(power))))


def _rounded_up(value: float) -> float:
    """Return `value` in four digits, where the last is one higher if rounding would make the value smaller."""
    text = f"{value:.4g}"
    step = 10.0 ** (floor(log10(value)) - 3)
    return float(text) if float(text) >= value else float(f"{float(text) + step:.4g}")
