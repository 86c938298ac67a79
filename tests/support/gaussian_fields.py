"""Gaussian fields of a known power spectrum, noise of several known ones, and networks that say nothing or noise.

For them a network that outputs zero is exact: the estimates have closed forms, frequency by frequency.
"""

from math import inf

import numpy as np
import torch

from sagd_cli.spectral.band import Band
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.noise import multiply_spectrum

SHAPE = (16, 16)
GRID = FrequencyGrid(SHAPE)


def natural(grid):
    """S = E |F x|^2 / N, as natural images have it."""
    return 0.05 / (grid.radius + 0.05) ** 2


POWER = natural(GRID)


def spectra(grid):
    """The power N of eight kinds of noise on `grid`, by name."""
    along, across = (np.broadcast_to(np.abs(f), grid.half_shape) for f in grid.axes)
    ring = Band.parse("mid").mask(grid).astype(float)
    white = np.ones(grid.half_shape)
    strip = np.where(across == 0, 0.1**2 * grid.shape[1], 0)  # rows that are offset by 0.1
    law = 0.02 / (grid.radius + 0.01)
    discs = np.where(np.hypot(along - 0.25, across - 0.125) < 0.1, 3.0, 0)
    return {
        "ring": 0.25 * ring,
        "white": 0.04 * white,
        "power law": law,
        "strip": strip,
        "discs": np.maximum(discs, grid.mirrored(discs)),
        "sum": strip + law,
        "ring lost": np.where(ring > 0, inf, 0),
        "ring and white": ring + 0.04 * white,
    }


SPECTRA = spectra(GRID)


def as_power(values):
    """The tensor (1, 1, *half spectrum) of a power on the half spectrum."""
    return torch.as_tensor(values, dtype=torch.float32)[None, None]


def fields(count, power=POWER, seed=0, shape=SHAPE, channels=1):
    """Gaussian fields (count, channels, *shape) whose power spectrum is `power` (half spectrum)."""
    white = torch.randn(count, channels, *shape, generator=torch.Generator().manual_seed(seed))
    return multiply_spectrum(white, torch.as_tensor(power, dtype=torch.float32).sqrt(), shape)


def spectrum(x):
    """F x / sqrt(N) of fields on the half spectrum."""
    return torch.fft.rfft2(x.double(), norm="ortho")


def silent(x, timestep):
    """The network that outputs zero."""
    return torch.zeros_like(x)


class Whisper:
    """A network whose output is white noise of variance 1, whatever it is given; it keeps what it was given."""

    def __init__(self, seed=0):
        self.stream, self.seen = torch.Generator().manual_seed(seed), []

    def __call__(self, x, timestep):
        self.seen.append(x)
        return torch.randn(x.shape, generator=self.stream)


def convolution(channels, seed=0):
    """A network with random weights, which depends on all of its inputs and is not linear in them."""
    weight = 0.3 * torch.randn(channels, channels, 3, 3, generator=torch.Generator().manual_seed(seed))
    return lambda x, timestep: torch.tanh(torch.nn.functional.conv2d(x, weight, padding=1))


def within(values, expected, deviations=5):
    """Whether the means of `values` over their first axis are within 5 standard errors of `expected`."""
    error = values.std(0) / len(values) ** 0.5
    return bool(torch.all((values.mean(0) - expected).abs() <= deviations * error + 1e-9))
