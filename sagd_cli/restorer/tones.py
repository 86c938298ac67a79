"""Waves all over an image or over a part of it, measured and taken away (docs/theory.md, section 7). Imports no torch.

A tone is the real part of a(r) exp(2 pi i f r), whose amplitude a(r) varies slowly. The cosine transform of a constant
amplitude is one number, wherever f lies between two bins, and the borders of the image add nothing. A window or a drift
makes it a few numbers. The image has little of its own in those, where a disc of its spectrum holds hundreds of bins.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from math import inf, log, pi

import numpy as np
import scipy
from numpy.typing import NDArray

from sagd_cli.config.noise_spectrum import NoisePart, NoiseSpectrum
from sagd_cli.damage.strength import TINY
from sagd_cli.detection.find_noise import is_steady
from sagd_cli.spectral.band import Band, Notch
from sagd_cli.spectral.grid import Array
from sagd_cli.spectral.peaks import REACH

Amplitudes = NDArray[np.complex64]  # the cosine transform of a(r), (C, K_y, K_x)

MISTAKEN = 0.05  # chance that a number of the image is taken for one of the tone, anywhere in its disc
FILLED = 2.0  # times what is around the disc: what the whole disc, or a ray from DC, has more of is no tone
FAR_OVER = (
    10.0  # times what was told or measured: it may be an edge of the image, unless a wave is all over it
)
TRIED = np.linspace(-1, 1, 129)  # bins by which the frequency of a peak may be off


def without_tones(
    signal: NDArray[np.float32], noise: NoiseSpectrum, is_told: bool = False
) -> tuple[NDArray[np.float32], NoiseSpectrum | None]:
    """Return an image (C, H, W) without the tones of `noise`, and the noise that is left.

    A part that is one notch is a tone, unless its level is 0 or infinite. One that fills its disc is left, and so is
    one that has far more power than its level says and is no steady wave. A notch that was found is one tone. One that
    `is_told` may hold several.
    """
    rest = np.asarray(signal - signal.mean(axis=(1, 2), keepdims=True))
    waves = {place: wave.tuned(rest) for place, wave in _waves(noise.parts, signal.shape[1:]).items()}
    changed, filled = signal, set[int]()
    for place, wave in waves.items():
        tone = wave.certain(wave.amplitudes(rest), not is_told)
        level = noise.parts[place].level
        if tone is None or (level and wave.is_over(tone, level) and not is_steady([rest], wave.center)):
            filled.add(place)
        elif tone.any():
            field = wave.field(tone)
            rest, changed = rest - field, changed - field
    left = tuple(part for place, part in enumerate(noise.parts) if place not in waves or place in filled)
    return changed, NoiseSpectrum(left) if left else None


@dataclass(frozen=True, eq=False)
class _Wave:
    """A tone near the frequency `center`, within `radius` of it (cycles/pixel), in images of `shape`.

    One that `is_real` is its own mirror, as (0, 1/2) is.
    """

    center: tuple[float, float]
    radius: float
    shape: tuple[int, int]
    is_real: bool

    @property
    def _reach(self) -> float:
        """As far as what is around the disc counts, in cycles/pixel."""
        return self.radius + REACH[2] / min(self.shape)

    @cached_property
    def _bases(self) -> list[NDArray[np.complex64]]:
        """The orthonormal waves of each axis (K, side): cosines of 0, 1/2, 1, ... turns, moved to the frequency."""
        return [_waves_along(side, f, self._reach) for side, f in zip(self.shape, self.center, strict=True)]

    @cached_property
    def _distance(self) -> Array:
        """Of each number from the frequency, (K_y, K_x) in cycles/pixel."""
        turns = [np.arange(len(basis)) / (2 * basis.shape[1]) for basis in self._bases]
        return np.asarray(np.hypot(turns[0][:, None], turns[1]))

    @cached_property
    def _rays(self) -> NDArray[np.int64]:
        """The ray from DC that each number is on, in half bins off the one through the frequency, (K_y, K_x)."""
        turns = [np.arange(len(basis)) / (2 * basis.shape[1]) for basis in self._bases]
        along = np.abs(self.center) / np.hypot(*self.center)
        bin_across = np.hypot(along[1] / self.shape[0], along[0] / self.shape[1])
        across = np.abs(along[1] * turns[0][:, None] - along[0] * turns[1])
        return np.asarray(np.rint(2 * across / bin_across), np.int64)

    @cached_property
    def _slope(self) -> Array:
        """What an edge has of each number, whose power falls with the square of the frequency, (K_y, K_x)."""
        y, x = (np.arange(len(basis)) / (2 * basis.shape[1]) for basis in self._bases)
        least = 1 / min(self.shape) ** 2
        rows, columns = (
            [(f + side) ** 2, (f - side) ** 2] for f, side in zip(self.center, (y, x), strict=True)
        )
        return np.asarray(sum(1 / (row[:, None] + column + least) for row in rows for column in columns))

    def amplitudes(self, signal: NDArray[np.float32]) -> Amplitudes:
        """Return what an image (C, H, W) has of it and around."""
        rows, columns = self._bases
        return np.asarray(rows.conj() @ signal @ columns.conj().T)

    def field(self, amplitudes: Amplitudes) -> NDArray[np.float32]:
        """Return the image (C, H, W) that has these amplitudes."""
        rows, columns = self._bases
        return np.asarray((1 if self.is_real else 2) * (rows.T @ amplitudes @ columns).real)

    def certain(self, amplitudes: Amplitudes, is_one: bool) -> Amplitudes | None:
        """Return what the tone has of them, None where the whole disc is filled.

        A tone that `is_one` is the strongest number and those that are connected with it. An image that varies as it
        does around the disc has one as strong as these only by the chance `MISTAKEN`.
        """
        power = np.mean(np.abs(amplitudes) ** 2, axis=0)
        inside = self._distance <= self.radius
        background = self._background(power, (self._distance <= self._reach) & ~inside)
        if background is None:
            return None
        is_tone = inside & (power > background * log(np.count_nonzero(inside) / MISTAKEN))
        if is_one:
            near, _ = scipy.ndimage.label(scipy.ndimage.binary_dilation(is_tone, np.ones((3, 3))))
            is_tone &= near == near.flat[np.argmax(np.where(inside, power, 0.0))]
        rest = inside & ~is_tone
        if not rest.any() or np.median(power[rest] / background[rest]) / log(2) > FILLED:
            return None
        share = np.where(is_tone, 1 - background / np.maximum(power, background), 0.0)
        return np.asarray(amplitudes * share.astype(np.float32))

    def _background(self, power: Array, around: NDArray[np.bool_]) -> Array | None:
        """Return the power that an image has of its own, None where nothing is around the disc.

        A long edge or a border has a ray from DC. There a number has what is on that ray, around the disc.
        """
        if not around.any():
            return None
        usual, seen = np.median(power[around]), np.unique(self._rays[around])
        level = np.zeros(self._rays.max() + 1)
        level[seen] = scipy.ndimage.median(power / self._slope, np.where(around, self._rays, -1), seen)
        own = level[self._rays] * self._slope
        return np.asarray(np.where(own > FILLED * usual, own, usual) / log(2) + TINY)

    def is_over(self, amplitudes: Amplitudes, level: float) -> bool:
        """Tell whether these have far more power than noise of a level has in the disc."""
        bins = max(pi * self.radius**2 * self.shape[0] * self.shape[1], 1.0)
        return bool(np.sum(np.abs(amplitudes) ** 2) > FAR_OVER * level**2 * bins * len(amplitudes))

    def tuned(self, signal: NDArray[np.float32]) -> "_Wave":
        """Return it at the frequency next to the centre where an image has most."""
        if self.is_real:
            return self
        turned = [_tried_on(side, self._reach) for side in self.shape]
        amplitudes = np.where(self._distance <= self.radius, self.amplitudes(signal), 0)
        power = np.sum(np.abs(turned[0] @ amplitudes @ turned[1].T) ** 2, axis=0)
        best = np.unravel_index(np.argmax(power), power.shape)
        y, x = (f + TRIED[i] / side for f, i, side in zip(self.center, best, self.shape, strict=True))
        return replace(self, center=(float(y), float(x)))


def _waves(parts: Sequence[NoisePart], shape: tuple[int, ...]) -> dict[int, _Wave]:
    """Return the waves of those of the parts that are tones, by their place."""
    height, width = shape
    waves = {}
    for place, part in enumerate(parts):
        pieces = part.source.parts if isinstance(part.source, Band) and part.level not in (0, inf) else ()
        if len(pieces) != 1 or not isinstance(pieces[0], Notch) or len(pieces[0].center) != 2:
            continue
        center, radius = np.array(pieces[0].center), pieces[0].radius
        mirror = np.round(2 * center) / 2
        off = float(np.linalg.norm(center - mirror))
        is_real = off <= radius  # its disc meets that of its mirror
        if is_real and np.linalg.norm(mirror) <= radius + off:
            continue  # it reaches DC
        y, x = (mirror if is_real else center).tolist()
        waves[place] = _Wave((y, x), radius + off * is_real, (height, width), is_real)
    return waves


def _waves_along(side: int, frequency: float, reach: float) -> NDArray[np.complex64]:
    turns = np.exp(2j * pi * frequency * np.arange(side))
    return np.asarray(_cosines(side, reach) * turns, np.complex64)


def _cosines(side: int, reach: float) -> Array:
    """Return the orthonormal cosines (K, side) of half a turn and its multiples, up to the frequency `reach`."""
    count = np.arange(min(side, int(2 * reach * side) + 1))[:, None]
    cosines = np.cos(pi * count * (np.arange(side) + 0.5) / side)
    return np.asarray(cosines * np.sqrt(np.where(count, 2, 1) / side))


@lru_cache(maxsize=64)
def _tried_on(side: int, reach: float) -> NDArray[np.complex64]:
    """Return what waves that are off by `TRIED` have of each cosine, (tried, K)."""
    off = np.exp(-2j * pi * TRIED[:, None] * np.arange(side) / side)
    return np.asarray(off @ _cosines(side, reach).T, np.complex64)
