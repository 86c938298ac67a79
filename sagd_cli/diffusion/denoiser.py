"""Denoisers: (x_t, t) to the expected x_0 and noise (MATH: 4. and 5.)."""

from typing import Protocol

import torch
from torch import Tensor

from sagd_cli.diffusion.prediction import Network, NoisePrediction, Prediction
from sagd_cli.diffusion.schedule import Schedule
from sagd_cli.spectral.noise import SpectralNoise


class Denoiser(Protocol):
    """Anything that splits x_t into its expected parts: x_t = alpha_t x0 + sigma_t eps."""

    schedule: Schedule

    def __call__(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return (x0, eps), each of the shape of `x_t` (B, C, *spatial); `t` is a scalar tensor in [0, 1]."""
        ...


class NetworkDenoiser:
    """A trained network, with what it predicts, as a denoiser."""

    def __init__(
        self,
        network: Network,
        schedule: Schedule,
        noise: SpectralNoise,
        prediction: Prediction | None = None,
        clip: bool = False,
        blind: bool = False,
    ) -> None:
        """Take the network (x_t, timestep (B,)) -> prediction (eps by default) and the noise it was trained with.

        `clip` keeps x0 in [-1, 1], the range of images, and recomputes eps from it (Ho et al. 2006.11239). A `blind`
        network, trained so, is given x_t without the frequencies that carry no noise.
        """
        self.clip = clip
        self.blind = blind
        self.network = network
        self.schedule = schedule
        self.noise = noise
        self.prediction: Prediction = prediction or NoisePrediction()

    def __call__(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return (x0, eps); eps is projected on the noise's support, so other frequencies are untouched."""
        alpha_t, sigma_t = self.schedule.levels(t)
        timestep = self.schedule.timestep(t).expand(len(x_t))
        seen = self.noise.project(x_t) if self.blind else x_t
        output = self.network(self.prediction.inputs(seen, alpha_t, sigma_t), timestep).float()
        x0, eps = self.prediction.split(output, x_t, alpha_t, sigma_t)
        if not self.noise.filter.is_complete:
            eps = self.noise.project(eps)
            x0 = (x_t - sigma_t * eps) / alpha_t
        if not self.clip:
            return x0, eps
        x0 = x0.clamp(-1, 1)
        return x0, (x_t - alpha_t * x0) / sigma_t


def as_network(
    module: torch.nn.Module, autocast: torch.dtype | None = None, labels: Tensor | None = None
) -> Network:
    """Adapt a module, or a diffusers model, which wraps its output, to a function (x_t, timestep) -> prediction.

    `labels` (B,) are the classes of the images x_t, for a module that takes them. The module alone runs under
    `autocast`; noise, transforms and losses stay in float32.
    """
    condition = () if labels is None else (labels,)

    def network(x_t: Tensor, timestep: Tensor) -> Tensor:
        with torch.autocast(x_t.device.type, dtype=autocast, enabled=autocast is not None):
            output = module(x_t, timestep, *condition)
        return output if isinstance(output, Tensor) else output.sample

    return network


def guided(conditional: Network, unconditional: Network, scale: float) -> Network:
    """Classifier-free guidance (Ho & Salimans 2207.12598, eq. 6, whose w is scale - 1).

    Every prediction is affine in what the network says, so this is the same combination of x0 and of eps.
    """

    def network(x_t: Tensor, timestep: Tensor) -> Tensor:
        without = unconditional(x_t, timestep)
        return without + scale * (conditional(x_t, timestep) - without)

    return network
