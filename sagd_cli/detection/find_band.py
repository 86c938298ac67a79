"""The band that `--band auto` stands for: the peaks and lines of the images' spectrum."""

from collections.abc import Sequence
from math import inf, pi, sqrt
from pathlib import Path

import numpy as np
import scipy

from sagd_cli.config.noise_spectrum import NoisePart, NoiseSpectrum
from sagd_cli.damage.fields import Signals
from sagd_cli.damage.texture import texture
from sagd_cli.data.images import Image
from sagd_cli.detection.find_noise import find_offsets
from sagd_cli.detection.short_lines import are_parallel, find_short_lines
from sagd_cli.errors import DataError
from sagd_cli.spectral.band import Band, Notch, Part, Ring, Stripe
from sagd_cli.spectral.grid import Array, FrequencyGrid
from sagd_cli.spectral.lattice import find_lattice
from sagd_cli.spectral.peaks import find_peaks
from sagd_cli.spectral.spectrum import Spectrum, SpectrumAverage

CARRIED = 0.25  # share of the variance that the lattice of a screen holds if it carries the images
MOST_PEAKS = 0.8  # share of the peaks that lie on it then
LOCAL_SIDE = 128  # pixels of a block in which the frequency of a tone that drifts hardly changes
FAINTEST_DRIFT = (
    3e-4  # share of the variance: ten times that of rounding, which blocks show (see `peaks.FAINTEST`)
)
# A halftone has two tones, whose local means are mid-tones that vary, as graph paper, drawings and textures have not.
END, TWO_TONED = 0.1, 0.7  # of the range of values at either end; share of the pixels in both
MID_TONES, MID_TONED = (0.25, 0.75), 0.25  # of the range; share of the local means in them
VARIED = 0.08  # standard deviation of the local means, of the range
HELD = 0.9  # share of a tone's power that its disc has to hold


def find_thin(images: Sequence[Image], path: Path) -> NoiseSpectrum:
    """Return the noise that `--band auto` stands for: offsets of rows or columns, and other lines and peaks.

    Offsets come with their measured width and level. What a screen hides is lost. The levels of the others are unknown.
    Raises what `find_band` raises when there are none of them.
    """
    offsets = find_offsets([image.signal for image in images])
    try:
        peaks = find_band(images, path).parts
    except DataError:
        if not offsets:
            raise
        peaks = ()
    known = [stripe for stripe, _ in offsets]
    others = [
        part
        for part in peaks
        if not (isinstance(part, Stripe) and any(are_parallel(part, stripe) for stripe in known))
    ]
    return NoiseSpectrum(
        (
            *(NoisePart(Band((stripe,)), strength.cautious) for stripe, strength in offsets),
            *(NoisePart(Band((part,)), inf if isinstance(part, Ring) else None) for part in others),
        )
    )


def find_band(images: Sequence[Image], path: Path) -> Band:
    """Return the isolated peaks of the images' mean spectrum, and the strips of lines at any angle.

    The disc of a peak grows to what is there where its tone drifts. Where a screen carries the images, as in halftones,
    the band is all beyond the cell of its lattice. `path` is where the images are from. Raises
    DataError when there are neither, and when the images are constant.
    """
    spectrum = texture(images)
    if not spectrum.power.any():
        raise DataError(f"the images of {path} are constant: they have no spectrum")
    signals = [image.signal for image in images]
    lines = [piece for pieces in find_short_lines(signals, spectrum) for piece in pieces]
    peaks = _peaks(signals, spectrum)
    screen = _beyond_screen([part for part in peaks if isinstance(part, Notch)], spectrum, signals)
    parts: list[Part] = [screen] if screen else [*lines, *_others(peaks, lines, spectrum.grid)]
    if not parts:
        raise DataError(
            f"no isolated peaks or stripes were found in {path}: nothing was changed",
            f"Look at `sagd spectrum {path} --plot spectrum.png` and give the --band.",
        )
    return Band(tuple(parts))


