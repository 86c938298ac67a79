"""The power spectrum of each image, as a power law that is fitted through the noise (docs/theory.md, section 9)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sagd_cli.denoising.preconditioning import NO_POWER
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.noise import power_of, tensor_on
from sagd_cli.spectral.power_law import OFFSET, SLOPE, SLOPE_DEVIATION

MIDDLE = 0.1  # cycles/sample, where the level of a law is given: level and slope are nearly independent there
# The prior of the level is level^RAISED: where noise hides the image, the level is the largest that it could hide.
RAISED = 2.0
STEPS = 12
MOST_FITTED = 1 << 16  # more frequencies make two parameters no surer
LEAST_SHARE = 1e-8  # of the power of an image: a constant plane has a spectrum too


@dataclass(frozen=True)
class ImageLaw:
    """The law S(r) = level ((r + r0) / (r1 + r0))^-slope, with r0 = 0.005 and r1 = 0.1 cycles/sample.

    `level` and `slope` are (B, C): each plane of each image has its own. S is the expected |F x|^2 / N.
    """

    level: Tensor
    slope: Tensor

    def power(self, grid: FrequencyGrid) -> Tensor:
        """Return S (B, C, *half spectrum) on `grid`, positive everywhere."""
        place = _places(grid, self.level.device)
        axes = (..., *[None] * grid.ndim)
        return self.level[axes] * torch.exp(-self.slope[axes] * place)


def _places(grid: FrequencyGrid, device: torch.device) -> Tensor:
    radius = tensor_on(device, grid.radius)
    return torch.log((radius + OFFSET) / (MIDDLE + OFFSET))


def fitted_law(y: Tensor, noise: Tensor, grid: FrequencyGrid) -> ImageLaw:
    """Fit the law of each plane of images `y` (B, C, *spatial), whose noise has the power `noise`.

    `noise` is N (B or 1, C or 1, *half spectrum), infinite where a frequency is lost; those, and DC, do not count. The
    power |F y|^2 / N at a frequency is taken as exponential with the mean S + N (Whittle's likelihood; Whittle 1953),
    and slopes have a normal prior about 2.9. Multiplying image and noise by a number multiplies S by its square.
    """
    chosen = _chosen(grid).to(y.device, non_blocking=True)
    planes = [power_of(plane, grid.shape).flatten(1)[:, chosen] for plane in y.unbind(1)]
    power, place = torch.stack(planes, dim=1), _places(grid, y.device).flatten()[chosen]
    noise = noise.expand(*noise.shape[:2], *grid.half_shape).flatten(2)[..., chosen]
    count = tensor_on(y.device, grid.multiplicity).flatten()[chosen] / 2
    count = count * noise.isfinite()
    noise = noise.nan_to_num(posinf=0.0)
    # One scale for all planes of an image: a plane without content has a small part of the others' power.
    total = (count * power).sum(dim=(-2, -1)) / count.sum(dim=(-2, -1)).clamp(min=NO_POWER) / power.shape[1]
    scale = (total * count.shape[1]).clamp(min=NO_POWER)[:, None]
    power, noise = power / scale[..., None], noise / scale[..., None]
    # The fit begins as if all power were the image's.
    own = (count * power).sum(-1) / (count * torch.exp(-SLOPE * place)).sum(-1).clamp(min=NO_POWER)
    level, slope = own.clamp(min=LEAST_SHARE).log(), torch.full_like(own, SLOPE)
    precision = SLOPE_DEVIATION**-2
    for _ in range(STEPS):
        signal = torch.exp(level[..., None] - slope[..., None] * place)
        total = signal + noise
        share = count * signal / total
        score = share * (power / total - 1)
        info = share * signal / total
        up, across = score.sum(-1) + RAISED, -(score * place).sum(-1) - precision * (slope - SLOPE)
        a, b, c = info.sum(-1) + 1e-3, -(info * place).sum(-1), (info * place.square()).sum(-1) + precision
        determinant = (a * c - b * b).clamp(min=NO_POWER)
        level = (level + ((c * up - b * across) / determinant).clamp(-2, 2)).clamp(min=math.log(LEAST_SHARE))
        slope = (slope + ((a * across - b * up) / determinant).clamp(-0.5, 0.5)).clamp(0, 6)
    return ImageLaw(level.exp() * scale, slope)


def _chosen(grid: FrequencyGrid) -> Tensor:
    """Return the indices, into the flat half spectrum, of the frequencies that are fitted: all but DC, or many."""
    size = math.prod(grid.half_shape)
    step = max(1, size // MOST_FITTED)
    while math.gcd(step, grid.half_shape[-1]) > 1:
        step += 1
    return torch.arange(1, size, step)


def image_power(y: Tensor, noise: Tensor, own: Tensor | None = None) -> Tensor:
    """Return the power S (B, C, *half spectrum) of the images in `y` (B, C, *spatial) with `noise` of the power N.

    It is the law that is fitted to them, plus `own`, the power of what the images have besides.
    """
    grid = FrequencyGrid(tuple(y.shape[2:]))
    known = noise if own is None else noise + own
    power = fitted_law(y, known, grid).power(grid)
    return power if own is None else power + own
