"""Estimates of the clean image by a network; they change the noisy frequencies only (docs/theory.md, section 6)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from sagd_cli.denoising.spectral_denoiser import SpectralDenoiser
from sagd_cli.diffusion.samplers import dpmpp, integrate
from sagd_cli.spectral.noise import multiply_spectrum, random_stream, white_noise

DRAWS = 32


@dataclass(frozen=True)
class Drawing:
    """How images are drawn from a posterior: in `steps` network evaluations, each image with its own random stream.

    The stream of image i is a function of `seed` and of `names[i]`. `noise_device` is auto (that of the images) or cpu.
    """

    steps: int
    seed: int
    names: Sequence[str]
    noise_device: str = "auto"

    def streams(self, device: torch.device, purpose: str = "posterior") -> list[torch.Generator]:
        """Return one stream for each of the images, which are on `device`."""
        where = device if self.noise_device == "auto" else self.noise_device
        return [random_stream(where, self.seed, purpose, name) for name in self.names]


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
