"""Spectra of noise to train a denoiser on: drawn at random, or those of given bands (docs/theory.md, section 9)."""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sagd_cli.errors import ConfigError
from sagd_cli.spectral.band import ANY, RINGS, Band
from sagd_cli.spectral.grid import Array, FrequencyGrid
from sagd_cli.spectral.noise import tensor_on
from sagd_cli.spectral.region import PRESETS

NARROWEST_RING = 0.1
DISCS = 12
SUMMED, LOST = 0.2, 0.1  # shares of the images whose noise is a sum of two, and whose band is lost
WIDEST_LOST = 0.5  # of the spectrum
FAINT = 1e-3  # of the power of a Gaussian strip, beyond which there is none
THINNEST = 1e-6  # cycles/pixel; what rounding makes of a frequency on an axis is less
LOST_LEVEL = 100.0  # levels that reach this stand for lost bands too

DrawUniform = Callable[[], Tensor]
PowerOn = Callable[[FrequencyGrid], Array]


class RandomSpectra:
    """Power spectra N of noise, drawn for each image of a batch.

    `kinds` are functions of a grid, which return the power of noise of level 1; `rings`, which stands for rings
    between random radii; and `any`, which stands for rings, white noise, power laws, stripes, tones, and sums of two of
    them, where a band may also be lost.
    """

    def __init__(self, kinds: Sequence[str | PowerOn], levels: tuple[float, float]) -> None:
        """Take the kinds to choose from, and the least and largest level of those that are not `any`.

        Raises ConfigError without any kind.
        """
        if not kinds:
            raise ConfigError("there is no band to train for", "For example low, mid, rings or any.")
        self._kinds, self._levels = tuple(kinds), levels
        self._units = lru_cache(maxsize=32)(self._unit)

    def draw(self, grid: FrequencyGrid, draw: DrawUniform, device: torch.device) -> Tensor:
        """Return N (B, 1, *half spectrum), infinite where a frequency is lost; `draw` gives (B,) in [0, 1).

        Raises what the functions raise.
        """
        here = _Here(grid, draw, device)
        kinds = [self._kind(kind, here) for kind in self._kinds]
        which = (draw() * len(kinds)).long()
        return here.picked(kinds, which)[:, None]

    def unit(self, grid: FrequencyGrid, device: torch.device) -> Tensor:
        """Return the power (*half spectrum) of noise of level 1 of the first kind, not `any` or `rings`."""
        return tensor_on(device, self._units(self._kinds[0], grid.shape))

    def _unit(self, kind: PowerOn, shape: tuple[int, ...]) -> NDArray[np.float32]:
        return np.asarray(kind(FrequencyGrid(shape)), dtype=np.float32)

    def _kind(self, kind: str | PowerOn, here: "_Here") -> Tensor:
        if kind == ANY:
            return here.any()
        unit = here.rings() if kind == RINGS else tensor_on(here.device, self._units(kind, here.grid.shape))
        low, high = self._levels
        level = here.shaped(here.log_uniform(low, high))
        share = 1.0 if low >= LOST_LEVEL else LOST if high >= LOST_LEVEL else 0.0
        # Lost is what may reach the level that stands for it, but for the mean.
        lost = here.shaped(here.draw() < share) & (unit * high**2 >= LOST_LEVEL**2)
        return torch.where(lost, torch.where(here.radius > 0, math.inf, 0.0), level**2 * unit)


