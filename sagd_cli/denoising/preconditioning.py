"""How a network removes noise of any spectrum: frequency by frequency (docs/theory.md, section 9)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sagd_cli.diffusion.prediction import Network
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.noise import field_of, multiply_spectrum, spectrum_of, tensor_on

INPUTS = 4  # planes that the network sees of each plane of the image
NO_POWER = 1e-20
SPREAD = 0.2  # of the variance of clipped noise, at all frequencies


@dataclass(frozen=True)
class Coefficients:
    """The multipliers of a frequency whose image has the power S and whose noise has the power N.

    `skip` = S / (S + N) is the Wiener filter, `inputs` = (S + N)^-1/2 gives unit power, and `error` =
    (S N / (S + N))^1/2 is the standard deviation of what the Wiener filter leaves. `white` = skip S^-1/2. Where N is
    infinite, all are 0 but `error`, which is S^1/2. Source: Karras et al. 2206.00364, eq. 7, at each frequency.
    """

    skip: Tensor
    inputs: Tensor
    error: Tensor
    white: Tensor

    @classmethod
    def of(cls, image: Tensor, noise: Tensor) -> "Coefficients":
        """Return the coefficients of S = `image` > 0 and N = `noise` >= 0, possibly infinite; both broadcast."""
        skip = 1 / (1 + noise / image)
        error = torch.sqrt(image / (1 + image / noise))
        return cls(skip, torch.rsqrt(image + noise), error, skip * torch.rsqrt(image))


@dataclass(frozen=True)
class Denoised:
    """An estimate of x: the Wiener filter's, `linear`, plus the network's `correction`, all (B, C, *spatial).

    `error` (B,) is the mean square that the linear estimate's error is expected to have.
    """

    linear: Tensor
    correction: Tensor
    error: Tensor

    @property
    def estimate(self) -> Tensor:
        """E[x | y]."""
        return self.linear + self.correction


def denoised(network: Network, y: Tensor, noise: Tensor, image: Tensor, marks: Tensor | None) -> Denoised:
    """Return E[x | y] of the planes `y` (B, C, *spatial) = x + n.

    `noise` is the power N of n (B or 1, 1, *half spectrum), infinite where a frequency is lost, and `image` is the
    power S of x (B, C, *half spectrum). What has no noise comes back unchanged, and the mean is never lost.

    The network sees 4 C planes: y and the Wiener estimate with the image's spectrum divided out, the Wiener estimate at
    unit deviation, and `marks`, which tell the pixels that are black or white (None: none). The first C planes of what
    it returns count. A network that returns zeros leaves the Wiener estimate.
    """
    shape, channels = tuple(y.shape[2:]), y.shape[1]
    noise = with_mean(noise)
    seen, linear, expected = _inputs(y, noise, image)
    if marks is not None:
        seen[:, 3 * channels :] = marks
    said = network(seen, torch.zeros(len(y), device=y.device))
    del seen  # several times the image
    correction = [
        multiply_spectrum(said[:, p], Coefficients.of(image[:, p], noise[:, 0]).error, shape)
        for p in range(channels)
    ]
    return Denoised(linear, torch.stack(correction, dim=1), expected)


def _inputs(y: Tensor, noise: Tensor, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return what the network sees, without marks, the Wiener estimate, and its expected mean square error (B,)."""
    grid, channels = FrequencyGrid(tuple(y.shape[2:])), y.shape[1]
    share = tensor_on(y.device, grid.multiplicity / grid.size)
    axes = tuple(range(1, y.ndim - 1))
    seen = y.new_zeros(len(y), INPUTS * channels, *grid.shape)
    linear, expected = torch.empty_like(y), y.new_zeros(len(y))
    for p in range(channels):  # one plane at a time: the spectra of large images take much memory
        mean = y[:, p].mean(dim=axes, keepdim=True)
        spectrum = spectrum_of(y[:, p] - mean, grid.shape)
        c = Coefficients.of(image[:, p], noise[:, 0])
        seen[:, p] = field_of(spectrum * c.inputs, grid.shape)
        seen[:, channels + p] = field_of(spectrum * c.white, grid.shape)
        estimate = field_of(spectrum.mul_(c.skip), grid.shape)
        size = estimate.square().mean(axes, keepdim=True).clamp(min=NO_POWER)
        seen[:, 2 * channels + p] = estimate * torch.rsqrt(size)
        linear[:, p] = mean + estimate
        expected += (share * c.error.square()).flatten(1).sum(1) / channels
    return seen, linear, expected


def with_mean(noise: Tensor) -> Tensor:
    """Return the power `noise` (B, C, *half spectrum) without noise on the mean where the mean would be lost."""
    noise = noise.clone()
    first = noise.flatten(2)[..., :1]
    first.copy_(first.nan_to_num(posinf=0.0))
    return noise


def clipped_noise(noise: Tensor, clipped: Tensor, grid: FrequencyGrid) -> Tensor:
    """Return the power that noise of the power `noise` (B or 1, 1, *half spectrum) keeps when pixels were clipped.

    `clipped` (B,) is the share p of the pixels where it was. A linear part 1 - p of the noise is left (Bussgang 1952),
    and beside it a part at all frequencies, of 0.2 p times the variance: about what white noise has on a plain black
    image, where p is a half. What is lost stays lost.
    """
    share = tensor_on(noise.device, grid.multiplicity / grid.size)
    finite = noise.nan_to_num(posinf=0.0)
    variance = (share * finite).flatten(1).sum(1)
    axes = (-1, *[1] * (noise.ndim - 1))
    kept = (1 - clipped).square().view(axes) * finite + (SPREAD * clipped * variance).view(axes)
    return torch.where(noise.isinf(), noise, kept)
