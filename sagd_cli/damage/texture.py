"""The spectrum of the content of images, tapered because their borders would add to it."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from sagd_cli.data.images import Image
from sagd_cli.design.measure import LARGEST_TILE
from sagd_cli.spectral.spectrum import Spectrum, SpectrumAverage


def texture(images: Sequence[Image]) -> Spectrum:
    """Return the spectrum of the content of images, as `sagd spectrum` measures it."""
    return texture_of((image.signal for image in images), [image.pixels.shape[1:] for image in images])


def texture_of(signals: Iterable[NDArray[np.float32]], shapes: Sequence[tuple[int, ...]]) -> Spectrum:
    """Return the spectrum of the content of images that are signals (C, H, W) of these `shapes` (H, W)."""
    average = SpectrumAverage(
        tuple(min(int(side), LARGEST_TILE[2]) for side in np.min(shapes, axis=0)), hann=True
    )
    for signal in signals:
        average.add(signal.astype(np.float64))
    return average.result()