def _beyond_screen(peaks: Sequence[Notch], spectrum: Spectrum, signals: Signals) -> Ring | None:
    """Return all beyond the cell of a lattice that carries halftones, None where the images are none.

    Each point of the lattice has the image's own spectrum about it. The cell that belongs to DC is taken as a disc.
    """
    centers = np.reshape([peak.center for peak in peaks], (-1, spectrum.grid.ndim))
    lattice = find_lattice(centers, spectrum.grid.shape) if len(centers) and spectrum.grid.ndim == 2 else None
    if lattice is None or np.mean(on := lattice.holds(centers)) < MOST_PEAKS:
        return None
    masks = [peak.mask(spectrum.grid) for peak, is_on in zip(peaks, on, strict=True) if is_on]
    held = spectrum.grid.total(np.where(np.any(masks, axis=0), spectrum.power, 0.0))
    if held < CARRIED * spectrum.grid.total(spectrum.power):
        return None
    cell = abs(float(np.linalg.det(lattice.generators)))
    if not _are_halftones(signals, 1 / sqrt(cell)):
        return None
    return Ring(round(sqrt(2 * cell / pi), 3), 1.0)


def _are_halftones(signals: Signals, period: float) -> bool:
    """Tell whether images show mid-tones by the density of two tones: means over about a period, in pixels, tell."""
    seen = []
    for plane in (plane for signal in signals for plane in signal if np.ptp(plane) > 0):
        tones = (plane.astype(np.float64) - plane.min()) / np.ptp(plane)
        local = scipy.ndimage.gaussian_filter(tones, period / 2)
        middle = (local > MID_TONES[0]) & (local < MID_TONES[1])
        seen.append((np.mean(np.abs(tones - 0.5) >= 0.5 - END), np.mean(middle), np.std(local)))
    return bool(np.all(np.mean(seen, axis=0) >= (TWO_TONED, MID_TONED, VARIED)))


def _peaks(signals: Signals, spectrum: Spectrum) -> list[Part]:
    """Return the peaks and stripes of a spectrum; those that drift, and so fade in it, are found in blocks."""
    parts = _parts(spectrum)
    if min(spectrum.grid.shape) < 2 * LOCAL_SIDE:
        return parts
    average = SpectrumAverage((LOCAL_SIDE, LOCAL_SIDE), hann=True, replicates=0)
    for signal in signals:
        average.add(signal.astype(np.float64))
    total = spectrum.grid.total(spectrum.power)
    for wide in _parts(average.result()):
        if not isinstance(wide, Notch):
            continue
        inside = [part for part in parts if isinstance(part, Notch) and _meet(part, wide)]
        whole = _power_within([wide], wide, spectrum)
        if whole > FAINTEST_DRIFT * total and _power_within(inside, wide, spectrum) < HELD * whole:
            parts = [*(part for part in parts if part not in inside), wide]
    return parts


def _parts(spectrum: Spectrum) -> list[Part]:
    peaks = find_peaks(spectrum.power, spectrum.grid, spectrum.fields)
    return [part for peak in peaks for part in Band.parse(peak.band).parts]


def _meet(part: Notch, wide: Notch) -> bool:
    """Whether the centre of a disc, or its mirror, lies in a wider one."""
    both = [np.subtract(wide.center, np.multiply(sign, part.center)) for sign in (1, -1)]
    return min(float(np.linalg.norm(d - np.round(d))) for d in both) < wide.radius


def _power_within(parts: Sequence[Part], wide: Notch, spectrum: Spectrum) -> float:
    """Return the power of a spectrum that some parts hold within a disc, above that around the disc."""
    grid, disc = spectrum.grid, wide.mask(spectrum.grid)
    ring = Notch(wide.center, min(1.5 * wide.radius, 0.5)).mask(grid) & ~disc
    beside = float(np.mean(spectrum.power[ring]))
    held: Array = np.logical_or.reduce([np.zeros_like(disc), *(part.mask(grid) for part in parts)]) & disc
    return grid.total(np.where(held, spectrum.power - beside, 0.0))


def _others(parts: Sequence[Part], lines: Sequence[Stripe], grid: FrequencyGrid) -> list[Part]:
    """Return the parts that no strip of lines holds."""
    held = np.logical_or.reduce([np.zeros(grid.half_shape, bool), *(line.mask(grid) for line in lines)])
    return [
        part
        for part in parts
        if not (
            any(are_parallel(part, line) for line in lines)
            if isinstance(part, Stripe)
            else isinstance(part, Notch) and held[Notch(part.center, 0.0).mask(grid)].any()
        )
    ]
