"""Estimates of the clean image from y = x + gamma eps_B; they change the band only (docs/theory.md, section 6)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sagd_cli.damage.strength import TINY
from sagd_cli.diffusion.band_denoiser import BandDenoiser
from sagd_cli.diffusion.samplers import dpmpp, integrate
from sagd_cli.diffusion.time_grids import levels_at
from sagd_cli.errors import DataError
from sagd_cli.spectral.noise import SpectralNoise, random_stream

DRAWS = 32
# A sample's path goes down to this fraction of the noise's amplitude, or of the images' in the band if that is less.
PATH_REACH = 20.0
NEAREST = 2.0  # bins from a band at which the spectrum around it begins to count less


def notch(y: Tensor, noise: SpectralNoise) -> Tensor:
    """Remove the band of `noise` from `y` (B, C, H, W); the mean of the image stays."""
    mean = y.mean(dim=(-2, -1), keepdim=True)
    return y - noise.project(y - mean)


def wiener(y: Tensor, noise: SpectralNoise) -> Tensor:
    """Keep of each frequency of the band the share S / max(S, P) of images `y` (B, C, H, W), its phase unchanged.

    P = |F y|^2 / N is the power there, the mean over colours, S what the spectrum around the band lets expect: this is
    the Wiener filter whose noise has the likeliest power, P - S or none. The mean of the image stays. Raises DataError
    when the band is all there is.
    """
    spectrum = torch.fft.rfft2(y - y.mean(dim=(-2, -1), keepdim=True), norm="ortho")
    power = torch.view_as_real(spectrum).square().sum(-1).mean(dim=1, keepdim=True).clamp_(min=TINY)
    outside = torch.from_numpy(~noise.support & (noise.grid.radius > 0)).to(y.device)
    if not outside.any():
        raise DataError("the band leaves no frequency to compare it with", "Use --estimate notch.")
    # The expected logarithm of a mean over C colours, each with an exponential distribution about S.
    bias = float(torch.digamma(torch.tensor(float(y.shape[1])))) - math.log(y.shape[1])
    expected = _around(power.log() - bias, outside, noise.grid.shape).exp_()
    damage = 1 - expected / torch.maximum(expected, power)
    return y - noise.project(torch.fft.irfft2(spectrum.mul_(damage), s=noise.grid.shape, norm="ortho"))


def _around(level: Tensor, outside: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Mean of `level` (..., half spectrum) where `outside` is 1, weighted by the distance d in bins.

    Weights are (2^2 + d^2)^(-5/2): they reach into a band however wide it is, in float64, and near ones count most.
    """
    rows, columns = (torch.fft.fftfreq(n, 1 / n, dtype=torch.float64, device=level.device) for n in shape)
    weights = (NEAREST**2 + rows[:, None] ** 2 + columns[: level.shape[-1]] ** 2) ** -2.5
    kernel = torch.fft.irfft2(weights, s=shape)

    def blurred(values: Tensor) -> Tensor:
        smooth: Tensor = torch.fft.rfft2(torch.fft.irfft2(values.double(), s=shape) * kernel).real
        return smooth

    return (blurred(level * outside) / blurred(outside)).to(level.dtype)


def drowned(y: Tensor, noise: SpectralNoise, strength: float, seeds: Sequence[str]) -> Tensor:
    """Replace the band of `y` by noise of `strength`: what is left of a band that is lost, whatever it held."""
    streams = [random_stream(y.device, 0, "lost", seed) for seed in seeds]
    return y - noise.project(y) + strength * noise.draw(y.shape, streams)


def posterior_mean(y: Tensor, denoiser: BandDenoiser, strengths: Tensor) -> Tensor:
    """E[x | y] of images (B, C, H, W) with `strengths` (B,), one network evaluation (use 2)."""
    x0, _ = denoiser.split(y, strengths.view(-1, 1, 1, 1))
    return _inside(y, x0, denoiser.process.noise)


