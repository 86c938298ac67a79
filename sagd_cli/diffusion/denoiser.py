"""Denoisers: (x_t, t) to the expected x_0 and noise (docs/theory.md, sections 4 and 5)."""

from typing import Protocol

import torch
from torch import Tensor

from sagd_cli.diffusion.prediction import Network, NoisePrediction, Prediction
from sagd_cli.diffusion.process import ForwardProcess


class Denoiser(Protocol):
    """Anything that splits x_t into its expected parts: x_t = alpha_t x0 + sigma_t eps."""

    @property
    def process(self) -> ForwardProcess:
        """The process whose noise is split off."""
        ...

    def __call__(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return (x0, eps), each of the shape of `x_t` (B, C, *spatial); `t` is a scalar tensor in [0, 1]."""
        ...


class NetworkDenoiser:
    """A denoiser made of a trained network and its prediction."""

    def __init__(
        self,
        network: Network,
        process: ForwardProcess,
        prediction: Prediction | None = None,
        clip: bool = False,
        blind: bool = False,
    ) -> None:
        """Take the network (x_t, timestep (B,)) -> prediction (eps by default) and the process it was trained with.

        `clip` keeps x0 in [-1, 1], the range of images, and recomputes eps from it. A `blind` network is given x_t
        without the frequencies that carry no noise; it must have been trained so.
        """
        self.clip = clip
        self.blind = blind
        self.network = network
        self.process = process
        self.prediction: Prediction = prediction or NoisePrediction()

    def __call__(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return (x0, eps); eps is projected on the noise's support, so other frequencies are untouched."""
        level = self.process.level(t)
        timestep = self.process.schedule.timestep(t).expand(len(x_t))
        seen = self.process.noise.project(x_t) if self.blind else x_t
        output = self.network(self.prediction.inputs(seen, level), timestep).float()
        x0, eps = self.prediction.split(output, x_t, level)
        x0, eps = self.process.confined(level, x_t, x0, eps)
        return self.process.clipped(level, x_t, x0) if self.clip else (x0, eps)


def as_network(
    module: torch.nn.Module, autocast: torch.dtype | None = None, labels: Tensor | None = None
) -> Network:
    """Return a module, or a diffusers model, which wraps its output, as a function (x_t, timestep) -> prediction.

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
    """Return the network with classifier-free guidance (Ho & Salimans 2207.12598, eq. 6, where w is `scale` - 1).

    x0 and eps are affine in the network's output, so they are combined in the same way.
    """

    def network(x_t: Tensor, timestep: Tensor) -> Tensor:
        without = unconditional(x_t, timestep)
        return without + scale * (conditional(x_t, timestep) - without)

    return network
