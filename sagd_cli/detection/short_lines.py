"""Lines at any angle that need not run through an image, such as curtains (docs/theory.md, section 7).

Their spectrum is a strip through DC, across the lines. Houses, fences and planks have such strips, too. But damage is
alike all over an image, and what was photographed is not. Either the strip holds about as much power in every block of
the image, or about as much for its brightness; or even those blocks have it that have least of it.
"""

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from sagd_cli.damage.fields import Signals
from sagd_cli.damage.strength import TINY
from sagd_cli.detection.line_shape import ShortLines, fitted_lines, is_worth_it, least_of, ring_numbers
from sagd_cli.spectral.band import Stripe
from sagd_cli.spectral.grid import Array
from sagd_cli.spectral.spectrum import hann_taper

BLOCK_SIDES = (64, 128, 256)  # pixels; blocks overlap by half
FEWEST_SEEN, FEWEST_EVEN, MOST_SEEN = 40, 150, 192  # blocks of one size, and those that can be called even
DARK = 0.1  # of the brightest block: in darker ones, lines that multiply the image do not show
LENGTHS = ((6.4, 14.0), (14.0, 29.0))  # bins from DC of a block between which a strip is seen
ACROSS, ASIDE = 1, (4, 6)  # bins off the middle of a strip that belong to it, and that tell what is beside it
RIDGE_DB = 6.0  # of the median over the blocks
EVEN = 0.4  # share of the median that nine tenths of the blocks have; houses and fences reach 0.3, damage 0.45 to 0.7
APART = 25.0  # degrees between two directions, which a block tells apart
FLOOR_LENGTH = (5.0, 15.0)  # bins from DC
FLOOR_SHARES = (0.06, 0.12, 0.25)  # of the blocks
FLOOR_RIDGE_DB = 7.0  # of those that have least; 309 clean photographs reach 5, damage has 8 and more
FAINTEST_LINES = 0.5 / 127.5  # a standard deviation that nobody sees
FALLEN_DB = 3.0  # from the largest share to the least: what is in a part of an image alone falls on


def find_short_lines(signals: Signals) -> list[ShortLines]:
    """Return the lines that are certain in images (C, H, W), those of one direction together.

    Of lines that multiply the images, the strength is that at their mean brightness.
    """
    places = {side: _places(signals, side) for side in BLOCK_SIDES}
    largest = max((side for side in BLOCK_SIDES if len(places[side]) >= FEWEST_SEEN), default=None)
    if largest is None:
        return []
    blocks = cache(lambda side: _plain_and_for_light(signals, places[side], side))

    def candidates() -> Iterator[tuple[float, Array, bool]]:
        """Yield angles that are seen, the blocks that tell of lines at each, and whether these are even."""
        for side in BLOCK_SIDES:
            for kind, powers in enumerate(blocks(side) if len(places[side]) >= FEWEST_EVEN else ()):
                for length in LENGTHS if len(powers) >= FEWEST_EVEN else ():
                    for angle in _even_ridges(powers, length):
                        yield angle, blocks(largest)[kind], True
        for angle in _floors(blocks(BLOCK_SIDES[0])[0]):
            yield angle, blocks(largest)[0], False

    found: list[ShortLines] = []

    def is_new(angle: float) -> bool:
        return all(_turn(angle, known.angle) > APART for known in found)

    for angle, powers, is_even in candidates():
        if is_new(angle):
            fits = (lines for lines in fitted_lines(powers, angle) if is_even or is_worth_it(powers, lines))
            lines = next(fits, None)
            if lines and lines.deviation > FAINTEST_LINES and is_new(lines.angle):
                found.append(lines)
    return found


def are_parallel(first: Stripe, second: Stripe) -> bool:
    """Tell whether the lines of two strips run in about the same direction."""
    return _turn(float(np.mean(first.angles)), float(np.mean(second.angles))) < APART


def _turn(first: float, second: float) -> float:
    return abs((first - second + 90) % 180 - 90)


def _places(signals: Signals, side: int) -> list[tuple[int, int, int]]:
    """Return the image, the first row and the first column of blocks of some images."""
    places = [
        (k, top, left)
        for k, signal in enumerate(signals)
        if min(signal.shape[1:]) >= 2 * side
        for top in _starts(signal.shape[1], side)
        for left in _starts(signal.shape[2], side)
    ]
    chosen = np.unique(np.linspace(0, len(places) - 1, MOST_SEEN).astype(int))
    return [places[index] for index in chosen if places]


def _plain_and_for_light(
    signals: Signals, places: Sequence[tuple[int, int, int]], side: int
) -> tuple[Array, Array]:
    """Return the power (blocks, side, side), DC first, in tapered blocks of images, and what it would be in all light.

    Colours are averaged, and so is the light, in which dark blocks do not count.
    """
    taper = np.outer(hann_taper(side), hann_taper(side))
    plain, squares = np.empty((len(places), side, side)), np.empty(len(places))
    for k, (image, top, left) in enumerate(places):
        block = signals[image][:, top : top + side, left : left + side].mean(axis=0)
        plain[k] = np.abs(np.fft.fft2((block - block.mean()) * taper)) ** 2 + TINY
        squares[k] = max(float(block.mean()) + 1, 0.0) ** 2
    lit = squares > DARK**2 * squares.max()
    return plain, plain[lit] * (squares[lit].sum() / max(lit.sum(), 1) / squares[lit])[:, None, None]


def _starts(length: int, side: int) -> NDArray[np.int64]:
    return np.linspace(0, length - side, -(-2 * (length - side) // side) + 1).astype(np.int64)


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
    middle, *beside = _strips(powers, angles, radii)
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


def _strips(powers: Array, angles: Array, radii: Array) -> list[Array]:
    """Return the power (blocks, angles, radii) of the strips of lines at some angles, and on either side."""
    side, aside = powers.shape[-1], np.arange(ASIDE[0], ASIDE[1] + 1)
    places = (np.arange(-ACROSS, ACROSS + 1), aside, -aside)
    return [_rays(powers, angles, radii, place / side).mean(axis=-1) for place in places]


def _floors(powers: Array) -> Iterator[float]:
    """Yield the angles of the lines whose strip stands out in those blocks, too, that have least of it.

    Which these are, every other ring tells for the rings between. As many as have least, and half as many, have it.
    """
    side = powers.shape[-1]
    angles, radii = np.arange(0, 180, 120 / side), np.arange(*FLOOR_LENGTH) / side
    middle, *both = _strips(powers, angles, radii)
    beside, rings = np.maximum(*both), ring_numbers(radii * side)
    levels = np.empty((3, 2, len(angles), len(radii)))
    for ring in (0, 1):
        amount = np.log(middle[..., rings != ring]).mean(axis=-1)
        own = [part[..., rings == ring] for part in (middle, beside)]
        for k, share in enumerate(FLOOR_SHARES):
            least = least_of(amount, share)[..., None]
            levels[k][..., rings == ring] = [np.take_along_axis(part, least, 0).mean(axis=0) for part in own]
    floors, (few, _, low) = 10 * np.log10(levels[:, 0] / levels[:, 1]).mean(axis=-1), levels[:, 0]
    fallen = 10 * np.log10(low / few).mean(axis=-1)
    ridge = np.where(fallen < FALLEN_DB, np.minimum(floors[0], floors[1]), 0.0)
    seen: list[float] = []
    for place in np.argsort(-ridge):
        if ridge[place] < FLOOR_RIDGE_DB:
            return
        if all(_turn(angles[place], angle) > APART for angle in seen):
            seen.append(float(angles[place]))
            yield seen[-1]
