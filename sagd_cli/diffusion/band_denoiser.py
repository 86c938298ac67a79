"""A denoiser for noise in one band, built on a network that tells the noise from images (docs/theory.md, section 6)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sagd_cli.diffusion.prediction import Network
from sagd_cli.diffusion.process import ForwardProcess
from sagd_cli.diffusion.schedule import Schedule

MULTIPLE = 4  # divides the sides of what a network is built for


@dataclass(frozen=True)
class Scales:
    """The preconditioning of a network that estimates a band (Karras et al. 2206.00364, eq. 7).

    `power`: the mean of E |F x|^2 / N over the band. `share`: the band's share of all bins. `level`: the amplitude of
    the noise. Each is a scalar or (B, 1, 1, 1).
    """

    power: Tensor
    share: Tensor
    level: Tensor

    @property
    def inputs(self) -> Tensor:
        """c_in: scales the part of z in the band to unit variance per pixel."""
        return torch.rsqrt(self.share * (self.power + self.level**2))

    @property
    def kept(self) -> Tensor:
        """c_skip: the share of z in the band that the linear estimate keeps."""
        return self.power / (self.power + self.level**2)

    @property
    def error(self) -> Tensor:
        """c_out: standard deviation per pixel of the linear estimate's error, the unit of the network's output."""
        return self.level * (self.share * self.kept).sqrt()


def timesteps(schedule: Schedule, level: Tensor) -> Tensor:
    """Return the network's timesteps (B,) for noise levels `level` = sigma / alpha (B, 1, 1, 1)."""
    return schedule.timestep(schedule.times_of(-2 * level.flatten().log()))


def estimate_inside(
    network: Network, outside: Tensor, inside: Tensor, scales: Scales, timestep: Tensor
) -> Tensor:
    """Return the estimate of x in the band: the linear estimate plus the network's correction.

    `outside` and `inside` (B, C, *spatial) are the parts of z outside the band, where z is x, and inside it. The
    network gets both, as 2 C channels.
    """
    said = network(torch.cat([outside, scales.inputs * inside], dim=1), timestep)
    return scales.kept * inside + scales.error * said[:, : outside.shape[1]].float()


def padded(network: Network, multiple: int) -> Network:
    """Return a network that takes fields of any size.

    Fields are continued by reflection to sides that `multiple` divides, and the output is cut back.
    """

    def extended(x: Tensor, timestep: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        rows, columns = (_reflected(size, size + -size % multiple, x.device) for size in (height, width))
        return network(x[..., rows[:, None], columns], timestep)[..., :height, :width]

    return extended


def _reflected(size: int, length: int, device: torch.device) -> Tensor:
    """Return the indices (length,) that continue `size` samples to `length` by repeated reflection at both ends."""
    period = max(2 * (size - 1), 1)
    place = torch.arange(length, device=device) % period
    return torch.minimum(place, period - place) if size > 1 else place


class BandDenoiser:
    """The denoiser of x_t = alpha_t x_0 + sigma_t eps_B for images of one size and one band."""

    def __init__(self, network: Network, process: ForwardProcess, power: float) -> None:
        """Take the network, the process with the band's noise, and `power`, the mean E |F x|^2 / N in the band."""
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
        """Return (x, eps) for z = x + noise_level eps_B, where `noise_level` is (B, 1, 1, 1)."""
        noise = self.process.noise
        inside = noise.project(z)
        scales = Scales(self._power, self._share, noise_level)
        timestep = timesteps(self.process.schedule, noise_level)
        estimate = estimate_inside(self._network, z - inside, inside, scales, timestep)
        x0 = z - inside + noise.project(estimate)
        return x0, (z - x0) / noise_level
