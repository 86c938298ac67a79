"""Drawing a missing band from the rest of an image: spectral inpainting of samples (docs/theory.md, section 6.1)."""

from collections.abc import Sequence
from hashlib import sha256
from math import inf

import numpy as np
from torch import Tensor

from sagd_cli.config.noise_spectrum import NoiseSpectrum
from sagd_cli.errors import UsageError
from sagd_cli.model.model import Model
from sagd_cli.restorer.restorer import Restorer
from sagd_cli.restorer.restoring import Restoring
from sagd_cli.restorer.restoring_model import RestoringModel
from sagd_cli.sampling.generator import Prior
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.grid import FrequencyGrid


def band_prior(restoring: RestoringModel, model: Model, steps: int, noise_device: str = "auto") -> Prior:
    """Return a prior that draws the band which the filter of `model` omits, given the rest of the image.

    It draws as `sagd omit --strength inf --estimate sample` does, in `steps` network evaluations per image. The draw
    for an image is a function of its seed; `noise_device` is that of SamplingConfig. Raises UsageError when the filter
    does not omit exactly one BAND. Raises UsageError when `restoring` was trained for another band, on damaged images,
    or for images of another shape.
    """
    omitted = model.config.filter.omit
    band = None if omitted is None else Band.parse(omitted)
    gap = ~model.filter.support
    if band is None or not np.array_equal(band.mask(FrequencyGrid(model.shape[1:])), gap):
        raise UsageError(
            f"what the filter of {model.name} leaves out is not one BAND, so there is no prior for it",
            "Train it with --omit-band, or use --fill mean.",
        )
    known = (restoring.shape[0], *model.shape[1:]) if restoring.takes_crops else restoring.shape
    if known != model.shape:
        raise UsageError(
            f"{restoring.name} was trained on images of shape {restoring.shape}, and {model.name} on {model.shape}"
        )
    lost = NoiseSpectrum.of_band(band, inf)
    restoring.check(lost, walks_path=True)
    if restoring.settings.damage is not None:
        raise UsageError(
            f"{restoring.name} was trained on damaged images, and cannot draw a band",
            "Train one on restored or clean images, without restoration.damage.",
        )
    restorer = Restorer(restoring, Restoring("sample", steps=steps, noise_device=noise_device))

    def fill(images: Tensor, seeds: Sequence[int]) -> Tensor:
        return restorer.restore(images, [lost] * len(images), [str(seed) for seed in seeds]).estimate

    digest = sha256()
    for tensor in restoring.model.network.state_dict().values():
        digest.update(tensor.cpu().numpy().tobytes())
    return Prior(restoring.name, fill, steps, digest.hexdigest()[:16])
