"""Estimates of the clean image from y = x + gamma eps_B; each changes y inside the band only (MATH: 6.)."""

import torch
from torch import Tensor

from sagd_cli.restoration.band_model import BandModel
from sagd_cli.spectral.noise import SpectralNoise, random_stream

DRAWS = 32


def notch(y: Tensor, noise: SpectralNoise) -> Tensor:
    """Remove the band of `noise` from `y` (B, C, H, W); the mean of the image stays."""
    mean = y.mean(dim=(-2, -1), keepdim=True)
    return y - noise.project(y - mean)


def posterior_mean(y: Tensor, model: BandModel, noise: SpectralNoise) -> Tensor:
    """E[x | y] with a model of clean images at level gamma, one network evaluation (use 2)."""
    return y - model.noise(y, noise)


def noisier_posterior_mean(
    y: Tensor, model: BandModel, noise: SpectralNoise, gamma: float, seeds: list[str]
) -> Tensor:
    """E[x | z] = z - (1 + gamma^2 / tau^2) E[m | z], z = y + m, m = tau eps'_B, averaged over draws of m (use 3).

    The model was trained on images like `y` themselves, at level tau (Noisier2Noise, Moran et al. 1910.11908).
    The draws of image i are a function of `seeds[i]`.
    """
    gain = 1 + (gamma / model.level) ** 2
    streams = [random_stream(y.device, 0, "omit", seed) for seed in seeds]
    total = torch.zeros_like(y)
    for _ in range(DRAWS):
        z = y + model.level * noise.draw(y.shape, streams)
        total += z - gain * model.noise(z, noise)
    mean = total / DRAWS
    # The draws leave a remainder in the band only; outside it z is y up to rounding, and y is exact.
    return y + noise.project(mean - y)