class _Here:
    """The kinds of noise on one grid; every method draws for each image of a batch and returns (B, *half spectrum)."""

    def __init__(self, grid: FrequencyGrid, draw: DrawUniform, device: torch.device) -> None:
        self.grid, self.draw, self.device = grid, draw, device
        self.rho, self.radius, self.share = (
            tensor_on(device, values) for values in (grid.rho, grid.radius, grid.multiplicity / grid.size)
        )

    def shaped(self, values: Tensor) -> Tensor:
        return values.view(-1, *[1] * self.grid.ndim)

    def log_uniform(self, low: float, high: float) -> Tensor:
        return torch.exp(math.log(low) + (math.log(high) - math.log(low)) * self.draw())

    def uniform(self, low: float, high: float) -> Tensor:
        return low + (high - low) * self.draw()

    def picked(self, kinds: Sequence[Tensor], which: Tensor) -> Tensor:
        """Return kinds[which[i]] for image i."""
        result = kinds[0].expand(len(which), *self.grid.half_shape)
        for k in range(1, len(kinds)):
            result = torch.where(self.shaped(which == k), kinds[k], result)
        return result

    def fixed(self, band: Band) -> Tensor:
        return tensor_on(self.device, band.mask(self.grid))

    def rings(self) -> Tensor:
        """Rings between random radii, widened to radii of the grid; so none is empty, and DC can be part of one."""
        # Not torch.unique: the host would wait for a GPU to know how many there are.
        radii = tensor_on(self.device, np.unique(self.grid.rho.astype(np.float32)))
        low = self.draw() * (1 - NARROWEST_RING)
        high = low + NARROWEST_RING + self.draw() * (1 - NARROWEST_RING - low)
        first = torch.searchsorted(radii, low, right=True) - 1
        last = torch.searchsorted(radii, high).clamp(max=len(radii) - 1)
        low, high = (self.shaped(radii[edge]) for edge in (first, last))
        inside: Tensor = (self.rho >= low) & (self.rho <= high)
        return inside.float()

    def any(self) -> Tensor:
        """Noise of any kind, in a share of the images a sum of two kinds, or lost."""
        first, band = self._one()
        second, _ = self._one()
        total = first + self.shaped(self.draw() < SUMMED) * second
        covered = (self.share * band).flatten(1).sum(1)
        lost = self.shaped((self.draw() < LOST) & (covered < WIDEST_LOST)) & (band > 0) & (self.radius > 0)
        return torch.where(lost, math.inf, total)

    def _one(self) -> tuple[Tensor, Tensor]:
        """Return noise of one kind, and 1 in its band; noise at all frequencies counts as a band of all."""
        rings = self._named_rings()
        strips, strong = self._strips()
        discs = self._discs()
        everywhere = torch.ones_like(rings)
        powers = [
            rings * self.shaped(self.log_uniform(0.01, 2)) ** 2,
            everywhere * self.shaped(self.log_uniform(0.01, 1)) ** 2,
            self._laws() * self.shaped(self.log_uniform(0.01, 1)) ** 2,
            strips * self.shaped(self.log_uniform(0.005, 0.5)) ** 2,
            discs,
        ]
        bands = [rings, everywhere, everywhere, strong, (discs > 0).float()]
        kind = self.draw()
        which = sum((kind >= edge).long() for edge in (0.35, 0.55, 0.7, 0.87))
        assert isinstance(which, Tensor)
        return self.picked(powers, which), self.picked(bands, which)

    def _named_rings(self) -> Tensor:
        """Random rings, a third of them low, mid or high."""
        named = [self.fixed(Band.parse(name)) for name in PRESETS]
        which = (self.draw() * 3 * len(named)).long()
        return self.picked([*named, self.rings()], which.clamp(max=len(named)))

    def _laws(self) -> Tensor:
        """Powers of w = (r + 0.01)^alpha with variance 1."""
        power = (self.radius + 0.01) ** (2 * self.shaped(self.uniform(-1.5, 1)))
        return power / self.shaped((self.share * power).flatten(1).sum(1))

    def _strips(self) -> tuple[Tensor, Tensor]:
        """Spectra of stripes, with variance 1, and 1 where they are strong.

        A spectrum of stripes is a strip through DC, across the stripes. Half of the stripes run along an axis from
        edge to edge (rows or columns offset as a whole: one frequency wide). The others are finite, along an axis or
        at any angle: their strip is wider, with a hard or a Gaussian profile, and some are wedges (their angle
        varies). A third spares the low frequencies, and a third falls off along the strip (soft stripes).
        """
        fy, fx = (tensor_on(self.device, f) for f in self.grid.axes)
        finite, oblique = self.draw() < 0.5, self.draw() < 0.4
        angle = torch.where(finite & oblique, self.uniform(0, math.pi), math.pi / 2 * (self.draw() < 0.5))
        sin, cos = self.shaped(angle.sin()), self.shaped(angle.cos())
        along, across = (fx * cos + fy * sin).abs(), (fy * cos - fx * sin).abs()
        narrowest = 1.2 / min(self.grid.shape) * oblique  # an oblique line passes between the frequencies
        width = torch.maximum(self.uniform(0.004, 0.04), narrowest) * finite
        wedge = self.uniform(0, 0.1) * (finite & (self.draw() < 1 / 3))
        half = self.shaped(width) / 2 + self.shaped(wedge) * across + THINNEST
        hard = (along <= half).float()
        profile = torch.where(self.shaped(self.draw() < 0.5), hard, torch.exp(-0.5 * (along / half) ** 2))
        softness = self.shaped(torch.where(self.draw() < 1 / 3, self.uniform(0.05, 0.3), math.inf))
        guard = self.shaped(0.025 * (self.draw() < 1 / 3))
        power = self._real(profile * torch.exp(-0.5 * (across / softness) ** 2) * (self.radius > guard))
        power = torch.where(power < FAINT, 0.0, power)
        return power / self.shaped((self.share * power).flatten(1).sum(1)), (power > 0.5).float()

    def _real(self, power: Tensor) -> Tensor:
        """Return `power` with N(f) = N(-f) where f = 1/2 in the last column, too, which is its own mirror."""
        if self.grid.shape[-1] % 2:
            return power
        mirror = -torch.arange(power.shape[-2], device=self.device) % power.shape[-2]
        last = (power[..., -1:] + power[:, mirror, -1:]) / 2
        return torch.cat([power[..., :-1], last], dim=-1)

    def _discs(self) -> Tensor:
        """Power in 1 to 12 discs at random frequencies, each with its own strength."""
        along, across = (tensor_on(self.device, f) for f in self.grid.axes)
        spacing = 1 / min(self.grid.shape)
        count = self.shaped(self.uniform(0, 1) ** 2 * DISCS)
        total = torch.zeros(len(count), *self.grid.half_shape, device=self.device)
        for k in range(DISCS):
            radius = self.shaped((self.uniform(0.002, 0.03) * (self.draw() < 0.7)).clamp(min=0.6 * spacing))
            fy, fx = self.shaped(self.uniform(-0.5, 0.5)), self.shaped(self.uniform(0, 0.5))
            level = self.shaped(self.log_uniform(0.03, 30))
            inside = torch.zeros_like(total, dtype=torch.bool)
            for sign in (1, -1):  # the spectrum is periodic, and f stands for -f
                dy, dx = along - sign * fy, across - sign * fx
                inside |= (dy - dy.round()) ** 2 + (dx - dx.round()) ** 2 <= radius**2
            inside &= (count >= k) & (self.radius > 0)
            total = torch.where(inside, level**2, total)
        return total
