"""Drawing a missing band from the rest of an image: spectral inpainting of samples (docs/theory.md, section 6.1)."""

from collections.abc import Sequence
from math import inf

import numpy as np
from torch import Tensor

from sagd_cli.damage.strength import FINEST, STRONGEST
from sagd_cli.errors import UsageError
from sagd_cli.model.model import Model
from sagd_cli.restoration.band_model import BandModel
from sagd_cli.restoration.estimates import finest_level
from sagd_cli.restoration.restorer import Restorer, Restoring
from sagd_cli.sampling.generator import Prior
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.grid import FrequencyGrid


def band_prior(band_model: BandModel, model: Model, steps: int) -> Prior:
    """Return a prior that draws the band which the filter of `model` omits, given the rest of the image.

    It draws as `sagd omit --strength inf --estimate sample` does, in `steps` network evaluations per image. The draw
    for an image is a function of its seed. Raises UsageError when the filter does not omit exactly one BAND. Raises
    UsageError when `band_model` was trained for another band, for a smaller range of strengths, on damaged images, or
    for images of another shape.
    """
    omitted = model.config.filter.omit
    band = None if omitted is None else Band.parse(omitted)
    gap = ~model.filter.support
    if band is None or not np.array_equal(band.mask(FrequencyGrid(model.shape[1:])), gap):
        raise UsageError(
            f"what the filter of {model.name} leaves out is not one BAND, so there is no prior for it",
            "Train it with --omit-band, or use --fill mean.",
        )
    is_whole = band_model.settings.window is None
    known = band_model.shape if is_whole else (band_model.shape[0], *model.shape[1:])
    if known != model.shape:
        raise UsageError(
            f"{band_model.name} was trained on images of shape {band_model.shape}, and {model.name} on {model.shape}"
        )
    finest = max(FINEST, finest_level(STRONGEST, band_model.power_in(band)))
    band_model.check(band, (finest, STRONGEST))
    if band_model.settings.damage is not None:
        raise UsageError(
            f"{band_model.name} was trained on damaged images, and cannot draw a band",
            "Train one on restored or clean images, without restoration.damage.",
        )
    restorer = Restorer(band, band_model, Restoring("sample", steps=steps))

    def fill(images: Tensor, seeds: Sequence[int]) -> Tensor:
        return restorer.restore(images, [inf] * len(images), [str(seed) for seed in seeds]).estimate

    return Prior(band_model.name, fill, steps)
