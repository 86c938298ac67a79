"""The forward process x_t = alpha_t x_0 + sigma_t eps_w, and its two inverses (docs/theory.md, section 4)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sagd_cli.diffusion.schedule import Schedule
from sagd_cli.spectral.noise import SpectralNoise, Streams


@dataclass(frozen=True)
class Level:
    """A level of noise: the time t, alpha_t and sigma_t. They are tensors that broadcast against images.

    `is_clean` marks the end of a sampler's path, where alpha = 1 and sigma = 0.
    """

    t: Tensor
    alpha: Tensor
    sigma: Tensor
    is_clean: bool = False

    def noised(self, x0: Tensor, eps: Tensor) -> Tensor:
        """Return x_t of an image and noise, all (B, C, *spatial)."""
        return self.alpha * x0 + self.sigma * eps

    def image_of(self, x_t: Tensor, eps: Tensor) -> Tensor:
        """Return the x_0 that x_t is made of when its noise is `eps`."""
        return (x_t - self.sigma * eps) / self.alpha

    def noise_of(self, x_t: Tensor, x0: Tensor) -> Tensor:
        """Return the eps that x_t is made of when its image is `x0`."""
        return (x_t - self.alpha * x0) / self.sigma


@dataclass(frozen=True, eq=False)
class ForwardProcess:
    """How images become noise: the levels of a schedule, and shaped noise as the only randomness."""

    schedule: Schedule
    noise: SpectralNoise

    def level(self, t: Tensor, axes: int = 0) -> Level:
        """Return the level at times t (B,) or (), with `axes` further axes of size 1 to broadcast over."""
        alpha, sigma = (values[(..., *[None] * axes)] for values in self.schedule.levels(t))
        return Level(t, alpha, sigma)

    def start(self, level: Level, shape: Sequence[int], streams: Streams) -> Tensor:
        """Draw the x_T (B, C, *spatial) that a sampler starts from: noise alone, at `level`."""
        return level.sigma * self.noise.draw(shape, streams)

    def confined(self, level: Level, x_t: Tensor, x0: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        """Return (x0, eps) with eps projected on the support of the noise: other frequencies stay as x_t has them."""
        if self.noise.filter.is_complete:
            return x0, eps
        eps = self.noise.project(eps)
        return level.image_of(x_t, eps), eps

    def clipped(self, level: Level, x_t: Tensor, x0: Tensor) -> tuple[Tensor, Tensor]:
        """Return (x0, eps) with x0 clipped to [-1, 1], the range of images (Ho et al. 2006.11239)."""
        x0 = x0.clamp(-1, 1)
        return x0, level.noise_of(x_t, x0)


def clean_level(like: Tensor) -> Level:
    """Return the level of images without noise: scalars of the type and on the device of `like`."""
    one, zero = torch.ones((), device=like.device), torch.zeros((), device=like.device)
    return Level(zero.to(like.dtype), one, zero, is_clean=True)
