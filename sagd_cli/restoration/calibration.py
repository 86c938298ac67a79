"""How far a model's samples understate its error, measured on clean images (docs/theory.md, section 6.2)."""

from dataclasses import replace

import numpy as np
import torch

from sagd_cli.damage.fields import Fields
from sagd_cli.restoration.restorer import Restorer
from sagd_cli.spectral.noise import band_noise, random_stream

CALIBRATION_IMAGES = 64
WITHIN_ONE_DEVIATION = 0.6827


def calibrated(restorer: Restorer, clean: Fields, indices: np.ndarray, strength: float) -> Restorer:
    """Return the restorer with the `floor` of deviations that its network's own error makes.

    Samples tell how the images differ that a network takes for possible, but not how wrong it is. Noise of
    `strength` is added to fields of `clean` at `indices`, at most 64, that it did not learn from; the floor is added
    in quadrature so that 68 % of their pixels lie within a deviation of the estimate, as of a normal law.
    """
    device = restorer.model.model.device if restorer.model else torch.device("cpu")
    x = torch.from_numpy(clean.values[indices[:CALIBRATION_IMAGES]]).to(device)
    noise = band_noise(restorer.band, clean.shape, device)
    y = x + strength * noise.draw(x.shape, random_stream(device, restorer.how.seed, "calibrate"))
    restored = restorer.restore(y, [strength] * len(y), [f"calibration {i}" for i in range(len(y))])
    assert restored.deviation is not None
    missing = (restored.estimate - x).square() - restored.deviation.square()
    floor = torch.quantile(missing.flatten()[:: max(1, missing.numel() >> 22)], WITHIN_ONE_DEVIATION)
    return replace(restorer, floor=float(floor.clamp(min=0).sqrt()))
