"""Lines at any angle that need not run through an image, such as curtains (docs/theory.md, section 7).

Their spectrum is a strip through DC, across the lines, and widens where they are short or not quite parallel. Houses,
fences and planks have such strips, too. But damage is alike all over an image, and what was photographed is not: in
every block of the image the strip has to hold about as much power, or as much for its brightness.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sagd_cli.damage.fields import Signals
from sagd_cli.damage.strength import TINY
from sagd_cli.spectral.band import Stripe
from sagd_cli.spectral.grid import Array
from sagd_cli.spectral.spectrum import Spectrum, hann_taper

BLOCK_SIDES = (64, 128, 256)  # pixels
FEWEST_SEEN, MOST_SEEN = 48, 192
DARK = 0.1  # of the brightest block: in darker ones, lines that multiply the image do not show
LENGTHS = ((6.4, 14.0), (14.0, 29.0))  # bins from DC of a block between which a strip is seen
ACROSS, ASIDE = 1, (4, 6)  # bins off the middle of a strip that belong to it, and that tell what is beside it
RIDGE_DB = 6.0  # of the median over the blocks
EVEN = 0.4  # share of the median that nine tenths of the blocks have; houses and fences reach 0.3, damage 0.45 to 0.7
APART = 25.0  # degrees between two directions, which a block tells apart
PIECE_EDGES = (0.02, 0.04, 0.08, 0.16, 0.32, 0.71)  # cycles/pixel between which a strip has one width
FARTHEST_ASIDE = 0.05  # cycles/pixel on either side of a strip's middle
PIECE_DB = 3.0
FADED = 0.1  # share of the middle's excess down to which a strip reaches


def find_short_lines(signals: Signals, spectrum: Spectrum) -> list[list[Stripe]]:
    """Return for each direction of lines that is certain in images (C, H, W) the pieces of its strip.

    `spectrum` is the Hann-tapered spectrum of the same images. A piece has one width, between two radii.
    """
    angles: list[float] = []
    for side in BLOCK_SIDES:
        powers, light = _blocks(signals, side)
        lit = light > DARK * light.max(initial=0.0)
        for seen in (powers, powers[lit] / light[lit, None, None] ** 2):
            if len(seen) < FEWEST_SEEN:
                continue
            for angle in (_refined(spectrum, a) for length in LENGTHS for a in _even_ridges(seen, length)):
                if all(_turn(angle, other) > APART for other in angles):
                    angles.append(angle)
    return [pieces for angle in angles if (pieces := _pieces(spectrum, angle))]


def are_parallel(first: Stripe, second: Stripe) -> bool:
    """Tell whether the lines of two strips run in about the same direction."""
    return _turn(float(np.mean(first.angles)), float(np.mean(second.angles))) < APART


def _turn(first: float, second: float) -> float:
    return abs((first - second + 90) % 180 - 90)


def _blocks(signals: Signals, side: int) -> tuple[Array, Array]:
    """Return the power (blocks, side, side), DC first, in tapered blocks of images, and their means above black.

    Colours are averaged.
    """
    taper = np.outer(hann_taper(side), hann_taper(side))
    places = [
        (k, top, left)
        for k, signal in enumerate(signals)
        if min(signal.shape[1:]) >= 2 * side
        for top in _starts(signal.shape[1], side)
        for left in _starts(signal.shape[2], side)
    ]
    chosen = np.unique(np.linspace(0, len(places) - 1, MOST_SEEN).astype(int))
    powers, light = [], []
    for k, top, left in (places[index] for index in chosen if places):
        block = signals[k][:, top : top + side, left : left + side].mean(axis=0)
        powers.append(np.abs(np.fft.fft2((block - block.mean()) * taper)) ** 2)
        light.append(max(float(block.mean()) + 1, 0.0))
    return np.reshape(powers, (-1, side, side)) + TINY, np.array(light)


def _starts(length: int, side: int) -> NDArray[np.int64]:
    return np.linspace(0, length - side, -(-length // side)).astype(np.int64)


def _rays(power: Array, angles: Array, radii: Array, across: Array) -> Array:
    """Return the power (..., angles, radii, across) at bins along the strips of lines at some angles, in degrees.

    `radii` are distances from DC and `across` those from the middle of a strip, both in cycles/pixel.
    """
    sine, cosine = np.sin(np.radians(angles))[:, None, None], np.cos(np.radians(angles))[:, None, None]
    f_y = radii[:, None] * cosine - across * sine
    f_x = radii[:, None] * sine + across * cosine
    rows, columns = (
        np.rint(f * n).astype(int) % n for f, n in zip((f_y, f_x), power.shape[-2:], strict=True)
    )
    return np.asarray(power[..., rows, columns])


def _even_ridges(powers: Array, length: tuple[float, float]) -> Iterator[float]:
    """Yield the angles of the lines whose strip stands out in most blocks and has like power in nearly all of them."""
    side = powers.shape[-1]
    angles = np.arange(0, 180, 120 / side)
    radii = np.arange(*length) / side
    middle = _rays(powers, angles, radii, np.arange(-ACROSS, ACROSS + 1) / side).mean(axis=-1)
    beside = [
        _rays(powers, angles, radii, sign * np.arange(ASIDE[0], ASIDE[1] + 1) / side).mean(axis=-1)
        for sign in (1, -1)
    ]
    level, *others = (np.log10(np.median(part, axis=0)) for part in (middle, *beside))
    ridge = 10 * np.mean(level - np.maximum(*others), axis=1)
    seen: list[float] = []
    for place in np.argsort(-ridge):
        if ridge[place] < RIDGE_DB:
            return
        if any(_turn(angles[place], angle) < APART for angle in seen):
            continue
        seen.append(float(angles[place]))
        own = np.mean(middle[:, place] / 10 ** level[place], axis=1)
        if np.percentile(own, 10) > EVEN * np.median(own):
            yield float(angles[place])


def _refined(spectrum: Spectrum, angle: float) -> float:
    """Return the angle near a given one at which the spectrum is highest, to a quarter of a degree."""
    near = angle + np.arange(-4, 4.01, 0.25)
    power = np.log(spectrum.grid.full(spectrum.power) + TINY)
    spacing = 1 / min(spectrum.grid.shape)
    across = np.arange(-ACROSS, ACROSS + 1, dtype=np.float64) * spacing
    level = _rays(power, near, np.arange(0.04, 0.25, spacing), across)
    return float(round(near[int(np.argmax(level.mean(axis=(1, 2))))] % 180, 2))


def _pieces(spectrum: Spectrum, angle: float) -> list[Stripe]:
    """Return the pieces of the strip of lines at an angle that stand out, each with the width at which it fades.

    Towards DC a strip does not widen, and the images' own power hides how wide it is.
    """
    spacing = 1 / min(spectrum.grid.shape)
    power = spectrum.grid.full(spectrum.power)
    across = np.arange(0, 2 * FARTHEST_ASIDE, spacing)
    pieces, heights = [], []
    for low, high in pairwise(PIECE_EDGES):
        radii = np.arange(low, min(high, 0.5), spacing)
        both = [_rays(power, np.array([angle]), radii, sign * across)[0] for sign in (1, -1)]
        profile = np.mean(np.log10(np.stack(both) + TINY), axis=(0, 1))
        beside = float(np.mean(profile[across > FARTHEST_ASIDE]))
        height = 10 ** (profile - beside) - 1
        if height[0] < 10 ** (PIECE_DB / 10) - 1:
            continue
        half = across[int(np.argmax(height < FADED * height[0]))]
        ends = [float(f"{min(edge * np.sqrt(2), 1.0):.3g}") for edge in (low, high)]
        pieces.append(Stripe(f"{angle:g}", float(f"{2 * half:.3g}"), *ends))
        heights.append(height[0])
    best = int(np.argmax(heights)) if heights else 0
    inner = [replace(piece, width=min(piece.width, pieces[best].width)) for piece in pieces[:best]]
    return inner + pieces[best:]
