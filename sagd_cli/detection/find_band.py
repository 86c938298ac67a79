"""The band that `--band auto` stands for: the peaks and lines of the images' spectrum."""

from collections.abc import Sequence
from math import pi, sqrt
from pathlib import Path

import numpy as np
import scipy
from numpy.typing import NDArray

from sagd_cli.config.noise_spectrum import NoisePart, NoiseSpectrum
from sagd_cli.damage.fields import Signals
from sagd_cli.damage.strength import TINY
from sagd_cli.damage.texture import texture
from sagd_cli.data.images import Image
from sagd_cli.detection.find_noise import find_offsets, is_drawn, is_steady, stands_out
from sagd_cli.detection.short_lines import are_parallel, find_short_lines
from sagd_cli.errors import DataError
from sagd_cli.spectral.band import Band, Notch, Stripe
from sagd_cli.spectral.grid import Array, FrequencyGrid
from sagd_cli.spectral.lattice import Lattice
from sagd_cli.spectral.peaks import LOBE, Peak, find_peaks
from sagd_cli.spectral.spectrum import Spectrum, SpectrumAverage

CARRIED = 0.25  # share of the variance that the lattice of a screen holds if it carries the images
MOST_HELD = 0.8  # share of the power of all peaks that it holds then
SCREEN_DISCS = (0.25, 0.5, 1.0, sqrt(2))  # radii about its points, in those of a disc as large as its cell
OVER = 1.25  # of the amplitude that is measured: dots are not independent of the image, as noise is
LOCAL_SIDE = 128  # pixels of a block in which the frequency of a tone that drifts hardly changes
FAINTEST_DRIFT = (
    3e-4  # share of the variance: ten times that of rounding, which blocks show (see `peaks.FAINTEST`)
)
# A halftone shows tones that vary by dots of two, as graph paper, drawings and textures do not.
TONES = (0.5, 99.5)  # percentiles: the two
MID_TONES, MID_TONED = (0.25, 0.75), 0.25  # of the range between them; share of the local means there
VARIED = 0.05  # standard deviation of the local means, of the range
TWO_TONED = 0.85  # correlation of the local variance with what two tones would have
ALL_HELD = 0.8  # share of the variance of an image that is a pattern itself
CERTAIN_DB = 14.0  # of a peak; bricks and windows reach 13 dB
HELD = 0.9  # share of a tone's power that its disc has to hold


def find_thin(images: Sequence[Image], path: Path) -> NoiseSpectrum:
    """Return the noise that `--band auto` stands for: offsets of rows or columns, other lines, peaks and screens.

    The disc of a peak grows to what is there where its tone drifts. Offsets, screens and short lines come with their
    levels; those of the others are unknown. `path` is where the images are from. Raises DataError when nothing is
    found, and when the images are constant.
    """
    spectrum = texture(images)
    if not spectrum.power.any():
        raise DataError(f"the images of {path} are constant: they have no spectrum")
    signals = [image.signal for image in images]
    offsets = find_offsets(signals)
    peaks, lattice = _peaks(signals, spectrum)
    isolated = [part for part in peaks if isinstance(part, Notch)]
    found = _screen(isolated, lattice, spectrum, signals)
    is_pattern = not found and _is_pattern(isolated, lattice, spectrum, signals)
    if is_pattern:
        peaks = [part for part in peaks if isinstance(part, Stripe)]
    if not found:
        lines = find_short_lines(signals)
        if lines and isolated:  # a tone, also one that drifts, would pass for a strip at its angle
            again = find_short_lines([_without(signal, isolated) for signal in signals])
            seen = [line.stripe for line in lines]
            lines = [line for line in again if any(are_parallel(line.stripe, stripe) for stripe in seen)]
        others = _others(peaks, [line.stripe for line in lines], spectrum.grid)
        found = [part for line in lines for part in line.parts]
        found += [NoisePart(Band((part,))) for part in others]
        found = [part for part in found if not _is_parallel_to(part, [stripe for stripe, _ in offsets])]
    known = [NoisePart(Band((stripe,)), strength.cautious) for stripe, strength in offsets]
    if is_pattern and not (known or found):
        raise DataError(
            f"a pattern was found in {path} that seems to be the image's own: nothing was changed",
            f"If it is damage, give the --band: `sagd spectrum {path} --peaks` lists it.",
        )
    if not (known or found):
        raise DataError(
            f"no isolated peaks or stripes were found in {path}: nothing was changed",
            f"Look at `sagd spectrum {path} --plot spectrum.png` and give the --band.",
        )
    return NoiseSpectrum((*known, *found))


