"""Training losses, and the figure that compares filters (docs/theory.md, section 4.3)."""

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor
from torch.profiler import record_function

from sagd_cli.diffusion.catalogue import LOSSES
from sagd_cli.diffusion.prediction import Network, NoisePrediction, Prediction
from sagd_cli.diffusion.process import ForwardProcess
from sagd_cli.errors import ConfigError
from sagd_cli.spectral.noise import BatchStream, SpectralNoise, uniform
from sagd_cli.system.choices import chosen

MIN_SNR_GAMMA = 5.0
# The name of the drawing of noise in a profile.
NOISE = "sagd/noise"


@dataclass(frozen=True)
class Errors:
    """How far the predictions of a batch are off, each (B, C, *spatial), and the SNR alpha^2 / sigma^2 of each image.

    `output` is the error of the network's own output. `eps` is P eps_theta - eps_w, the error in the predicted noise,
    projected on its support by P.
    """

    output: Tensor
    eps: Tensor
    snr: Tensor


class Loss(Protocol):
    """A training loss."""

    @property
    def noise(self) -> SpectralNoise:
        """The noise at whose frequencies the errors in eps are recorded."""
        ...

    def errors(self, network: Network, x0: Tensor, stream: torch.Generator | BatchStream) -> Errors:
        """Try the network on one random task for each image of `x0` (B, C, *spatial)."""
        ...

    def objective(self, errors: Errors) -> Tensor:
        """Return what training minimises, a scalar."""
        ...


@dataclass(frozen=True)
class DiffusionLoss:
    """The loss of a network that splits x_t = alpha_t x_0 + sigma_t eps_w, over the training times of the schedule.

    `kind` names what is minimised, one of `catalogue.LOSSES`; an unknown one raises ConfigError. With `blind`, the
    images are first projected on the support of the noise, so that the network does not see the other frequencies.
    """

    process: ForwardProcess
    prediction: Prediction = field(default_factory=NoisePrediction)
    kind: str = "plain"
    blind: bool = False

    def __post_init__(self) -> None:
        """Raise ConfigError for an unknown kind."""
        chosen("loss", self.kind, LOSSES, ConfigError)

    @property
    def noise(self) -> SpectralNoise:
        """The noise of the forward process."""
        return self.process.noise

    def errors(self, network: Network, x0: Tensor, stream: torch.Generator | BatchStream) -> Errors:
        """Try the network on one random (t, eps_w) for each image of `x0` (B, C, *spatial)."""
        t = self.process.schedule.training_time(uniform(len(x0), stream, x0.device))
        with record_function(NOISE):
            eps = self.noise.draw(x0.shape, stream)
        return self.errors_at(network, x0, t, eps)

    def errors_at(self, network: Network, x0: Tensor, t: Tensor, eps: Tensor) -> Errors:
        """Try the network on images `x0` (B, C, *spatial) at the times `t` (B,), with the noise `eps` like x0.

        Predictions of noise are projected on its support, as in sampling. So nothing is learned outside of it.
        """
        if self.blind:
            x0 = self.noise.project(x0)
        level = self.process.level(t, x0.ndim - 1)
        x_t = level.noised(x0, eps)
        timestep = self.process.schedule.timestep(t)
        output = network(self.prediction.inputs(x_t, level), timestep).float()
        _, said = self.prediction.split(output, x_t, level)
        error = self.noise.project(said) - eps
        own = error if said is output else output - self.prediction.target(x0, eps, level)
        return Errors(own, error, (level.alpha / level.sigma) ** 2)

    def objective(self, errors: Errors) -> Tensor:
        """Return what training minimises, a scalar."""
        value: Tensor = LOSSES[self.kind].load()(errors, self.noise)
        return value

    def whitened(self, errors: Errors) -> Tensor:
        """Return || T_w^+ error ||^2 / rank, averaged over images and channels: comparable between filters."""
        return whitened_loss(errors, self.noise)


def plain_loss(errors: Errors, noise: SpectralNoise) -> Tensor:
    """Return the mean square of the network's own error.

    With the prediction eps it is the paper's E || eps_theta - eps_w ||^2; with the EDM predictions it is EDM's.
    """
    return errors.output.square().mean()


def whitened_loss(errors: Errors, noise: SpectralNoise) -> Tensor:
    """Return the mean square of T_w^+ (eps_theta - eps_w) on the support: comparable between filters."""
    return noise.support_mean(noise.whitened_power(errors.eps))


def min_snr_loss(errors: Errors, noise: SpectralNoise) -> Tensor:
    """Return the mean square error in eps, weighted by min(SNR, 5) / SNR (Hang et al. 2303.09556)."""
    return ((MIN_SNR_GAMMA / errors.snr).clamp(max=1) * errors.eps.square()).mean()
