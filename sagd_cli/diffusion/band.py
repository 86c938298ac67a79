"""Noise on a band only, and the network that tells it from images (MATH: 6. Selective omission, uses 2 and 3)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sagd_cli.diffusion.loss import Errors
from sagd_cli.diffusion.prediction import FLOOR, Network
from sagd_cli.diffusion.schedule import Schedule
from sagd_cli.errors import ConfigError
from sagd_cli.spectral.band import RINGS, Band
from sagd_cli.spectral.filter import SpectralFilter
from sagd_cli.spectral.grid import Array, FrequencyGrid
from sagd_cli.spectral.noise import BatchStream, SpectralNoise, multiply_spectrum, uniform

NARROWEST_RING = 0.1
MULTIPLE = 4  # divides the sides of what a network is built for

Draw = Callable[[], Tensor]


class BandChoice:
    """The bands a network is trained for: BANDs of the command line, and `rings`, rings between random radii."""

    def __init__(self, bands: Sequence[str], grid: FrequencyGrid, device: torch.device | str) -> None:
        """Draw from `bands` on fields of `grid`; raise ConfigError for one that is none there."""
        self._rings = RINGS in bands
        fixed = [Band.parse(band).mask(grid) for band in bands if band != RINGS]
        if not bands:
            raise ConfigError("there is no band to train for", "For example low, mid or rings.")
        self._radius = torch.as_tensor(FrequencyGrid(grid.shape).rho, dtype=torch.float32, device=device)
        self._radii = torch.unique(self._radius)
        self._masks = [torch.as_tensor(mask, dtype=torch.float32, device=device) for mask in fixed]

    def masks(self, draw: Draw) -> Tensor:
        """Choose a band for each image and return 1 inside it, (B, 1, *half spectrum); `draw` gives (B,) in [0, 1)."""
        which = (draw() * (len(self._masks) + self._rings)).long()
        if not self._rings:
            return torch.stack(self._masks)[which][:, None]
        masks = torch.stack([*self._masks, torch.zeros_like(self._radius)])[which]
        chosen = (which == len(self._masks)).view(-1, *[1] * self._radius.ndim)
        return torch.where(chosen, self._random_rings(draw), masks)[:, None]

    def _random_rings(self, draw: Draw) -> Tensor:
        """Rings between random radii, moved out to those of the grid: none is empty, and DC and corners are met."""
        low = draw() * (1 - NARROWEST_RING)
        high = low + NARROWEST_RING + draw() * (1 - NARROWEST_RING - low)
        first = torch.searchsorted(self._radii, low, right=True) - 1
        last = torch.searchsorted(self._radii, high).clamp(max=len(self._radii) - 1)
        shape = (-1, *[1] * self._radius.ndim)
        low, high = (self._radii[edge].view(shape) for edge in (first, last))
        rings: Tensor = (self._radius >= low) & (self._radius <= high)
        return rings.float()


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

    def __init__(self, network: Network, schedule: Schedule, noise: SpectralNoise, power: float) -> None:
        """Take the network, the band's noise and the mean power E |F x|^2 / N of the data in the band."""
        self.schedule = schedule
        self.noise = noise
        self._network = network
        self.power = power
        self._power = torch.tensor(power, device=noise.device)
        self._share = torch.tensor(noise.grid.mean(noise.support), device=noise.device)

    def __call__(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return (x0, eps); outside the band x0 is x_t / alpha_t."""
        alpha, sigma = self.schedule.levels(t)
        level = (sigma / alpha).expand(len(x_t)).view(-1, *[1] * (x_t.ndim - 1))
        return self.split(x_t / alpha, level)

    def split(self, z: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """Return (x, eps) of z = x + level eps_B, each image with a level of its own (B, 1, 1, 1)."""
        inside = self.noise.project(z)
        scales = Scales(self._power, self._share, level)
        timestep = timesteps(self.schedule, level)
        estimate = estimate_inside(self._network, z - inside, inside, scales, timestep)
        x0 = z - inside + self.noise.project(estimate)
        return x0, (z - x0) / level


class BandLoss:
    """The loss of a network that estimates a band of x from x + level eps_B, for bands and levels drawn at random.

    The error is counted in deviations of the linear estimate's, so that every band and level weighs the same. The
    network sees squares of `window` pixels at random places of the fields, or all of them without a window: noise
    and filters are then those of larger fields, as a part of a photograph sees them.
    """

    def __init__(
        self,
        schedule: Schedule,
        bands: BandChoice,
        levels: tuple[float, float],
        power: Array,
        grid: FrequencyGrid,
        window: int | None,
        device: torch.device | str,
    ) -> None:
        """Train on fields of `grid` with the power E |F x|^2 / N (half spectrum) and log-uniform levels in `levels`."""
        self._schedule, self._bands, self._levels, self._window = schedule, bands, levels, window
        self._shape = grid.shape
        self._power = torch.as_tensor(floored(power, grid), dtype=torch.float32, device=device)
        share = grid.multiplicity / grid.size
        self._bin_share = torch.as_tensor(share, dtype=torch.float32, device=device)
        self._white = _white(grid.shape, device)
        self.noise = self._white if window is None else _white((window,) * grid.ndim, device)

    def errors(self, network: Network, x0: Tensor, stream: torch.Generator | BatchStream) -> Errors:
        """Try the network on one random (band, level, noise) an image of `x0` (B, C, *spatial)."""

        def draw() -> Tensor:
            return uniform(len(x0), stream, x0.device)

        mask = self._bands.masks(draw)
        low, high = map(math.log, self._levels)
        level = torch.exp(low + (high - low) * draw()).view(-1, *[1] * (x0.ndim - 1))
        share = self._total(mask)
        scales = Scales(self._total(mask * self._power) / share, share, level)
        within = multiply_spectrum(x0, mask, self._shape)
        noise = multiply_spectrum(self._white.draw(x0.shape, stream), mask, self._shape)
        cut, timestep = self._cut(draw, x0), timesteps(self._schedule, level)
        outside, inside = cut(x0 - within), cut(within + level * noise)
        network = padded(network, MULTIPLE)
        wrong = estimate_inside(network, outside, inside, scales, timestep) - cut(within)
        if self._window is None:
            wrong = multiply_spectrum(wrong, mask, self._shape)
        return Errors(wrong / scales.error, wrong / level, level.flatten() ** -2)

    def objective(self, errors: Errors) -> Tensor:
        """Return the mean square of the error over that of the linear estimate: 1 for a silent network."""
        return errors.output.square().mean()

    def _total(self, values: Tensor) -> Tensor:
        """Mean of values (..., *half spectrum) over the full spectrum, (..., 1, 1)."""
        return (self._bin_share * values).sum(dim=tuple(range(-len(self._shape), 0)), keepdim=True)

    def _cut(self, draw: Draw, like: Tensor) -> Callable[[Tensor], Tensor]:
        """Return what cuts the same random window out of each image of every tensor it is given."""
        if self._window is None:
            return lambda x: x
        count, side = len(like), self._window
        height, width = like.shape[-2:]
        steps = torch.arange(side, device=like.device)
        rows = (draw() * (height - side + 1)).long()[:, None] + steps
        columns = (draw() * (width - side + 1)).long()[:, None] + steps
        images = torch.arange(count, device=like.device).view(-1, 1, 1, 1)

        def cut(x: Tensor) -> Tensor:
            channels = torch.arange(x.shape[1], device=x.device).view(1, -1, 1, 1)
            return x[images, channels, rows[:, None, :, None], columns[:, None, None, :]]

        return cut


def _white(shape: tuple[int, ...], device: torch.device | str) -> SpectralNoise:
    grid = FrequencyGrid(shape)
    return SpectralNoise(SpectralFilter.from_weight(grid, grid.radius * 0 + 1), device)
