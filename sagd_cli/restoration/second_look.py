"""Looking again at what was restored: damage may be left, or may have been hidden by what was taken away."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Generic, TypeVar

from sagd_cli.config.noise_spectrum import NoisePart, NoiseSpectrum
from sagd_cli.data.images import Image
from sagd_cli.spectral.band import Band, Notch, Stripe
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.peaks import LOBE

MOST_PASSES = 3
SEEN_IMAGES, SEEN_SIDE = 4, 512  # what of a folder is looked at again

Restored = TypeVar("Restored")


@dataclass(frozen=True)
class Looked(Generic[Restored]):
    """What was `restored` last, the `noise` that was taken away, and the noise that is still `left` in it."""

    noise: NoiseSpectrum
    restored: Restored
    left: NoiseSpectrum | None = None


def look_again(
    first: Looked[Restored],
    restore: Callable[[NoiseSpectrum], Restored],
    find: Callable[[Restored], NoiseSpectrum | None],
    grid: FrequencyGrid,
) -> Looked[Restored]:
    """Find noise in what was restored, and restore anew with the sum of all that was found, three passes at most.

    `restore` restores the damaged images, not the restored ones: a filter that is used twice takes from the image
    twice. A pass counts only if less noise is left than before, on the frequencies of `grid`.
    """
    seen = replace(first, left=_beyond_lines(find(first.restored), first.noise, grid))
    for _ in range(MOST_PASSES - 1):
        if seen.left is None:
            break
        noise = NoiseSpectrum((*seen.noise.parts, *seen.left.parts)).merged
        restored = restore(noise)
        left = _beyond_lines(find(restored), noise, grid)
        if _power(left, grid) >= _power(seen.left, grid):
            break
        seen = Looked(noise, restored, left)
    return seen


def middles(images: Sequence[Image]) -> Iterator[Image]:
    """Yield the middles of the first images, which stand for all in which the same noise is expected."""
    for image in images[:SEEN_IMAGES]:
        rows, columns = (
            slice((side - min(side, SEEN_SIDE)) // 2, (side + min(side, SEEN_SIDE)) // 2)
            for side in image.pixels.shape[1:]
        )
        yield replace(image, pixels=image.pixels[:, rows, columns], alpha=None, missing=None)


def _beyond_lines(
    found: NoiseSpectrum | None, known: NoiseSpectrum, grid: FrequencyGrid
) -> NoiseSpectrum | None:
    """Return what was found without the tones among the frequencies of known lines, None where nothing is left.

    Horizons, bricks and planks of the image lie there, and come up when the lines are gone.
    """
    lobe = 2 * (LOBE + 0.5) / min(grid.shape)
    lines = [
        replace(piece, width=piece.width + lobe, guard=0.0).mask(grid)
        for piece in _pieces(known)
        if isinstance(piece, Stripe)
    ]

    def is_among_lines(part: NoisePart) -> bool:
        pieces = part.source.parts if isinstance(part.source, Band) else ()
        tones = [Notch(piece.center, 0.0).mask(grid) for piece in pieces if isinstance(piece, Notch)]
        return any((tone & line).any() for tone in tones for line in lines)

    parts = () if found is None else tuple(part for part in found.merged.parts if not is_among_lines(part))
    return NoiseSpectrum(parts) if parts else None


def _pieces(noise: NoiseSpectrum) -> Iterator[object]:
    for part in noise.parts:
        yield from part.source.parts if isinstance(part.source, Band) else ()


def _power(noise: NoiseSpectrum | None, grid: FrequencyGrid) -> float:
    """Return the variance of noise, infinite where some is lost."""
    if noise is None:
        return 0.0
    return inf if inf in noise.levels else grid.mean(noise.power(grid))
