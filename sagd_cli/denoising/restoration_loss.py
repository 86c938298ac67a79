"""The loss of a network that removes noise of many spectra (docs/theory.md, section 9)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sagd_cli.denoising.image_law import image_power
from sagd_cli.denoising.planes import RGB_PLANES, marked, to_planes
from sagd_cli.denoising.preconditioning import clipped_noise, denoised
from sagd_cli.denoising.random_spectra import DrawUniform, RandomSpectra
from sagd_cli.denoising.sizes import padded
from sagd_cli.diffusion.loss import Errors
from sagd_cli.diffusion.prediction import Network
from sagd_cli.spectral.filter import SpectralFilter
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.noise import BatchStream, SpectralNoise, multiply_spectrum, uniform, white_noise

SMALLEST_ERROR = 1e-8  # mean square error that counts as none: 1/80 of a step of 8 bits
LEAST_CONTRAST = 0.1
BYTE_STEP = 2 / 255  # of 8 bits, on the [-1, 1] range


@dataclass(frozen=True)
class Variety:
    """How images are varied before noise is added: the shares of those that are made grey, paler, inverted, or 8-bit.

    The noise of 8-bit images is clipped and rounded.
    """

    grey: float = 0.0
    paler: float = 0.0
    inverted: float = 0.0
    clipped: float = 0.0


class RestorationLoss:
    """The loss of a network that estimates x from x + n, where n has a spectrum drawn at random for each image.

    The error is divided by that of the Wiener filter, so that every spectrum has the same weight.
    """

    def __init__(
        self,
        spectra: RandomSpectra,
        shape: tuple[int, ...],
        device: torch.device,
        variety: Variety | None = None,
        damage: float | None = None,
        multiple: int = 1,
    ) -> None:
        """Take the spectra to draw from. Errors are recorded at the frequencies of the smallest images' `shape`.

        `damage` is the level of noise that the images already have, of the one spectrum that is trained for. The
        network is given sides that `multiple` divides.
        """
        self._spectra, self._variety, self._damage = spectra, variety, damage
        self._multiple = multiple
        grid = FrequencyGrid(shape)
        self.noise = SpectralNoise(SpectralFilter.from_weight(grid, grid.radius * 0 + 1), device)

    def errors(self, network: Network, x0: Tensor, stream: torch.Generator | BatchStream) -> Errors:
        """Try the network on one random spectrum and noise for each image of `x0` (B, C, *spatial)."""

        def draw() -> Tensor:
            return uniform(len(x0), stream, x0.device)

        grid = FrequencyGrid(tuple(x0.shape[2:]))
        noise = self._spectra.draw(grid, draw, x0.device)
        white = white_noise(tuple(x0.shape), stream, x0.device)
        finite = noise.nan_to_num(posinf=0.0)
        added = multiply_spectrum(white, finite.sqrt(), grid.shape)
        x, y, marks, clipped = self._damaged(x0, added, draw)
        noise = clipped_noise(noise, clipped, grid)
        own = None if self._damage is None else self._spectra.unit(grid, x0.device) * self._damage**2
        image = image_power(y, noise, own)
        found = denoised(padded(network, self._multiple), y, noise, image, marks)
        # What the Wiener filter leaves: as it is in this image, and as it is expected.
        left = ((found.linear - x).square().flatten(1).mean(1) + found.error) / 2
        wrong = (found.estimate - x) / (left + SMALLEST_ERROR).sqrt().view(-1, *[1] * (x.ndim - 1))
        corner = wrong
        for axis, side in enumerate(self.noise.grid.shape, start=2):
            corner = corner.narrow(axis, 0, side)
        return Errors(wrong, corner, torch.ones(len(x), device=x.device))

    def objective(self, errors: Errors) -> Tensor:
        """Return the root mean square error of each image, averaged: about 1 for a network that outputs zero."""
        return errors.output.square().flatten(1).mean(1).sqrt().mean()

    def _damaged(self, x: Tensor, added: Tensor, draw: DrawUniform) -> tuple[Tensor, ...]:
        """Return the planes of the varied images, of the same with noise, of the marks of clipped pixels, and the share
        (B,) of these.
        """
        variety = self._variety
        if variety is None:
            planes = to_planes(x)
            return planes, planes + to_planes(added), torch.zeros_like(planes), x.new_zeros(len(x))

        def chosen(share: float) -> Tensor:
            return (draw() < share).view(-1, *[1] * (x.ndim - 1))

        contrast = torch.exp(math.log(LEAST_CONTRAST) * draw()).view(-1, *[1] * (x.ndim - 1))
        contrast = torch.where(chosen(variety.paler), contrast, torch.ones_like(contrast))
        offset = (1 - contrast) * (2 * draw().view(-1, *[1] * (x.ndim - 1)) - 1)
        x = torch.where(chosen(variety.inverted), -x, x) * contrast + offset
        is_grey = chosen(variety.grey) if x.shape[1] == RGB_PLANES else chosen(0)
        if x.shape[1] == RGB_PLANES:
            first = torch.tensor([1.0, 0, 0], device=x.device).view(1, -1, *[1] * (x.ndim - 2))
            x = torch.where(is_grey, x.mean(dim=1, keepdim=True) * first, x)
            added = torch.where(is_grey, added * first, added)
        is_clipped = chosen(variety.clipped)
        y = x + added
        # The planes that a grey image does not have are grey themselves: neither black nor white.
        clipped = ((y.clamp(-1, 1) + 1) / BYTE_STEP).round() * BYTE_STEP - 1
        if x.shape[1] == RGB_PLANES:
            clipped = torch.where(is_grey & (first == 0), y, clipped)
        y = torch.where(is_clipped, clipped, y)
        marks = is_clipped * marked(y)
        share = marks.abs().flatten(1).mean(1) * torch.where(is_grey.flatten(), x.shape[1], 1)
        return *(torch.where(is_grey, part, to_planes(part)) for part in (x, y, marks)), share
