"""Noise on a band only, and the network that tells it from images (docs/theory.md, section 6)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sagd_cli.diffusion.prediction import FLOOR, Network
from sagd_cli.diffusion.process import ForwardProcess
from sagd_cli.diffusion.schedule import Schedule
from sagd_cli.spectral.grid import Array, FrequencyGrid

MULTIPLE = 4  # divides the sides of what a network is built for


def floored(power: Array, grid: FrequencyGrid) -> Array:
    """Return `power`, E |F x|^2 / N on the half spectrum, at least 1e-4 of its mean: no band of data is quite empty."""
    return power.clip(FLOOR * grid.mean(power))


@dataclass(frozen=True)
class Scales:
    """Deviations a pixel of what lies in a band, and how a network is preconditioned (Karras et al. 2206.00364, eq. 7).

    `power` is the mean of E |F x|^2 / N over the band, `share` the band's share of the bins, `level` the noise's
    amplitude; numbers or (B, 1, 1, 1).
    """

    power: Tensor
    share: Tensor
    level: Tensor

    @property
    def inputs(self) -> Tensor:
        """c_in: takes z in the band to unit variance."""
        return torch.rsqrt(self.share * (self.power + self.level**2))

    @property
    def kept(self) -> Tensor:
        """c_skip: the share of z in the band that the linear estimate keeps."""
        return self.power / (self.power + self.level**2)

    @property
    def error(self) -> Tensor:
        """c_out: deviation of the linear estimate's error, in which the network speaks."""
        return self.level * (self.share * self.kept).sqrt()


def timesteps(schedule: Schedule, level: Tensor) -> Tensor:
    """Return the network's timesteps of noise levels sigma / alpha (B, 1, 1, 1), (B,)."""
    return schedule.timestep(schedule.times_of(-2 * level.flatten().log()))


def estimate_inside(
    network: Network, outside: Tensor, inside: Tensor, scales: Scales, timestep: Tensor
) -> Tensor:
    """Estimate the band of x from z: the part of it that is kept, and what a network adds that sees all of z.

    The network is given z outside its band, where it is x, and inside, as channels of their own.
    """
    said = network(torch.cat([outside, scales.inputs * inside], dim=1), timestep)
    return scales.kept * inside + scales.error * said[:, : outside.shape[1]].float()


def padded(network: Network, multiple: int) -> Network:
    """Let a network see fields of any size, continued by reflection to sides that `multiple` divides, and cut back."""

    def extended(x: Tensor, timestep: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        rows, columns = (_reflected(size, size + -size % multiple, x.device) for size in (height, width))
        return network(x[..., rows[:, None], columns], timestep)[..., :height, :width]

    return extended


def _reflected(size: int, length: int, device: torch.device) -> Tensor:
    """Indices that continue `size` samples to `length` by reflections at both ends, as many as it takes."""
    period = max(2 * (size - 1), 1)
    place = torch.arange(length, device=device) % period
    return torch.minimum(place, period - place) if size > 1 else place


class BandDenoiser:
    """The denoiser of x_t = alpha_t x_0 + sigma_t eps_B for images of one size and one band."""

    def __init__(self, network: Network, process: ForwardProcess, power: float) -> None:
        """Take the network, the process with the band's noise, and the data's mean power E |F x|^2 / N in the band."""
        self.process = process
        self._network = network
        self.power = power
        noise = process.noise
        self._power = torch.tensor(power, device=noise.device)
        self._share = torch.tensor(noise.grid.mean(noise.support), device=noise.device)

    def __call__(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return (x0, eps); outside the band x0 is x_t / alpha_t."""
        level = self.process.level(t)
        noise_level = (level.sigma / level.alpha).expand(len(x_t)).view(-1, *[1] * (x_t.ndim - 1))
        return self.split(x_t / level.alpha, noise_level)

    def split(self, z: Tensor, noise_level: Tensor) -> tuple[Tensor, Tensor]:
        """Return (x, eps) of z = x + noise_level eps_B; each image has a level of its own, (B, 1, 1, 1)."""
        noise = self.process.noise
        inside = noise.project(z)
        scales = Scales(self._power, self._share, noise_level)
        timestep = timesteps(self.process.schedule, noise_level)
        estimate = estimate_inside(self._network, z - inside, inside, scales, timestep)
        x0 = z - inside + noise.project(estimate)
        return x0, (z - x0) / noise_level
