"""The noise of images that nobody describes: white noise, rings, peaks and offsets of rows or columns."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from sagd_cli.config.filter import FilterConfig
from sagd_cli.config.noise_spectrum import NoisePart, NoiseSpectrum
from sagd_cli.damage.fields import Signals
from sagd_cli.damage.lines import without_line_noise
from sagd_cli.damage.noise_levels import floor_levels
from sagd_cli.damage.strength import NONE, TINY, Strength
from sagd_cli.damage.thin import kind_strengths
from sagd_cli.detection.find_lines import find_line
from sagd_cli.detection.rings import find_rings
from sagd_cli.errors import DataError
from sagd_cli.spectral.band import STRIPE_ANGLES, Band, Notch, Part, Stripe
from sagd_cli.spectral.grid import Array, FrequencyGrid
from sagd_cli.spectral.peaks import LOBE, Peak, find_peaks
from sagd_cli.spectral.spectrum import Spectrum, SpectrumAverage, hann_taper

SMALLEST_IMAGE = 16  # pixels along either side
SEEN_TILE, MOST_TILES = 512, 24
WAVE_BLOCKS = 4  # along each axis, in all of which a wave is the same
COHERENT = 0.8  # share of its power that keeps its phase, and its height, from block to block
FEW_VALUES, MOST_VALUES = 16, 1 << 20
FLAT_SHARE = 0.5  # share of the neighbours that are equal; of 8 bits with noise of 1.2 steps it is a quarter
MOST_TONES = 20  # more peaks are a texture, a screen or a drawing
FAINTEST_TONE = (
    0.3 / 127.5
)  # a standard deviation that nobody sees; what mosaics leave in photographs is less
FAINTEST_WHITE = 1.2 / 127.5  # nobody sees less, and few photographs have less


@dataclass(frozen=True)
class FoundPart:
    """A part of the noise: `source` says at which frequencies it is, and `strength` how strong.

    The noise has the power strength^2 at each frequency of the part.
    """

    source: Band | FilterConfig
    strength: Strength

    @property
    def text(self) -> str:
        """The part as the command line takes it."""
        return str(NoisePart(self.source))


def find_noise(signals: Signals) -> list[FoundPart]:
    """Return the parts of the noise in images (C, H, W) on the [-1, 1] range, all of them together.

    What is not certain is not found. An empty list says that nothing was found. Images of less than 16 pixels a side
    have none, and those with flat areas, as drawings and pages of text have: noise would have made their pixels differ.
    """
    usable = _usable(signals)
    if not usable:
        return []
    stripes = _offsets(usable)
    if stripes:
        lines = NoiseSpectrum(tuple(NoisePart(Band((stripe,)), s.value) for stripe, s in stripes))
        usable = [without_line_noise(signal, lines)[0] for signal in usable]
    spectrum = _spectrum(usable)
    grid = spectrum.grid
    # A stripe is as wide as the main lobe of the taper at least.
    spared = np.logical_or.reduce(
        [np.zeros(grid.half_shape, bool), *(_lobe(part, grid) for part, _ in stripes)]
    )
    peaks = _peaks(usable, spectrum, spared)
    spared = np.logical_or.reduce([spared, *(part.mask(grid) for part, _ in peaks)])
    rings = find_rings(spectrum.power, spectrum.fields, grid, spared)
    parts: list[tuple[Part, Strength]] = [*rings, *peaks, *stripes]
    white = _white(usable, parts)
    return [*white, *(FoundPart(Band((part,)), strength) for part, strength in parts)]


def find_offsets(signals: Signals) -> list[tuple[Stripe, Strength]]:
    """Return the offsets of rows and of columns in images, as `find_noise` finds them, as stripes that begin at DC.

    Their width is measured; it is 0 where each row or column has one offset.
    """
    return _offsets(_usable(signals))


def _usable(signals: Signals) -> Signals:
    return [s for s in signals if min(s.shape[1:]) >= SMALLEST_IMAGE and not is_drawn(s)]


def is_drawn(signal: NDArray[np.float32]) -> bool:
    """Tell whether an image has few values, or mostly neighbours of exactly the same value along both axes."""
    if len(np.unique(signal.ravel()[:MOST_VALUES])) <= FEW_VALUES:
        return True
    return all(np.mean(np.diff(signal, axis=axis) == 0) > FLAT_SHARE for axis in (1, 2))


def _white(signals: Signals, parts: list[tuple[Part, Strength]]) -> list[FoundPart]:
    """Return white noise beside `parts`, which count as one kind: few patches do not tell many apart."""

    def units(grid: FrequencyGrid) -> Array:
        others = [strength.value**2 * part.mask(grid) for part, strength in parts]
        return np.stack([np.ones(grid.half_shape), *([np.sum(others, axis=0)] if others else [])])

    strength, *_ = floor_levels(signals, units) or [NONE]
    if strength.cautious < FAINTEST_WHITE:
        return []
    return [FoundPart(FilterConfig(type="white"), strength)]


def _offsets(signals: Signals) -> list[tuple[Stripe, Strength]]:
    found = []
    for axis, direction in enumerate(STRIPE_ANGLES) if signals else ():
        lines = [s.swapaxes(1, 2) if axis else s for s in signals]
        line = find_line(lines)
        if line:
            across = float(np.median([s.shape[2] for s in lines]))
            # Independent offsets have a white spectrum along their line.
            strength = line.deviation.scaled(sqrt(across))
            found.append((Stripe(direction, line.width(across), 0.0), strength))
    return found


def _lobe(stripe: Stripe, grid: FrequencyGrid) -> NDArray[np.bool_]:
    along = 0 if stripe.axis else 1
    inside = np.abs(grid.axes[along]) <= stripe.width / 2 + (LOBE + 0.5) / grid.shape[along]
    return np.broadcast_to(inside, grid.half_shape)


def _peaks(signals: Signals, spectrum: Spectrum, spared: NDArray[np.bool_]) -> list[tuple[Part, Strength]]:
    grid = spectrum.grid
    found: list[tuple[Part, Strength]] = []
    peaks = [peak for peak in find_peaks(spectrum.power, grid, spectrum.fields)[0] if peak.kind == "notch"]
    for peak in peaks if len(peaks) <= MOST_TONES else ():
        part = peak.part
        assert isinstance(part, Notch)
        if spared[Notch(part.center, 0.0).mask(grid)].any() or not stands_out(peak, spectrum):
            continue
        if not is_steady(signals, part.center):
            continue
        try:
            unit = part.mask(grid).astype(np.float64)
            (strength,) = kind_strengths(spectrum.power, spectrum.fields, grid, [unit], [str(part)])
        except DataError:
            continue
        if strength.certain:
            found.append((part, strength))
    return found


def stands_out(peak: Peak, spectrum: Spectrum) -> bool:
    """Tell whether anybody could see an isolated peak, from what rises above its background."""
    assert isinstance(peak.part, Notch)
    grid = spectrum.grid
    top = spectrum.power[Notch(peak.part.center, 0.0).mask(grid)].max()
    above = np.maximum(spectrum.power - top / 10 ** (peak.excess_db / 10), 0)
    return grid.mean(np.where(peak.part.mask(grid), above, 0.0)) >= FAINTEST_TONE**2


def is_steady(signals: Signals, frequency: tuple[float, ...]) -> bool:
    """Tell whether what images have at a frequency is one wave all over: texture loses its phase."""
    products, powers, sums = np.zeros(2, complex), np.zeros((2, 2)), np.zeros(2)
    for plane in (plane for signal in signals for plane in signal):
        height, width = (side // WAVE_BLOCKS for side in plane.shape)
        waves = [
            np.exp(-2j * np.pi * f * np.arange(n * WAVE_BLOCKS))
            for f, n in zip(frequency, (height, width), strict=True)
        ]
        rows = (plane[: height * WAVE_BLOCKS, : width * WAVE_BLOCKS] - plane.mean()) @ _blocks(
            waves[1], width
        )
        local = _blocks(waves[0], height).T @ rows
        for axis in (0, 1):
            first, second = np.moveaxis(local, axis, 0)[:-1], np.moveaxis(local, axis, 0)[1:]
            products[axis] += np.sum(first.conj() * second)
            powers[axis] += np.sum(np.abs(first) ** 2), np.sum(np.abs(second) ** 2)
        sums += np.sum(np.abs(local)) ** 2 / local.size, np.sum(np.abs(local) ** 2)
    coherence = np.abs(products) / np.sqrt(np.prod(powers, axis=1) + TINY)
    return bool(coherence.min() > COHERENT and sums[0] > COHERENT * sums[1])


def _blocks(wave: NDArray[np.complex128], side: int) -> NDArray[np.complex64]:
    """Return the matrix (n, blocks) that takes tapered Fourier coefficients in each of the blocks of an axis."""
    tapered = (wave.reshape(WAVE_BLOCKS, side) * hann_taper(side)).astype(np.complex64)
    matrix = np.zeros((WAVE_BLOCKS, side, WAVE_BLOCKS), np.complex64)
    matrix[np.arange(WAVE_BLOCKS), :, np.arange(WAVE_BLOCKS)] = tapered
    return matrix.reshape(-1, WAVE_BLOCKS)


def _spectrum(signals: Signals) -> Spectrum:
    """Return the tapered spectrum of a few tiles, from all parts of all images."""
    sides = np.minimum(np.min([s.shape[1:] for s in signals], axis=0), SEEN_TILE)
    average = SpectrumAverage((int(sides[0]), int(sides[1])), hann=True, replicates=0)
    for tile in _tiles(signals, sides):
        average.add(tile)
    return average.result()


def _tiles(signals: Signals, sides: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
    places = [
        (index, row, column)
        for index, signal in enumerate(signals)
        for row in range(signal.shape[1] // sides[0])
        for column in range(signal.shape[2] // sides[1])
    ]
    for chosen in np.unique(np.linspace(0, len(places) - 1, MOST_TILES).astype(int)):
        index, row, column = places[chosen]
        top, left = row * sides[0], column * sides[1]
        yield signals[index][:, top : top + sides[0], left : left + sides[1]]


def found_noise(signals: Signals) -> NoiseSpectrum | None:
    """Return the noise that `find_noise` finds, or None where it finds none; each part has its cautious level."""
    parts = [NoisePart(found.source, found.strength.cautious) for found in find_noise(signals)]
    return NoiseSpectrum(tuple(parts)) if parts else None
