"""The training loss and the figure that compares filters (MATH: 4. Forward process and loss)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sagd_cli.diffusion.denoiser import Network
from sagd_cli.diffusion.schedule import Schedule
from sagd_cli.spectral.noise import SpectralNoise


@dataclass(frozen=True)
class NoiseLoss:
    """The paper's loss, E || eps_theta - eps_w ||^2, with t uniform in `times`."""

    schedule: Schedule
    noise: SpectralNoise
    times: tuple[float, float] = (0.0, 1.0)

    def error(self, network: Network, x0: Tensor, generator: torch.Generator) -> Tensor:
        """Return P eps_theta(x_t, t) - eps_w for one random (t, eps_w) an image; all of shape (B, C, *spatial).

        The prediction is projected on the noise's support P, as samplers do: what lies outside is not learned.
        """
        low, high = self.times
        t = torch.rand(len(x0), generator=generator, device=x0.device) * (high - low) + low
        eps = self.noise.draw(x0.shape, generator)
        alpha_t, sigma_t = (level.view(-1, *[1] * (x0.ndim - 1)) for level in self.schedule.levels(t))
        prediction = network(alpha_t * x0 + sigma_t * eps, self.schedule.timestep(t))
        return self.noise.project(prediction.float()) - eps

    def objective(self, error: Tensor) -> Tensor:
        """What training minimises: the mean square of `error`."""
        return error.square().mean()

    def whitened(self, error: Tensor) -> Tensor:
        """|| T_w^+ error ||^2 / rank, averaged over images and channels: comparable between filters."""
        grid = self.noise.filter.grid
        return self.noise.whiten(error).square().mean() * (grid.size / self.noise.filter.rank)