def _screen(
    peaks: Sequence[Notch], lattice: Lattice | None, spectrum: Spectrum, signals: Signals
) -> list[NoisePart]:
    """Return the noise of a screen that carries halftones, none where the images are none.

    About each point of the lattice but DC lies the spectrum of the image, cut by the screen. As noise it is the same
    about all of them, in discs each of which is twice as wide as the one before; the widest reach to where cells meet.
    """
    if lattice is None or not peaks or not _carries(lattice, peaks, spectrum):
        return []
    cell = abs(float(np.linalg.det(lattice.generators)))
    if not _are_halftones(signals, 1 / sqrt(cell)):
        return []
    points = [tuple(float(f"{f:.4g}") for f in point) for point in lattice.points]
    bands = [
        Band(tuple(Notch(point, float(f"{share * sqrt(cell / pi):.4g}")) for point in points))
        for share in SCREEN_DISCS
    ]
    masks = [band.mask(spectrum.grid) for band in bands]
    rings = [outer & ~inner for outer, inner in zip(masks, [~np.any(masks, axis=0), *masks], strict=False)]
    seen = [(band, ring) for band, ring in zip(bands, rings, strict=True) if ring.any()]
    powers = np.minimum.accumulate([float(np.mean(spectrum.power[ring])) for _, ring in seen])
    steps = -np.diff([*powers, 0.0])
    return [
        NoisePart(band, OVER * sqrt(step)) for (band, _), step in zip(seen, steps, strict=True) if step > 0
    ]


def _carries(lattice: Lattice, peaks: Sequence[Notch], spectrum: Spectrum) -> bool:
    """Tell whether the peaks on a lattice hold much of the variance, and most of what all peaks hold."""

    def power(parts: Sequence[Notch]) -> float:
        inside = np.logical_or.reduce([np.zeros(grid.half_shape, bool), *(part.mask(grid) for part in parts)])
        return grid.total(np.where(inside, spectrum.power, 0.0))

    grid = spectrum.grid
    on = lattice.holds(np.array([peak.center for peak in peaks]))
    held = power([peak for peak, is_on in zip(peaks, on, strict=True) if is_on])
    return held > max(CARRIED * grid.total(spectrum.power), MOST_HELD * power(peaks))


def _are_halftones(signals: Signals, period: float) -> bool:
    """Tell whether images show mid-tones by the density of two tones, in means over about a period, in pixels.

    Then the variance about a mean m is proportional to (white - m) (m - black), also where dots are blurred.
    """
    seen = []
    for plane in (plane for signal in signals for plane in signal if np.ptp(plane) > 0):
        low, high = np.percentile(plane, TONES)
        tones = (plane.astype(np.float64) - low) / max(high - low, TINY)
        mean = scipy.ndimage.gaussian_filter(tones, period / 2)
        variance = scipy.ndimage.gaussian_filter((tones - mean) ** 2, period / 2)
        middle = (mean > MID_TONES[0]) & (mean < MID_TONES[1])
        alike = np.corrcoef(variance.ravel(), np.maximum(mean * (1 - mean), 0.0).ravel())[0, 1]
        seen.append((alike, np.mean(middle), np.std(mean)))
    return bool(np.all(np.mean(seen, axis=0) >= (TWO_TONED, MID_TONED, VARIED)))


def _peaks(signals: Signals, spectrum: Spectrum) -> tuple[list[Notch | Stripe], Lattice | None]:
    """Return the peaks and stripes of a spectrum and their lattice; those that drift are found in blocks."""
    peaks, lattice = _visible(spectrum)
    parts = _certain(peaks, lattice, signals)
    if min(spectrum.grid.shape) < 2 * LOCAL_SIDE:
        return parts, lattice
    average = SpectrumAverage((LOCAL_SIDE, LOCAL_SIDE), hann=True, replicates=0)
    for signal in signals:
        average.add(signal.astype(np.float64))
    drifting, _ = _visible(average.result())
    total = spectrum.grid.total(spectrum.power)
    for wide in _certain(drifting, None, signals):
        if not isinstance(wide, Notch):
            continue
        inside = [part for part in parts if isinstance(part, Notch) and _meet(part, wide)]
        whole = _power_within([wide], wide, spectrum)
        if whole > FAINTEST_DRIFT * total and _power_within(inside, wide, spectrum) < HELD * whole:
            parts = [*(part for part in parts if part not in inside), wide]
    return parts, lattice


