"""What a network that restores images learns from: whole images when they are small and alike, else crops of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sagd_cli.errors import DataError
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.grid import Array, FrequencyGrid
from sagd_cli.spectral.spectrum import crop_spectrum

Signals = Sequence[NDArray[np.float32]]

LARGEST_WHOLE = 64
CROP = 128
MOST_FIELD_VALUES = 1 << 26
SMALLEST_SIDE = 4


@dataclass(frozen=True)
class Fields:
    """Images, or crops of images: `values` (M, C, h, w) on the [-1, 1] range.

    `whole` says that every field is an entire image. `sources` (M,) holds the index of the image, or of the plane of
    one, that each field is from.
    `independent` is the number of fields that share no pixel. `extent` is the shape of the largest of the images.
    """

    values: NDArray[np.float32]
    whole: bool
    sources: NDArray[np.int64]
    independent: int
    extent: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape (h, w) of a field."""
        return self.values.shape[2:]

    @property
    def lowest(self) -> float:
        """Radius in cycles/sample up to which the spectrum is not the data's: DC, and the taper's lobe in crops."""
        return 0.0 if self.whole else min(6 / min(self.shape), 0.1)

    def noise_spectrum(self, band: Band) -> Array:
        """Return the power spectrum of noise of amplitude 1 in `band` of the images, as their fields show it."""
        return self.seen(band.mask(FrequencyGrid(self.extent)).astype(np.float64))

    def seen(self, power: Array) -> Array:
        """Return the spectrum that fields have where the images, of the shape `extent`, have the spectrum `power`."""
        return (
            power
            if self.whole
            else crop_spectrum(power, FrequencyGrid(self.extent), FrequencyGrid(self.shape))
        )

    def split(self, share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the indices of fields to learn from, and of fields to hold out, in random order.

        `share` is the share that is held out: of the images where there are enough of them, else of the fields.
        """
        random = np.random.default_rng([seed, 1])
        images = random.permutation(np.unique(self.sources))
        held = images[: int(len(images) * share)]
        order = random.permutation(len(self.values))
        out = (
            np.isin(self.sources, held)
            if len(held)
            else np.isin(np.arange(len(order)), order[: int(len(order) * share)])
        )
        return np.flatnonzero(~out), random.permutation(np.flatnonzero(out))


def make_fields(signals: Signals, others: Signals = (), seed: int = 0) -> Fields:
    """Make fields of `signals`, images (C, H, W), of a shape that `others` have room for too.

    When grey and colour images come together, each colour is a grey image. Images of one small size are the fields
    themselves. Otherwise the fields are crops with a side of at most 128, from random places that are a function of
    `seed`. Raises DataError when a side of an image is below 4 pixels.
    """
    if {len(signal) for signal in [*signals, *others]} == {1, 3}:
        signals = [plane[None] for signal in signals for plane in signal]
    shapes = {signal.shape[1:] for signal in [*signals, *others]}
    height, width = min(shape[0] for shape in shapes), min(shape[1] for shape in shapes)
    if min(height, width) < SMALLEST_SIDE:
        raise DataError(
            f"an image of {width}x{height} pixels is too small to learn from",
            f"Leave out those with a side below {SMALLEST_SIDE}.",
        )
    if len(shapes) == 1 and max(height, width) <= LARGEST_WHOLE:
        return Fields(np.stack(signals), True, np.arange(len(signals)), len(signals), signals[0].shape[1:])
    side = min(height, width, CROP)
    side -= side % 8 if side >= 8 else side % 4
    areas = np.array([signal.shape[1] * signal.shape[2] for signal in signals], dtype=float)
    independent = max(1, int(areas.sum() / side**2))
    most = MOST_FIELD_VALUES // (signals[0].shape[0] * side**2)
    wanted = int(min(max(4 * independent, len(signals)), most))
    random = np.random.default_rng([seed, side])
    sources = np.sort(random.choice(len(signals), wanted, p=areas / areas.sum()))
    crops = [_crop(signals[index], side, random) for index in sources]
    extent = signals[int(np.argmax(areas))].shape[1:]
    return Fields(np.stack(crops), False, sources, min(independent, wanted), extent)


def tiles_of(signal: NDArray[np.float32], like: Fields) -> NDArray[np.float32]:
    """Cut an image (C, H, W) into tiles (M, C, h, w) that share no pixel and have the shape of the fields `like`."""
    height, width = like.shape
    rows, columns = (n // side for n, side in zip(signal.shape[1:], (height, width), strict=True))
    cut = signal[:, : rows * height, : columns * width]
    tiles = cut.reshape(len(signal), rows, height, columns, width).transpose(1, 3, 0, 2, 4)
    return tiles.reshape(rows * columns, len(signal), height, width)


def _crop(signal: NDArray[np.float32], side: int, random: np.random.Generator) -> NDArray[np.float32]:
    top, left = (int(random.integers(size - side + 1)) for size in signal.shape[1:])
    return signal[:, top : top + side, left : left + side]
