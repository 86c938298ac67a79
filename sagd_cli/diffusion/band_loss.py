"""The loss of a network that estimates bands of images (docs/theory.md, section 6)."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sagd_cli.diffusion.band_denoiser import MULTIPLE, Scales, estimate_inside, padded, timesteps
from sagd_cli.diffusion.loss import Errors
from sagd_cli.diffusion.prediction import Network, floored
from sagd_cli.diffusion.schedule import Schedule
from sagd_cli.errors import ConfigError
from sagd_cli.spectral.band import RINGS, Band
from sagd_cli.spectral.filter import SpectralFilter
from sagd_cli.spectral.grid import Array, FrequencyGrid
from sagd_cli.spectral.noise import BatchStream, SpectralNoise, multiply_spectrum, uniform

NARROWEST_RING = 0.1

DrawUniform = Callable[[], Tensor]


class BandChoice:
    """The bands that a network is trained for: BANDs, and `rings`, which stands for rings between random radii."""

    def __init__(self, bands: Sequence[str], grid: FrequencyGrid, device: torch.device | str) -> None:
        """Take the bands to choose from, for fields of `grid`.

        Raises ConfigError without any band, and for a BAND that holds no frequency on `grid`.
        """
        self.grid, self.device = grid, device
        self._rings = RINGS in bands
        fixed = [Band.parse(band).mask(grid) for band in bands if band != RINGS]
        if not bands:
            raise ConfigError("there is no band to train for", "For example low, mid or rings.")
        self._radius = torch.as_tensor(FrequencyGrid(grid.shape).rho, dtype=torch.float32, device=device)
        self._radii = torch.unique(self._radius)
        self._masks = [torch.as_tensor(mask, dtype=torch.float32, device=device) for mask in fixed]

    def masks(self, draw: DrawUniform) -> Tensor:
        """Choose a band for each image; return masks (B, 1, *half spectrum), 1 inside. `draw` gives (B,) in [0, 1)."""
        which = (draw() * (len(self._masks) + self._rings)).long()
        if not self._rings:
            return torch.stack(self._masks)[which][:, None]
        masks = torch.stack([*self._masks, torch.zeros_like(self._radius)])[which]
        chosen = (which == len(self._masks)).view(-1, *[1] * self._radius.ndim)
        return torch.where(chosen, self._random_rings(draw), masks)[:, None]

    def _random_rings(self, draw: DrawUniform) -> Tensor:
        """Return rings between random radii, widened to radii of the grid.

        So no ring is empty, and DC and the corners can be part of one.
        """
        low = draw() * (1 - NARROWEST_RING)
        high = low + NARROWEST_RING + draw() * (1 - NARROWEST_RING - low)
        first = torch.searchsorted(self._radii, low, right=True) - 1
        last = torch.searchsorted(self._radii, high).clamp(max=len(self._radii) - 1)
        shape = (-1, *[1] * self._radius.ndim)
        low, high = (self._radii[edge].view(shape) for edge in (first, last))
        rings: Tensor = (self._radius >= low) & (self._radius <= high)
        return rings.float()


class BandLoss:
    """The loss of a network that estimates a band of x from x + level eps_B, for bands and levels drawn at random.

    The error is divided by the standard deviation of the linear estimate's error, so that every band and level has the
    same weight. The network sees a square of `window` pixels at a random place of each field, or the whole field when
    `window` is None. Noise and bands are always those of the whole field, as for a part of a photograph.
    """

    def __init__(
        self,
        schedule: Schedule,
        bands: BandChoice,
        levels: tuple[float, float],
        power: Array,
        window: int | None,
    ) -> None:
        """Take the data's `power` E |F x|^2 / N (half spectrum) and the range `levels`, from which levels are drawn.

        Levels are log-uniform.
        """
        grid, device = bands.grid, bands.device
        self._schedule, self._bands, self._levels, self._window = schedule, bands, levels, window
        self._shape = grid.shape
        self._power = torch.as_tensor(floored(power, grid), dtype=torch.float32, device=device)
        share = grid.multiplicity / grid.size
        self._bin_share = torch.as_tensor(share, dtype=torch.float32, device=device)
        self._white = _white(grid.shape, device)
        self.noise = self._white if window is None else _white((window,) * grid.ndim, device)

    def errors(self, network: Network, x0: Tensor, stream: torch.Generator | BatchStream) -> Errors:
        """Try the network on one random (band, level, noise) for each image of `x0` (B, C, *spatial)."""

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
        """Return the mean square error, divided by that of the linear estimate: 1 for a network that outputs zero."""
        return errors.output.square().mean()

    def _total(self, values: Tensor) -> Tensor:
        """Return the mean (..., 1, 1) over the full spectrum of `values` (..., *half spectrum)."""
        return (self._bin_share * values).sum(dim=tuple(range(-len(self._shape), 0)), keepdim=True)

    def _cut(self, draw: DrawUniform, like: Tensor) -> Callable[[Tensor], Tensor]:
        """Return a function that cuts one window out of each image of a batch, at the same places in every call."""
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
