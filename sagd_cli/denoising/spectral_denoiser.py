"""The denoiser of noise of any spectrum, and of less of the same noise, for samplers (docs/theory.md, section 9)."""

import math
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from sagd_cli.denoising.preconditioning import denoised, with_mean
from sagd_cli.diffusion.prediction import Network
from sagd_cli.diffusion.process import ForwardProcess, Level
from sagd_cli.diffusion.schedule import make_schedule
from sagd_cli.diffusion.schedule_tables import EDM_SIGMAS
from sagd_cli.diffusion.time_grids import levels_at
from sagd_cli.spectral.filter import SpectralFilter
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.noise import SpectralNoise, Streams, multiply_spectrum

FINEST_SIGMA, FIRST_SIGMA = EDM_SIGMAS
# On the path of a sample a frequency counts as lost where its noise has more than this amplitude, in units of the
# image's. The path ends where the noise has 1 / PATH_REACH of the image's amplitude, or of what it had at first.
LOST_FROM = 100.0
PATH_REACH = 20.0


class SpectralDenoiser:
    """The denoiser of x_t = x + sigma_t eps for given images, where sigma = 80 is the noise that the images have.

    So a level sigma stands for noise of the power (sigma / 80)^2 N. The images' prior is a Gaussian of power S with a
    free mean, which the network corrects.
    """

    def __init__(
        self,
        network: Network,
        shape: tuple[int, ...],
        noise: Tensor,
        image: Tensor,
        marks: Tensor | None = None,
    ) -> None:
        """Take the power N (B or 1, 1, *half spectrum) of the noise and S (B or 1, C, *half spectrum) of images of
        `shape`.

        N is infinite where a frequency is lost. `marks` (B, C, *shape) tell which pixels are black or white, in images
        that were clipped.
        """
        self._network, self._shape, self._marks = network, shape, marks
        self.noise, self.image = with_mean(noise), image

    def mean(self, y: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return E[x | y] of images `y` (B, C, *shape), whose noise has the power `noise` (None: N)."""
        power = self.noise if noise is None else noise
        return denoised(self._network, y, power, self.image, self._marks).estimate

    def __call__(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return (x0, eps), each of the shape of `x_t`; `t` is a scalar tensor in [0, 1]."""
        sigma = self.process.level(t).sigma
        x0 = self.mean(x_t, (sigma / FIRST_SIGMA) ** 2 * self._path_noise)
        return x0, (x_t - x0) / sigma

    @cached_property
    def process(self) -> ForwardProcess:
        """The process whose noise, at sigma = 80, is that of the images; each image has its own."""
        schedule = make_schedule("edm", self.noise.device)
        return ForwardProcess(schedule, _PathNoise(self._path_noise / FIRST_SIGMA**2, self._shape))

    def start(self, y: Tensor, streams: Streams) -> Tensor:
        """Return `y`, with noise in place of what it holds at lost frequencies."""
        if not self._lost.any():
            return y
        drawn = FIRST_SIGMA * self.process.noise.draw(y.shape, streams)
        return y + multiply_spectrum(drawn - y, self._lost.float(), self._shape)

    def ends(self, count: int) -> list[float]:
        """Return for each of `count` images the share of the noise's amplitude at which the path of a sample ends."""
        ratio = torch.where(self._path_noise > 0, self.image / self._path_noise, torch.inf)
        least = ratio.flatten(1).amin(1).clamp(max=1).sqrt() / PATH_REACH
        # A power of two, so that images of a set share few ends and can be walked together.
        ends = torch.exp2(least.log2().floor()).clamp(min=1.01 * FINEST_SIGMA / FIRST_SIGMA)
        return ends.expand(count).tolist()

    def path(self, steps: int, end: float) -> list[Level]:
        """Return the levels of `steps` evaluations from the images' noise down to `end`, and the clean level."""
        sigmas = FIRST_SIGMA * torch.logspace(0, math.log10(end), steps, dtype=torch.float64)
        schedule = self.process.schedule
        return levels_at(schedule, schedule.times_of(-2 * sigmas.log().to(self.noise.device)))

    def of(self, places: Sequence[int]) -> "SpectralDenoiser":
        """Return the denoiser of the images at `places`."""
        chosen = torch.tensor(places, device=self.noise.device)
        noise, image = (values if len(values) == 1 else values[chosen] for values in (self.noise, self.image))
        marks = None if self._marks is None else self._marks[chosen]
        return SpectralDenoiser(self._network, self._shape, noise, image, marks)

    @cached_property
    def _most(self) -> Tensor:
        return LOST_FROM**2 * self.image.amax(dim=1, keepdim=True)

    @cached_property
    def _lost(self) -> Tensor:
        return self.noise > self._most

    @cached_property
    def _path_noise(self) -> Tensor:
        return torch.where(self._lost, self._most, self.noise).nan_to_num(posinf=0.0)


class _PathNoise(SpectralNoise):
    """Noise of the power N (B, 1, *half spectrum), that of each image of a batch its own."""

    def __init__(self, power: Tensor, shape: tuple[int, ...]) -> None:
        average = power.mean(dim=(0, 1)).double().sqrt().cpu().numpy()
        super().__init__(SpectralFilter.from_weight(FrequencyGrid(shape), average, "none"), power.device)
        self._weight, self._support = power.sqrt(), (power > 0).float()
        self._inverse = torch.where(power > 0, power.rsqrt(), 0.0)
