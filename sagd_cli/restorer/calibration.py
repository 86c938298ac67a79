"""How far a model's samples understate its error, measured on clean images (docs/theory.md, section 6.2)."""

from dataclasses import replace

import numpy as np
import torch

from sagd_cli.config.noise_spectrum import NoiseSpectrum
from sagd_cli.damage.fields import Fields
from sagd_cli.restorer.restorer import Restorer
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.noise import multiply_spectrum, random_stream, tensor_on, white_noise

CALIBRATION_IMAGES = 64
WITHIN_ONE_DEVIATION = 0.6827


def calibrated(restorer: Restorer, clean: Fields, indices: np.ndarray, noise: NoiseSpectrum) -> Restorer:
    """Return the restorer with a `floor` for its deviations, which stands for the error of its network.

    The samples show how much the images vary that the network takes for possible. They do not show its own error.
    So `noise` is added to the fields of `clean` at `indices` (at most 64 of them are used), and
    they are restored. The floor is chosen such that, when it is added to the deviation in quadrature, 68 % of the
    pixels lie within one deviation of the estimate, as for a normal law. Fields that the network has not learned
    from give an honest floor.
    """
    device = restorer.model.model.device
    x = torch.from_numpy(clean.values[indices[:CALIBRATION_IMAGES]]).to(device)
    power = np.nan_to_num(noise.power(FrequencyGrid(clean.shape)), posinf=0.0)
    white = white_noise(tuple(x.shape), random_stream(device, restorer.how.seed, "calibrate"), device)
    y = x + multiply_spectrum(white, tensor_on(device, np.sqrt(power)), clean.shape)
    restored = restorer.restore(y, [noise] * len(y), [f"calibration {i}" for i in range(len(y))])
    assert restored.deviation is not None
    missing = (restored.estimate - x).square() - restored.deviation.square()
    floor = torch.quantile(missing.flatten()[:: max(1, missing.numel() >> 22)], WITHIN_ONE_DEVIATION)
    return replace(restorer, floor=float(floor.clamp(min=0).sqrt()))
