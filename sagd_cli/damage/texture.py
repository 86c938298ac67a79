"""The spectrum of the content of images, tapered because their borders would add to it."""

from collections.abc import Sequence

import numpy as np

from sagd_cli.data.images import Image
from sagd_cli.design.measure import LARGEST_TILE
from sagd_cli.spectral.spectrum import Spectrum, SpectrumAverage


def texture(images: Sequence[Image]) -> Spectrum:
    """Return the spectrum of the content of images, as `sagd spectrum` measures it."""
    smallest = np.min([image.pixels.shape[1:] for image in images], axis=0)
    average = SpectrumAverage(tuple(min(int(side), LARGEST_TILE[2]) for side in smallest), hann=True)
    for image in images:
        average.add(image.signal.astype(np.float64))
    return average.result()
