"""The parts of the noise of an image as people see them: their kind, direction and period, and what is left of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import atan2, degrees, hypot, isfinite, sqrt
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from sagd_cli.config.filter import FilterConfig
from sagd_cli.config.noise_spectrum import NoisePart, NoiseSpectrum
from sagd_cli.damage.lines import planes_of
from sagd_cli.data.ranges import Signal
from sagd_cli.detection.find_lines import find_line
from sagd_cli.spectral.band import Band, Notch, Part, Stripe, joined
from sagd_cli.spectral.grid import Array, FrequencyGrid
from sagd_cli.spectral.lattice import find_lattice
from sagd_cli.spectral.peaks import LOBE, REACH
from sagd_cli.spectral.spectrum import hann_taper

GREY_LEVELS = 127.5  # of 255, for 1 on the [-1, 1] range
SEEN_SIDE = 512  # pixels of an image that are looked at, along each axis
TILES_SEEN = 9
LINES_FROM = 0.1  # cycles/pixel from which on lines stand out from the image
DIGITS = 4
MOST_LISTED = 12  # parts; of more, tones are taken together

Thin = Notch | Stripe
Grids = tuple[FrequencyGrid, FrequencyGrid]  # of an image, and of the tiles in which parts are measured


@dataclass(frozen=True, eq=False)
class NamedPart:
    """A part of the noise, or several of one kind: its `text` for the command line and its `kind` in words.

    `direction` is the angle of its lines in degrees: 0 is horizontal, 45 rises to the right, 90 is vertical. `period`
    is in pixels, `frequency` (f_y, f_x) in cycles/pixel. All three are None where it has none. `share` is the mean
    over the spectrum of its power at strength 1. `level` is the strength of a wide part, or of offsets of whole lines,
    whose `axis` is 0 for rows and 1 for columns; None where all is lost.
    """

    text: str
    kind: str
    share: float
    level: float | None = None
    direction: float | None = None
    period: float | None = None
    frequency: tuple[float, ...] | None = None
    pieces: tuple["_Measured", ...] = ()
    axis: int | None = None

    @property
    def told_deviation(self) -> float | None:
        """The standard deviation of a part that has a `level`."""
        return None if self.level is None else self.level * sqrt(self.share)

    def deviation(self, power: NDArray[np.float32]) -> float | None:
        """Return the standard deviation of what stands out of its surroundings in a spectrum; None without `pieces`."""
        if not self.pieces:
            return None
        return sqrt(max(sum(piece.variance(power) for piece in self.pieces), 0.0))


@dataclass(frozen=True, eq=False)
class _Measured:
    """Where the power of a tone or a stripe is measured: `inside` a main lobe wider, with weights, and `around` that.

    The weights sum up to a share of the spectrum. A stripe is measured in a part of it, which stands for the rest.
    """

    inside: NDArray[np.intp]
    weights: Array
    around: NDArray[np.intp]

    @classmethod
    def of(cls, piece: Thin, grid: FrequencyGrid) -> "_Measured":
        """Return where it is measured on `grid`; stripes are from where they stand out of the image."""
        lobe, reach = ((LOBE + 0.5) / min(grid.shape), REACH[2] / min(grid.shape))
        own, inside, around = (_widened(piece, more).mask(grid) for more in (0, lobe, lobe + reach))
        seen = (grid.radius > LINES_FROM) if isinstance(piece, Stripe) else (grid.radius > lobe)
        seen = seen if (own & seen).any() else grid.radius > 0
        inside, around = inside & seen, around & ~inside & seen
        scale = grid.total(own) / max(grid.total(own & seen), 1.0) / grid.size
        weights = scale * np.broadcast_to(grid.multiplicity, grid.half_shape)[inside]
        return cls(np.flatnonzero(inside), weights, np.flatnonzero(around))

    def variance(self, power: NDArray[np.float32]) -> float:
        """Return the variance of what stands out of the power around."""
        if not len(self.around):
            return 0.0
        seen, beside = power.ravel()[self.inside], power.ravel()[self.around]
        return float(self.weights @ seen - self.weights.sum() * np.mean(beside))


def _widened(piece: Thin, more: float) -> Thin:
    if isinstance(piece, Notch):
        return replace(piece, radius=piece.radius + more)
    return replace(piece, width=piece.width + 2 * more)


def part_records(
    noise: NoiseSpectrum,
    before: Signal,
    after: Signal,
    left: NoiseSpectrum | None,
    is_looked_at: bool,
    measures_lines: bool = True,
) -> list[dict[str, Any]]:
    """Return the JSON records of the parts of `noise`, whose image (C, H, W) was restored from `before` to `after`.

    Strengths are on [-1, 1], as `level=` gives them; grey levels are the standard deviation in the image, of 255. That
    of tones and of stripes is measured, as what stands out of the spectrum around. Other parts have the strength that
    they were restored with, and if the restored image was looked at again (`is_looked_at`), what of them is `left`. If
    it was not, offsets of whole lines are measured in it, with `measures_lines`: beside their frequencies images have
    most power.
    """
    shape = (before.shape[1], before.shape[2])
    tile = (min(shape[0], SEEN_SIDE), min(shape[1], SEEN_SIDE))
    rest = () if left is None else named_parts(left, shape, tile)
    named = named_parts(noise, shape, tile)
    are_measured = any(part.pieces for part in named)
    powers = [_tapered_power(signal, tile) for signal in (before, after)] if are_measured else []
    records = []
    for part in named:
        root = sqrt(part.share)
        deviations = [part.deviation(power) for power in powers] or [None, None]
        if not part.pieces:
            deviations[0] = part.told_deviation
            if is_looked_at:
                same = [one.told_deviation for one in rest if _is_same(one, part)]
                deviations[1] = (same and same[0]) or 0.0
            elif part.axis is not None and measures_lines:
                deviations[1] = _offsets_in(after, part.axis)
        record: dict[str, Any] = {"part": part.text, "kind": part.kind, "direction": part.direction}
        record["period"] = _rounded(part.period)
        record["frequency"] = part.frequency and [_rounded(f) for f in part.frequency]
        for when, deviation in zip(("before", "after"), deviations, strict=True):
            record[f"strength_{when}"] = _rounded(deviation and deviation / root)
            record[f"grey_levels_{when}"] = _rounded(deviation and deviation * GREY_LEVELS)
        records.append(record)
    return records


def _is_same(one: NamedPart, other: NamedPart) -> bool:
    """Whether two parts are the same noise; offsets of whole lines are, whatever their width."""
    return one.text == other.text if other.axis is None else one.axis == other.axis


def _offsets_in(signal: Signal, axis: int) -> float | None:
    """Return the standard deviation of the offsets of whole rows (axis 0) or columns, 0 where none is certain.

    None where the image (C, H, W) is too small to tell.
    """
    lines = [signal.swapaxes(1, 2) if axis else signal]
    if not planes_of(lines):
        return None
    line = find_line(lines)
    return 0.0 if line is None else line.deviation.value * sqrt(2 * line.half_width + 1)


@lru_cache(maxsize=4)
def named_parts(noise: NoiseSpectrum, shape: tuple[int, int], tile: tuple[int, int]) -> tuple[NamedPart, ...]:
    """Return the parts of `noise` in images of `shape`, tones last; of more than 12 parts, tones are taken together.

    They are measured in tiles of the shape `tile`. The pieces of stripes of one direction are one part, and so are the
    discs about one frequency, as a screen has them.
    """
    grids = FrequencyGrid(shape), FrequencyGrid(tile)
    wide, tones, stripes = list[NamedPart](), list[Notch](), dict[str, list[Stripe]]()
    offsets = dict[int, list[tuple[Stripe, float]]]()
    for part in noise.merged.parts:
        for piece in part.source.parts if isinstance(part.source, Band) else (None,):
            if isinstance(piece, Stripe) and piece.is_whole and piece.axis is not None:
                offsets.setdefault(piece.axis, []).append((piece, part.level or 0.0))
            elif isinstance(piece, Stripe):
                stripes.setdefault(_kind_of(piece), []).append(piece)
            elif isinstance(piece, Notch):
                tones.append(piece)
            else:
                wide.append(_wide(part, piece, grids[0]))
    lines = [_offsets(axis, group, grids[0]) for axis, group in offsets.items()]
    lines += [_joined(kind, group, grids) for kind, group in stripes.items()]
    narrowest = {tone.center: tone for tone in sorted(tones, key=lambda tone: -tone.radius)}
    are_many = len(wide) + len(lines) + len(narrowest) > MOST_LISTED
    return (*wide, *lines, *_named_tones([*narrowest.values()], grids, are_many))


def _wide(part: NoisePart, piece: Part | None, grid: FrequencyGrid) -> NamedPart:
    level = part.level if part.level is not None and isfinite(part.level) else None
    if piece is not None:
        return NamedPart(str(piece), "ring", grid.mean(piece.mask(grid)), level)
    source = part.source
    kind = f"{source.type} noise" if isinstance(source, FilterConfig) else "measured noise"
    return NamedPart(str(NoisePart(source)), kind, grid.mean(part.unit(grid)), level)


def _offsets(axis: int, group: Sequence[tuple[Stripe, float]], grid: FrequencyGrid) -> NamedPart:
    """Return the offsets of whole rows (axis 0) or columns, which may be of several widths."""
    stripes, levels = zip(*group, strict=True)
    masks = [stripe.mask(grid) for stripe in stripes]
    share = grid.mean(np.logical_or.reduce(masks))
    variance = sum(level**2 * grid.mean(mask) for level, mask in zip(levels, masks, strict=True))
    level = sqrt(variance / share) if isfinite(variance) else None
    kind = f"offsets of {'columns' if axis else 'rows'}"
    return NamedPart(joined(stripes), kind, share, level, direction=90.0 * axis, axis=axis)


def _kind_of(stripe: Stripe) -> str:
    low, high = stripe.angles
    return f"stripes at {low:g}{'' if low == high else f' to {high:g}'} degrees"


def _named_tones(tones: Sequence[Notch], grids: Grids, are_many: bool) -> list[NamedPart]:
    """Return each tone; if they are many, those of a lattice together, and the others together."""
    if not are_many:
        return [_joined("tone", [tone], grids) for tone in tones]
    centers = np.reshape([tone.center for tone in tones], (-1, 2))
    lattice = find_lattice(centers, grids[1].shape) if tones else None
    on = np.zeros(len(tones), bool) if lattice is None else lattice.holds(centers)
    members, others = (
        [tone for tone, is_on in zip(tones, on, strict=True) if is_on == wanted] for wanted in (True, False)
    )
    named = [_joined(f"{len(others)} tones" if len(others) > 1 else "tone", others, grids)] if others else []
    if lattice is None:
        return named
    f_y, f_x = lattice.generators[0].tolist()
    return [_joined(f"lattice of {len(members)} tones", members, grids, (f_y, f_x)), *named]


def _joined(
    kind: str, group: Sequence[Thin], grids: Grids, frequency: tuple[float, ...] | None = None
) -> NamedPart:
    """Return a part that consists of tones or of stripes; those of a lattice have the `frequency` of its generator."""
    grid, tile = grids
    share = grid.mean(np.logical_or.reduce([piece.mask(grid) for piece in group]))
    part = NamedPart(joined(group), kind, share, pieces=tuple(_Measured.of(piece, tile) for piece in group))
    first = group[0]
    if isinstance(first, Stripe):
        return replace(part, direction=sum(first.angles) / 2 % 180)
    f_y, f_x = frequency or (first.center if len(group) == 1 else (0.0, 0.0))
    if (f_y, f_x) == (0, 0):
        return part
    # Crests lie across the frequency, and rows are counted downwards.
    direction = round(degrees(atan2(f_x, f_y)) % 180, 1) % 180
    return replace(part, direction=direction, period=1 / hypot(f_y, f_x), frequency=(f_y, f_x))


def _tapered_power(signal: Signal, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return the mean power of a few tapered tiles of `shape` and of all colours of an image (C, H, W).

    In float32 and without bootstrap samples it takes a tenth of the time of a `SpectrumAverage`, for each image twice.
    """
    height, width = shape
    taper = _unit_taper(shape)
    corners = [
        (top, left)
        for top in range(0, signal.shape[1] - height + 1, height)
        for left in range(0, signal.shape[2] - width + 1, width)
    ]
    chosen = np.unique(np.linspace(0, len(corners) - 1, TILES_SEEN).astype(int))
    total = np.zeros((height, width // 2 + 1), np.float32)
    for top, left in (corners[index] for index in chosen):
        for plane in signal[:, top : top + height, left : left + width]:
            tile = np.subtract(plane, plane.mean(), dtype=np.float32)
            wave = scipy.fft.rfft2(np.multiply(tile, taper, out=tile), overwrite_x=True)
            total += np.square(wave.real) + np.square(wave.imag)
    return total / np.float32(len(chosen) * len(signal))


@lru_cache(maxsize=4)
def _unit_taper(shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return the taper of tiles of `shape`, of unit sum of squares."""
    taper = np.outer(*map(hann_taper, shape))
    return np.asarray(taper / np.linalg.norm(taper), np.float32)


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{DIGITS}g}")
