"""Estimates of the clean image from y = x + n; they change the noisy frequencies only (docs/theory.md, section 6)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from sagd_cli.damage.strength import TINY
from sagd_cli.denoising.spectral_denoiser import SpectralDenoiser
from sagd_cli.diffusion.samplers import dpmpp, integrate
from sagd_cli.errors import DataError
from sagd_cli.spectral.noise import SpectralNoise, multiply_spectrum, random_stream, white_noise

DRAWS = 32
NEAREST = 2.0  # distance in bins from which on the spectrum around a band counts less


def notch(y: Tensor, noise: SpectralNoise) -> Tensor:
    """Return `y` (B, C, H, W) without the band of `noise`. The mean of each image stays."""
    mean = y.mean(dim=(-2, -1), keepdim=True)
    return y - noise.project(y - mean)


def wiener(y: Tensor, noise: SpectralNoise) -> Tensor:
    """Reduce each frequency of the band of `noise` to the level around the band: a Wiener filter without training.

    The amplitude of images `y` (B, C, H, W) is multiplied by S / max(S, P); the phase stays. P = |F y|^2 / N is the
    power at that frequency, averaged over colours. S is the power that the spectrum around the band suggests. The
    noise power P - S, or 0 where S is larger, is the likeliest one. The mean of each image stays. Raises DataError
    when the band leaves no other frequency but the mean.
    """
    spectrum = torch.fft.rfft2(y - y.mean(dim=(-2, -1), keepdim=True), norm="ortho")
    power = torch.view_as_real(spectrum).square().sum(-1).mean(dim=1, keepdim=True).clamp_(min=TINY)
    outside = torch.from_numpy(~noise.support & (noise.grid.radius > 0)).to(y.device)
    if not outside.any():
        raise DataError("the band leaves no frequency to compare it with", "Use --estimate notch.")
    # E log P = log S + bias, as P is the mean over C colours and each colour's power is exponential with mean S.
    bias = float(torch.digamma(torch.tensor(float(y.shape[1])))) - math.log(y.shape[1])
    expected = _around(power.log() - bias, outside, noise.grid.shape).exp_()
    damage = 1 - expected / torch.maximum(expected, power)
    return y - noise.project(torch.fft.irfft2(spectrum.mul_(damage), s=noise.grid.shape, norm="ortho"))


def _around(level: Tensor, outside: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return at each frequency the weighted mean of `level` (..., half spectrum) over the bins where `outside` is 1.

    A bin at distance d (in bins) has the weight (2^2 + d^2)^(-5/2). Near bins count most. In float64 the weights do
    not vanish in the middle of a band, however wide it is.
    """
    rows, columns = (torch.fft.fftfreq(n, 1 / n, dtype=torch.float64, device=level.device) for n in shape)
    weights = (NEAREST**2 + rows[:, None] ** 2 + columns[: level.shape[-1]] ** 2) ** -2.5
    kernel = torch.fft.irfft2(weights, s=shape)

    def blurred(values: Tensor) -> Tensor:
        smooth: Tensor = torch.fft.rfft2(torch.fft.irfft2(values.double(), s=shape) * kernel).real
        return smooth

    return (blurred(level * outside) / blurred(outside)).to(level.dtype)


@dataclass(frozen=True)
class Drawing:
    """How images are drawn from a posterior: in `steps` network evaluations, each image with its own random stream.

    The stream of image i is a function of `seed` and of `names[i]`.
    """

    steps: int
    seed: int
    names: Sequence[str]

    def streams(self, device: torch.device, purpose: str = "posterior") -> list[torch.Generator]:
        """Return one stream for each of the images."""
        return [random_stream(device, self.seed, purpose, name) for name in self.names]


def mean_estimate(y: Tensor, denoiser: SpectralDenoiser, drawing: Drawing) -> Tensor:
    """Return E[x | y] of planes `y` (B, C, H, W), in one network evaluation (docs/theory.md, section 6.2)."""
    return denoiser.mean(y)


def sample_estimate(y: Tensor, denoiser: SpectralDenoiser, drawing: Drawing) -> Tensor:
    """Return one draw from p(x | y) for each image of the planes `y` (B, C, H, W): the SDE of DPM-Solver++."""
    return _walked(y, denoiser, drawing, is_random=True)


def ode_estimate(y: Tensor, denoiser: SpectralDenoiser, drawing: Drawing) -> Tensor:
    """Follow the ODE that turns the law of the planes `y` into the law of x, and return where it ends."""
    return _walked(y, denoiser, drawing, is_random=False)


def _walked(y: Tensor, denoiser: SpectralDenoiser, drawing: Drawing, is_random: bool) -> Tensor:
    """Follow the reverse process from the noise of `y`, for all images of one path at a time (theory, section 6.2)."""
    walked, ends = torch.empty_like(y), denoiser.ends(len(y))
    for end in set(ends):
        places = [i for i, value in enumerate(ends) if value == end]
        some, part, given = (
            y[places],
            denoiser.of(places),
            replace(drawing, names=[drawing.names[i] for i in places]),
        )
        noise, streams = part.process.noise, given.streams(y.device)
        step = dpmpp(partial(noise.draw, some.shape, streams) if is_random else None)
        start = part.start(some, given.streams(y.device, "lost"))
        drawn = integrate(part, step, start, part.path(drawing.steps, end))
        walked[places] = some + noise.project(drawn - some)
    return walked


def noisier_posterior_mean(y: Tensor, denoiser: SpectralDenoiser, ratio: float, drawing: Drawing) -> Tensor:
    """Return E[x | z], averaged over draws of m, where z = y + m (docs/theory.md, section 6.3).

    The noise m has the power N of `denoiser`. `ratio` is the amplitude of the noise in the planes `y` (B, C, H, W), and
    in the images the network was trained on, divided by that of m. E[x | z] = z - (1 + ratio^2) E[m | z]. Source:
    Noisier2Noise, Moran et al. 1910.11908.
    """
    shape = tuple(y.shape[2:])
    streams, amplitude = drawing.streams(y.device, "omit"), denoiser.noise.sqrt()
    total = torch.zeros_like(y)
    for _ in range(DRAWS):
        white = white_noise(tuple(y.shape), streams, y.device)
        z = y + multiply_spectrum(white, amplitude, shape)
        total += z - (1 + ratio**2) * (z - denoiser.mean(z))
    return total / DRAWS
