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
# The path of a sample ends at 1 / PATH_REACH of the noise's amplitude, or of the images' amplitude in the band if
# that is smaller.
PATH_REACH = 20.0
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


def drowned(y: Tensor, noise: SpectralNoise, strength: float, seeds: Sequence[str]) -> Tensor:
    """Replace the band of images `y` by noise of amplitude `strength`.

    So a lost band always looks the same, whatever it held. The noise of image i is a function of `seeds[i]`.
    """
    streams = [random_stream(y.device, 0, "lost", seed) for seed in seeds]
    return y - noise.project(y) + strength * noise.draw(y.shape, streams)


def posterior_mean(y: Tensor, denoiser: BandDenoiser, strengths: Tensor) -> Tensor:
    """Return E[x | y] for images `y` (B, C, H, W) with noise of amplitudes `strengths` (B,).

    This takes one network evaluation (docs/theory.md, section 6.2).
    """
    x0, _ = denoiser.split(y, strengths.view(-1, 1, 1, 1))
    return _inside(y, x0, denoiser.process.noise)


def noisier_posterior_mean(
    y: Tensor, denoiser: BandDenoiser, damage: float, level: float, seeds: Sequence[str]
) -> Tensor:
    """Return E[x | z], averaged over draws of m, where z = y + m and m = tau eps'_B (docs/theory.md, section 6.3).

    E[x | z] = z - (1 + gamma^2 / tau^2) E[m | z]. Here gamma is `damage`, the amplitude of the noise in `y`
    (B, C, H, W) and in the images the network was trained on, and tau is `level`. The draws for image i are a
    function of `seeds[i]`. Source: Noisier2Noise, Moran et al. 1910.11908.
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
    """Return the noise amplitude at which the path of a sample from `strength` ends.

    `power` is the mean power of the images in the band. The noise left at the end has at most 1/400 = 0.25 % of it.
    """
    return min(strength, math.sqrt(power)) / PATH_REACH


@dataclass(frozen=True)
class Drawing:
    """How images are drawn from a posterior: in `steps` network evaluations, each image with its own random stream.

    The stream of image i is a function of `seed` and of `names[i]`.
    """

    steps: int
    seed: int
    names: Sequence[str]

    def streams(self, device: torch.device, places: Sequence[int]) -> list[torch.Generator]:
        """Return one stream for each of the images at `places`."""
        return [random_stream(device, self.seed, "posterior", self.names[i]) for i in places]


def mean_estimate(y: Tensor, denoiser: BandDenoiser, levels: Sequence[float], drawing: Drawing) -> Tensor:
    """Return E[x | y] for images `y` (B, C, H, W), where image i has noise of amplitude `levels[i]`."""
    return posterior_mean(y, denoiser, torch.tensor(levels, device=y.device))


def sample_estimate(y: Tensor, denoiser: BandDenoiser, levels: Sequence[float], drawing: Drawing) -> Tensor:
    """Return one draw from p(x | y) for each image of `y` (B, C, H, W), where image i has noise of `levels[i]`."""
    return _walked(y, denoiser, levels, drawing, is_random=True)


def ode_estimate(y: Tensor, denoiser: BandDenoiser, levels: Sequence[float], drawing: Drawing) -> Tensor:
    """Follow the ODE that turns the law of y into the law of x, and return where it ends.

    Image i of `y` (B, C, H, W) has noise of amplitude `levels[i]`.
    """
    return _walked(y, denoiser, levels, drawing, is_random=False)


def _walked(
    y: Tensor, denoiser: BandDenoiser, levels: Sequence[float], drawing: Drawing, is_random: bool
) -> Tensor:
    """Follow the reverse process, for all images of one noise level at a time."""
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
    """Follow the reverse process from the time t* for images `y` (B, C, H, W), and return the images at its end.

    At t*, sigma / alpha = `strength`, so alpha y has the law of x_t (docs/theory.md, section 6.2). With `streams`, one
    for each image, the path is the SDE of DPM-Solver++ and the result is a draw from p(x | y). Without `streams` it is
    the ODE, a deterministic map.
    """
    schedule, noise = denoiser.process.schedule, denoiser.process.noise
    finest = max(
        finest_level(strength, denoiser.power), math.exp(-float(schedule.log_snr(torch.zeros(()))) / 2)
    )
    # At or below the schedule's finest level only the last step is left.
    amplitudes = np.geomspace(strength, finest, steps if strength > finest else 1)
    levels = levels_at(schedule, schedule.times_of(-2 * torch.from_numpy(amplitudes).log().to(y.device)))
    draw = None if streams is None else lambda: noise.draw(y.shape, streams)
    drawn = integrate(denoiser, dpmpp(draw), levels[0].alpha.float() * y, levels)
    return _inside(y, drawn, noise)


def _inside(y: Tensor, estimate: Tensor, noise: SpectralNoise) -> Tensor:
    """Take the band from `estimate` and all else from `y`, which has no noise there."""
    return y + noise.project(estimate - y)
