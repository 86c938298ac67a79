"""Gaussian data with noise in a band, and the network that is exact for them: every estimate has a closed form."""

import torch

from sagd_cli.diffusion.band_denoiser import Scales
from sagd_cli.diffusion.schedule import make_schedule
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.noise import band_noise, multiply_spectrum

SHAPE = (16, 16)
GRID = FrequencyGrid(SHAPE)
POWER = 0.05 / (GRID.radius + 0.05) ** 2  # S = E |F x|^2 / N, as natural images have it
SCHEDULE = make_schedule("linear")


def fields(count, power=POWER, seed=0, shape=SHAPE):
    """Gaussian fields (count, 1, *shape) whose power spectrum is `power` (half spectrum)."""
    white = torch.randn(count, 1, *shape, generator=torch.Generator().manual_seed(seed))
    return multiply_spectrum(white, torch.as_tensor(power, dtype=torch.float32).sqrt(), shape)


def spectrum(x):
    """F x / sqrt(N) of fields on the half spectrum."""
    return torch.fft.rfft2(x.double(), norm="ortho")


class ExactNetwork(torch.nn.Module):
    """What `estimate_inside` must be told so that its estimate is the Wiener filter S / (S + level^2) in the band."""

    def __init__(self, band, power=POWER):
        super().__init__()
        self.noise = band_noise(Band.parse(band), SHAPE)
        self.power = torch.as_tensor(power, dtype=torch.float32)
        mask = torch.as_tensor(self.noise.support)
        self.mean_power = GRID.total(power * mask.numpy()) / GRID.total(mask.numpy())
        self.share = GRID.mean(mask.numpy())
        self.parameter = torch.nn.Parameter(torch.zeros(1))  # says where the network is

    def forward(self, x, timestep):
        level = torch.exp(-SCHEDULE.log_snr(timestep.double() / 999) / 2).float().view(-1, 1, 1, 1)
        scales = Scales(torch.tensor(self.mean_power), torch.tensor(self.share), level)
        gain = self.power / (self.power + level**2) - scales.kept
        inside = x[:, x.shape[1] // 2 :]
        return multiply_spectrum(inside, gain / (scales.error * scales.inputs), SHAPE)