def _visible(spectrum: Spectrum) -> tuple[list[Peak], Lattice | None]:
    """Return the stripes, the peaks that can be seen, and the lattice of all."""
    peaks, lattice = find_peaks(spectrum.power, spectrum.grid, spectrum.fields)
    return [peak for peak in peaks if isinstance(peak.part, Stripe) or stands_out(peak, spectrum)], lattice


def _certain(peaks: Sequence[Peak], lattice: Lattice | None, signals: Signals) -> list[Notch | Stripe]:
    """Return the parts of some peaks, without the isolated ones that may be texture.

    One is none where it is high, steady, or on the lattice of such a one.
    """
    isolated = {i: peak.part for i, peak in enumerate(peaks) if isinstance(peak.part, Notch)}
    certain = {
        i for i in isolated if peaks[i].excess_db > CERTAIN_DB or is_steady(signals, isolated[i].center)
    }
    if lattice is not None and isolated:
        held = lattice.holds(np.array([part.center for part in isolated.values()]))
        on = {i for i, is_on in zip(isolated, held, strict=True) if is_on}
        certain |= on if on & certain else set()
    return [peak.part for i, peak in enumerate(peaks) if i in certain or i not in isolated]


def _is_pattern(
    peaks: Sequence[Notch], lattice: Lattice | None, spectrum: Spectrum, signals: Signals
) -> bool:
    """Tell whether what repeats is the image itself: it is drawn, or hardly anything is off the lattice."""
    if lattice is None or not peaks:
        return False
    if np.mean(lattice.holds(np.array([peak.center for peak in peaks]))) <= MOST_HELD:
        return False
    grid = spectrum.grid
    radius = (LOBE + 0.5) / min(grid.shape)
    on = np.any([Notch(tuple(point), radius).mask(grid) for point in lattice.points.tolist()], axis=0)
    held = grid.total(np.where(on, spectrum.power, 0.0)) / grid.total(spectrum.power)
    return held > ALL_HELD or all(is_drawn(signal) for signal in signals)


def _meet(part: Notch, wide: Notch) -> bool:
    """Whether the centre of a disc, or its mirror, lies in a wider one."""
    both = [np.subtract(wide.center, np.multiply(sign, part.center)) for sign in (1, -1)]
    return min(float(np.linalg.norm(d - np.round(d))) for d in both) < wide.radius


def _power_within(parts: Sequence[Notch | Stripe], wide: Notch, spectrum: Spectrum) -> float:
    """Return the power of a spectrum that some parts hold within a disc, above that around the disc."""
    grid, disc = spectrum.grid, wide.mask(spectrum.grid)
    ring = Notch(wide.center, min(1.5 * wide.radius, 0.5)).mask(grid) & ~disc
    beside = float(np.mean(spectrum.power[ring]))
    held: Array = np.logical_or.reduce([np.zeros_like(disc), *(part.mask(grid) for part in parts)]) & disc
    return grid.total(np.where(held, spectrum.power - beside, 0.0))


def _without(signal: NDArray[np.float32], tones: Sequence[Notch]) -> NDArray[np.float32]:
    """Return an image (C, H, W) where no bin in the disc of a tone is above the median there: holes show, too."""
    grid, transform = FrequencyGrid(signal.shape[1:]), scipy.fft.rfft2(signal)
    for tone in tones:
        inside = tone.mask(grid)
        height = np.abs(transform[:, inside]) + TINY
        usual = np.median(height, axis=1, keepdims=True)
        transform[:, inside] *= np.minimum(usual / height, 1)
    return np.asarray(scipy.fft.irfft2(transform, s=grid.shape), np.float32)


def _is_parallel_to(part: NoisePart, stripes: Sequence[Stripe]) -> bool:
    return isinstance(part.source, Band) and any(
        are_parallel(piece, stripe)
        for piece in part.source.parts
        if isinstance(piece, Stripe)
        for stripe in stripes
    )


def _others(
    parts: Sequence[Notch | Stripe], lines: Sequence[Stripe], grid: FrequencyGrid
) -> list[Notch | Stripe]:
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
