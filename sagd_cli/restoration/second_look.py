"""Looking again at what was restored: damage may be left, or may have been hidden by what was taken away."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from sagd_cli.config.noise_spectrum import NoisePart, NoiseSpectrum
from sagd_cli.data.images import Image
from sagd_cli.data.ranges import Range
from sagd_cli.errors import DataError
from sagd_cli.restoration.measuring import Measuring
from sagd_cli.restoration.parts import SEEN_SIDE
from sagd_cli.restoration.prepared import Prepared
from sagd_cli.restorer.restoring import Estimates
from sagd_cli.spectral.band import Band, Notch, Stripe
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.peaks import LOBE

MOST_PASSES = 3
SEEN_IMAGES = 4  # of a folder that are looked at again

_Damaged = tuple[NDArray[np.float32], str, bool]  # an image (C, H, W), its name, and whether it is clipped

Restored = TypeVar("Restored")


@dataclass(frozen=True)
class Looked(Generic[Restored]):
    """What was `restored` last, the `noise` that was taken away, and the noise that is still `left` in it, if any."""

    noise: NoiseSpectrum | None
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
    twice. A pass counts only if less noise is left than before, on the frequencies of `grid`. One that raises DataError
    does not count: some estimates cannot take that noise. Where some is lost, there is no second look: what was put in
    its place is no image that noise could be told from.
    """
    noise = first.noise
    if noise is None or inf in noise.levels:
        return first
    seen = replace(first, left=_beyond_lines(find(first.restored), noise, grid))
    for _ in range(MOST_PASSES - 1):
        if seen.left is None:
            break
        noise = NoiseSpectrum((*noise.parts, *seen.left.parts)).merged
        try:
            restored = restore(noise)
        except DataError:
            break
        left = _beyond_lines(find(restored), noise, grid)
        if _power(left, grid) >= _power(seen.left, grid):
            break
        seen = Looked(noise, restored, left)
    return seen


def restored_images(
    prepared: Prepared,
    signals: Sequence[NDArray[np.float32]],
    noises: Sequence[NoiseSpectrum | None],
    names: Sequence[str],
    is_clipped: bool,
) -> list[Looked[Estimates]]:
    """Restore images as `Prepared.restored` does, and look again at each whose own noise was found in it."""
    estimates = prepared.restored(signals, noises, names, is_clipped)
    pairs = zip(noises, estimates, strict=True)
    if prepared.noise is not None or not prepared.looks_again:
        return [Looked(*pair, prepared.left) for pair in pairs]
    looked = []
    for (noise, one), signal, name in zip(pairs, signals, names, strict=True):
        restore = partial(_restored, prepared, [(signal, name, is_clipped)])
        grid = FrequencyGrid(signal.shape[1:])
        seen = look_again(
            Looked(noise, [one]), restore, lambda found: prepared.found(found[0].draws[0]), grid
        )
        looked.append(Looked(seen.noise, seen.restored[0], seen.left))
    return looked


def _restored(prepared: Prepared, images: Sequence[_Damaged], noise: NoiseSpectrum) -> list[Estimates]:
    """Return the estimates of images that may be of different shapes and have one noise."""
    found = (prepared.restored([signal], [noise], [name], is_clipped) for signal, name, is_clipped in images)
    return [one for (one,) in found]


def look_again_at_some(prepared: Prepared, measuring: Measuring) -> Prepared:
    """Return `prepared` with the noise that comes up when some of the images are restored, for all of them."""
    images, output = [*_middles(measuring.measured)], prepared.output
    restore = partial(
        _restored, prepared, [(one.signal, one.place.name, one.pixels.dtype.kind == "u") for one in images]
    )

    def find(restored: list[Estimates]) -> NoiseSpectrum | None:
        given = [
            replace(image, pixels=one.draws[0], range=Range(-1, 1))
            for image, one in zip(images, restored, strict=True)
        ]
        try:
            return replace(measuring, given=given, output=replace(output, quiet=True)).levels()[0]
        except DataError:
            return None

    assert prepared.noise is not None
    shape = max((image.pixels.shape[1:] for image in images), key=np.prod)
    try:
        first = Looked(prepared.noise, restore(prepared.noise))
    except DataError:  # it is said of each image that cannot be restored
        return prepared
    seen = look_again(first, restore, find, FrequencyGrid(shape))
    if seen.left is not None:
        output.note(f"left after it: {seen.left.shown}")
    if seen.noise is None or seen.noise is prepared.noise:
        return replace(prepared, left=seen.left)
    output.note(f"found behind it, all in all: {seen.noise.shown}")
    return replace(prepared, noise=seen.noise, strength=None, left=seen.left)


def _middles(images: Sequence[Image]) -> Iterator[Image]:
    """Yield the middles of a few images, which stand for all."""
    for image in images[:: -(-len(images) // SEEN_IMAGES)]:
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
    """Return the variance of noise."""
    return 0.0 if noise is None else grid.mean(noise.power(grid))
