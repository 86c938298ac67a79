"""Offsets and gains of whole lines of images: found, measured and taken away (docs/theory.md, section 7).

Lines are rows; columns are the rows of the transposed image.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf, log2, sqrt

import numpy as np
import scipy
from numpy.typing import NDArray

from sagd_cli.config.noise_spectrum import NoisePart, NoiseSpectrum
from sagd_cli.damage.line_steps import LineSteps, Plane, line_steps, line_windows, step_strength
from sagd_cli.damage.strength import Strength
from sagd_cli.spectral.band import Band, Stripe
from sagd_cli.spectral.grid import Array

SMALLEST = 48  # rows and columns that are needed, and pixels of the shortest window
WIDEST_LINE = 8  # bins on either side of 0 that a stripe may fill
FAINTEST_OFFSET = 0.9 / 127.5  # a standard deviation that hardly shows
SAMPLED = 4  # of so many lines, one tells offsets from gains
SURE = 0.1  # cycles/line from which on the effects of lines are known well
PATTERN = 0.8  # share of the power, beyond chance, that one frequency and its harmonics hold in a pattern
SEGMENT = 256  # lines in which that is looked at
BELOW_BLACK = 1e-3  # share of the pixels up to which an image counts as positive

COMMON = 2.7  # the image's own steps from line to line, in variances of their errors
EXACT = 1e-3  # of the variance of the offsets: no step is known better
FREEDOM_OF_STEPS, FREEDOM_OF_SLOPES = 2.0, 3.0  # degrees of freedom: horizons are rare and large
SLOPES = 0.01  # cycles/sample, below which what images have from line to line is a slope, not a step
ITERATIONS, SHARPER = 14, 0.6  # each iteration trusts the steps more


@dataclass(frozen=True)
class Line:
    """Effects of lines that fill the bins up to `half_width` on either side of frequency 0.

    Independent offsets of the standard deviation `deviation` for each of these bins make them up.
    """

    deviation: Strength
    half_width: int

    def width(self, across: float) -> float:
        """Return the width in cycles/pixel of its stripe in images that are `across` pixels wide: 0 for one bin."""
        return float(f"{(2 * self.half_width + 0.5) / across:.4g}") if self.half_width else 0.0


def find_line(signals: Sequence[NDArray[np.float32]]) -> Line | None:
    """Return the offsets or gains of the rows of images (C, H, W), None where there are none for certain.

    The strength is that of all images together. The width is that of the shortest windows in which rows differ. Rows
    that differ by a regular pattern, as those of a mosaic do, are the image's.
    """
    planes = _planes(signals)
    given = list(planes)
    taken = [strength for strength, is_taken in _levels(planes, WIDEST_LINE) if is_taken]
    # Parts of rows differ in images as well; whole rows do not.
    if not taken or taken[0].value < FAINTEST_OFFSET:
        return None
    if _is_pattern([np.mean(first - last, axis=1) for first, last in zip(given, planes, strict=True)]):
        return None
    half_width = 2 ** (len(taken) - 1) // 2
    return Line(_per_bin(_joined(taken), half_width), half_width)


def line_strength(signals: Sequence[NDArray[np.float32]], half_width: int) -> Strength | None:
    """Return the deviation, for each bin, of offsets of rows of a known width; None if the images are too small."""
    strengths = [strength for strength, _ in _levels(_planes(signals), half_width)]
    return _per_bin(_joined(strengths), half_width) if strengths else None


def without_lines(signal: NDArray[np.float32], half_width: int) -> NDArray[np.float32] | None:
    """Return an image (C, H, W) without the offsets or gains of its rows; None where there are none for certain.

    They fill the bins up to `half_width`. What they have in common with the trend of the image stays in it.
    """
    planes = _planes([signal])
    taken = [is_taken for _, is_taken in _levels(planes, half_width)]
    return np.stack(planes) if any(taken) else None


def without_line_noise(
    signal: NDArray[np.float32], noise: NoiseSpectrum
) -> tuple[NDArray[np.float32], NoiseSpectrum | None]:
    """Return an image (C, H, W) without the stripes of `noise` that run through it, and the noise that is left.

    Those are offsets or gains of its rows or columns, which lie in a narrow strip through DC. What is not certain in
    the image stays, as noise.
    """
    left = []
    for part in noise.parts:
        stripe, cleaned = _through(part), None
        if stripe is not None:
            lines = signal.swapaxes(1, 2) if stripe.axis else signal
            half_width = max(0, round((stripe.width * lines.shape[2] - 0.5) / 2))
            cleaned = without_lines(lines, half_width) if half_width <= WIDEST_LINE else None
        if stripe is None or cleaned is None:
            left.append(part)
        else:
            signal = cleaned.swapaxes(1, 2) if stripe.axis else cleaned
    return np.ascontiguousarray(signal), NoiseSpectrum(tuple(left)) if left else None


def _through(part: NoisePart) -> Stripe | None:
    """Return the stripe of whole rows or columns that a part of the noise is, None where it is something else."""
    pieces = part.source.parts if isinstance(part.source, Band) else ()
    if len(pieces) != 1 or part.level in (0, inf):
        return None
    (piece,) = pieces
    return piece if isinstance(piece, Stripe) and piece.is_whole else None


def _planes(signals: Sequence[NDArray[np.float32]]) -> list[Plane]:
    return [plane for signal in signals if min(signal.shape[1:]) >= SMALLEST for plane in signal]


def _joined(strengths: Sequence[Strength]) -> Strength:
    value, low, high = np.sqrt(np.square([(s.value, s.low, s.high) for s in strengths]).sum(axis=0)).tolist()
    return Strength(value, low, high)


def _per_bin(strength: Strength, half_width: int) -> Strength:
    return strength.scaled(1 / sqrt(2 * half_width + 1))


def _levels(planes: list[Plane], half_width: int) -> Iterator[tuple[Strength, bool]]:
    """Yield the strength of what differs from row to row in whole rows, in halves of them, and so on.

    What is there for sure is taken away from `planes`, and told so. It ends with the first strength that is not sure,
    and with the windows that `half_width` asks for.
    """
    if not planes:
        return
    are_gains = [_is_gain(plane) for plane in planes]
    cut_off = [(plane == plane.min()) | (plane == plane.max()) for plane in planes]
    for level in range(1 + (round(log2(2 * half_width)) if half_width else 0)):
        lengths = [plane.shape[1] / 2**level for plane in planes]
        if level and min(lengths) < SMALLEST:
            return
        steps = [
            line_steps(plane, line_windows(plane.shape[1], length), is_gain)
            for plane, length, is_gain in zip(planes, lengths, are_gains, strict=True)
        ]
        strength = step_strength(steps)
        if not (strength.certain if level else strength.found):
            yield strength, False
            return
        effects = [line_effects(one, (strength.value / one.size) ** 2) for one in steps]
        seen = [one.size * _deviation(each @ one.windows) for each, one in zip(effects, steps, strict=True)]
        for index, (each, one) in enumerate(zip(effects, steps, strict=True)):
            lines = (each @ one.windows).astype(np.float32)
            planes[index] = _without(planes[index], lines, are_gains[index], cut_off[index])
        yield strength.scaled(sqrt(np.mean(np.square(seen))) / strength.value), True


def _is_pattern(effects: Sequence[Plane]) -> bool:
    """Tell whether one frequency and its harmonics make up most of the effects of lines, given for each plane.

    Random effects have about the same power at all frequencies.
    """
    length = min(SEGMENT, *map(len, effects))
    power = np.mean([scipy.signal.welch(each, nperseg=length)[1] for each in effects], axis=0)
    bins = np.arange(len(power))
    lowest = np.arange(4, len(power), 1 / 8)[:, None]
    # The taper spreads each frequency over three bins.
    near = np.abs(bins - lowest * np.maximum(1, np.round(bins / lowest))) <= 1.5
    held, chance = near @ (power / power.sum()), near.mean(axis=1)
    return bool(np.max((held - chance) / (1 - chance)) > PATTERN)


def _deviation(effects: Array) -> float:
    """Return the standard deviation of effects (H, W), from the frequencies across where the image adds little."""
    spectrum = np.fft.rfft(effects, axis=0, norm="ortho")
    return float(np.sqrt(np.mean(np.abs(spectrum[np.fft.rfftfreq(len(effects)) > SURE]) ** 2)))


def _is_gain(plane: Plane) -> bool:
    """Tell whether gains explain better than offsets how the rows differ."""
    if np.mean(plane < -1) > BELOW_BLACK:
        return False
    whole = line_windows(plane.shape[1], plane.shape[1])
    offsets, gains = (line_steps(plane, whole, is_gain, SAMPLED).misfit for is_gain in (False, True))
    return gains < offsets


def _without(plane: Plane, effects: Plane, is_gain: bool, cut_off: NDArray[np.bool_]) -> Plane:
    """Return a plane without the effects. What was cut off, or is no data, follows its neighbours as far as it may."""
    changed = (plane + 1) * np.exp(-effects) - 1 if is_gain else plane - effects
    kept = np.where(cut_off, plane, changed)
    padded = np.pad(kept, ((1, 1), (0, 0)), mode="edge")
    near = (padded[:-2] + padded[2:]) / 2
    return np.where(cut_off, np.clip(near, np.minimum(plane, changed), np.maximum(plane, changed)), kept)


def line_effects(steps: LineSteps, variance: float) -> Array:
    """Return the effect of each line (H, K) in each window: independent, of the given variance, with these steps.

    The image's own steps add to those of the effects. They follow a Student law about a slope that itself makes such
    steps: smooth trends and horizons are the image's. The estimate is the posterior mode, which iteratively reweighted
    least squares climb to (Lange, Little & Taylor, JASA 1989), from a law that is wide at first.
    """
    values, own = steps.values.T, COMMON * steps.variances.T + EXACT * variance
    count, lines = len(values), values.shape[1] + 1
    slope = np.median(own, axis=1, keepdims=True) * (2 * np.pi * SLOPES) ** 2
    step_variances, slope_variances = own + variance, np.repeat(slope, lines - 2, axis=1)
    for iteration in range(ITERATIONS):
        wide = own + variance * SHARPER**iteration
        effects, slopes = _solved(values, step_variances, slope_variances, variance)
        rest = values - np.diff(effects, axis=1) - slopes
        step_variances = (wide * FREEDOM_OF_STEPS + rest**2) / (FREEDOM_OF_STEPS + 1)
        turns = np.diff(slopes, axis=1)
        slope_variances = (slope * FREEDOM_OF_SLOPES + turns**2) / (FREEDOM_OF_SLOPES + 1)
    return effects.T.reshape(lines, count)


def _solved(
    values: Array, step_variances: Array, slope_variances: Array, variance: float
) -> tuple[Array, Array]:
    """Return the effects (K, H) and slopes (K, H - 1) that are likeliest at these variances: least squares.

    Unknowns are an effect and a slope for each line, in turn, so that the system has four bands, stored as LAPACK has
    them: `bands[3 - d]` holds what couples an unknown with the one d places before it.
    """
    count, lines = len(values), values.shape[1] + 1
    bands, right = np.zeros((4, count, lines, 2)), np.zeros((count, lines, 2))
    steps, turns = 1 / step_variances, 1 / slope_variances
    diagonal = bands[3]
    diagonal[..., 0], diagonal[..., 1] = 1 / variance, 1e-3 / variance
    diagonal[:, :-1] += steps[..., None]
    diagonal[:, 1:, 0] += steps
    bands[1, :, 1:, 0] -= steps
    bands[2, :, 1:, 0] += steps
    bands[2, :, :-1, 1] -= steps
    right[:, 1:, 0] += steps * values
    right[:, :-1] -= (steps * values)[..., None] * np.array([1, -1])
    diagonal[:, :-2, 1] += turns
    diagonal[:, 1:-1, 1] += turns
    bands[1, :, 1:-1, 1] -= turns
    solved = scipy.linalg.solveh_banded(bands.reshape(4, -1), right.reshape(-1), check_finite=False)
    unknowns = np.asarray(solved).reshape(count, lines, 2)
    return unknowns[..., 0], unknowns[:, :-1, 1]
