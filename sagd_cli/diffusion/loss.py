"""Training losses, and the figure that compares filters (MATH: 4. Forward process and loss)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor
from torch.profiler import record_function

from sagd_cli.diffusion.prediction import Network, NoisePrediction, Prediction
from sagd_cli.diffusion.schedule import Schedule
from sagd_cli.spectral.noise import BatchStream, SpectralNoise, uniform

MIN_SNR_GAMMA = 5.0
# The drawing of noise, as a profile names it.
NOISE = "sagd/noise"


@dataclass(frozen=True)
class Errors:
    """How far a batch of predictions is off, each (B, C, *spatial), and the SNR alpha^2 / sigma^2 of each image.

    `output` is in the network's own terms; `eps` is P eps_theta - eps_w, the prediction as noise on the support P.
    """

    output: Tensor
    eps: Tensor
    snr: Tensor


class Loss(Protocol):
    """What a network is trained on."""

    @property
    def noise(self) -> SpectralNoise:
        """The noise whose frequencies its errors in eps are recorded at."""
        ...

    def errors(self, network: Network, x0: Tensor, stream: torch.Generator | BatchStream) -> Errors:
        """Try the network on one random task an image of `x0` (B, C, *spatial)."""
        ...

    def objective(self, errors: Errors) -> Tensor:
        """Return what training minimises, a scalar."""
        ...


@dataclass(frozen=True)
class DiffusionLoss:
    """The loss of a network that splits x_t = alpha_t x_0 + sigma_t eps_w, over times drawn in `times`.

    `kind` is what is minimised: `plain`, the mean square of the network's own error (with eps the paper's
    E || eps_theta - eps_w ||^2, with the EDM predictions EDM's); `whitened`, that of T_w^+ (eps_theta - eps_w),
    comparable between filters; `min-snr`, the error in eps times min(SNR, 5) / SNR (Hang et al. 2303.09556).
    With `blind`, the images are projected on the support of the noise first: what else they hold is not seen.
    """

    schedule: Schedule
    noise: SpectralNoise
    times: tuple[float, float] = (0.0, 1.0)
    prediction: Prediction = field(default_factory=NoisePrediction)
    kind: str = "plain"
    blind: bool = False

    def errors(self, network: Network, x0: Tensor, stream: torch.Generator | BatchStream) -> Errors:
        """Try the network on one random (t, eps_w) an image of `x0` (B, C, *spatial).

        Predictions of noise are projected on its support, as samplers do: what lies outside is not learned.
        """
        if self.blind:
            x0 = self.noise.project(x0)
        low, high = self.times
        u = uniform(len(x0), stream, x0.device) * (high - low) + low
        t = self.schedule.training_time(u)
        with record_function(NOISE):
            eps = self.noise.draw(x0.shape, stream)
        alpha, sigma = (level.view(-1, *[1] * (x0.ndim - 1)) for level in self.schedule.levels(t))
        x_t = alpha * x0 + sigma * eps
        output = network(self.prediction.inputs(x_t, alpha, sigma), self.schedule.timestep(t)).float()
        _, said = self.prediction.split(output, x_t, alpha, sigma)
        error = self.noise.project(said) - eps
        own = error if said is output else output - self.prediction.target(x0, eps, alpha, sigma)
        return Errors(own, error, (alpha / sigma) ** 2)

    def objective(self, errors: Errors) -> Tensor:
        """Return what training minimises, a scalar."""
        return _OBJECTIVES[self.kind](self, errors)

    def whitened(self, errors: Errors) -> Tensor:
        """|| T_w^+ error ||^2 / rank, averaged over images and channels: comparable between filters."""
        return self.noise.support_mean(self.noise.whitened_power(errors.eps))


def _plain(loss: DiffusionLoss, errors: Errors) -> Tensor:
    return errors.output.square().mean()


def _min_snr(loss: DiffusionLoss, errors: Errors) -> Tensor:
    return ((MIN_SNR_GAMMA / errors.snr).clamp(max=1) * errors.eps.square()).mean()


_OBJECTIVES: dict[str, Callable[[DiffusionLoss, Errors], Tensor]] = {
    "plain": _plain,
    "whitened": DiffusionLoss.whitened,
    "min-snr": _min_snr,
}