def noisier_posterior_mean(
    y: Tensor, denoiser: BandDenoiser, damage: float, level: float, seeds: Sequence[str]
) -> Tensor:
    """E[x | z] = z - (1 + gamma^2 / tau^2) E[m | z], z = y + m, m = tau eps'_B, averaged over draws of m (use 3).

    The network was trained on images that are damaged with gamma = `damage` as `y` is (Noisier2Noise, Moran et al.
    1910.11908); `level` is tau. The draws of image i are a function of `seeds[i]`.
    """
    gain = 1 + (damage / level) ** 2
    streams = [random_stream(y.device, 0, "omit", seed) for seed in seeds]
    levels = torch.full((len(y), 1, 1, 1), level, device=y.device)
    total = torch.zeros_like(y)
    for _ in range(DRAWS):
        z = y + level * denoiser.process.noise.draw(y.shape, streams)
        total += z - gain * (z - denoiser.split(z, levels)[0])
    return _inside(y, total / DRAWS, denoiser.process.noise)


def finest_level(strength: float, power: float) -> float:
    """Return where the path of a sample ends, for images with the mean `power` in the band.

    What is left of the noise there changes the image by 0.25 % at most.
    """
    return min(strength, math.sqrt(power)) / PATH_REACH


@dataclass(frozen=True)
class Drawing:
    """How images are drawn from a posterior: in `steps` network evaluations, by streams of their own.

    The stream of an image is a function of `seed` and of its name in `names`.
    """

    steps: int
    seed: int
    names: Sequence[str]

    def streams(self, device: torch.device, places: Sequence[int]) -> list[torch.Generator]:
        """Return the streams of the images at `places`."""
        return [random_stream(device, self.seed, "posterior", self.names[i]) for i in places]


def mean_estimate(y: Tensor, denoiser: BandDenoiser, levels: Sequence[float], drawing: Drawing) -> Tensor:
    """Return E[x | y] of images (B, C, H, W) with noise of `levels`."""
    return posterior_mean(y, denoiser, torch.tensor(levels, device=y.device))


def sample_estimate(y: Tensor, denoiser: BandDenoiser, levels: Sequence[float], drawing: Drawing) -> Tensor:
    """Return one draw from p(x | y) for each image (B, C, H, W) with noise of `levels`."""
    return _walked(y, denoiser, levels, drawing, is_random=True)


def ode_estimate(y: Tensor, denoiser: BandDenoiser, levels: Sequence[float], drawing: Drawing) -> Tensor:
    """Return the end of the ODE that turns the law of y into that of x, for images with noise of `levels`."""
    return _walked(y, denoiser, levels, drawing, is_random=False)


def _walked(
    y: Tensor, denoiser: BandDenoiser, levels: Sequence[float], drawing: Drawing, is_random: bool
) -> Tensor:
    """Follow the reverse process, images of one level at a time."""
    walked = torch.empty_like(y)
    for level in set(levels):
        places = [i for i, value in enumerate(levels) if value == level]
        streams = drawing.streams(y.device, places) if is_random else None
        walked[places] = posterior_sample(y[places], denoiser, level, drawing.steps, streams)
    return walked


def posterior_sample(
    y: Tensor,
    denoiser: BandDenoiser,
    strength: float,
    steps: int,
    streams: Sequence[torch.Generator] | None = None,
) -> Tensor:
    """Follow the reverse process from t*, where sigma / alpha = `strength` and alpha y has the law of x_t (use 2).

    With `streams`, one for each image, this is DPM-Solver++'s SDE and the result is a draw from p(x | y). Without, it
    is the ODE, a deterministic map.
    """
    schedule, noise = denoiser.process.schedule, denoiser.process.noise
    finest = max(
        finest_level(strength, denoiser.power), math.exp(-float(schedule.log_snr(torch.zeros(()))) / 2)
    )
    # From the schedule's finest level there is no way to go but the last step.
    amplitudes = np.geomspace(strength, finest, steps if strength > finest else 1)
    levels = levels_at(schedule, schedule.times_of(-2 * torch.from_numpy(amplitudes).log().to(y.device)))
    draw = None if streams is None else lambda: noise.draw(y.shape, streams)
    drawn = integrate(denoiser, dpmpp(draw), levels[0].alpha.float() * y, levels)
    return _inside(y, drawn, noise)


def _inside(y: Tensor, estimate: Tensor, noise: SpectralNoise) -> Tensor:
    """Take the band from `estimate` and the rest from `y`, which is exact there."""
    return y + noise.project(estimate - y)
