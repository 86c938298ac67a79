"""Images that are held out of a training: which averaged weights do best on them, and when these stay the best."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sagd_cli.config.run import TrainingConfig
from sagd_cli.diffusion.denoiser import as_network
from sagd_cli.diffusion.loss import Loss
from sagd_cli.model.ema import Best
from sagd_cli.model.state import TrainingState
from sagd_cli.run.log import LogRecord
from sagd_cli.spectral.noise import random_stream
from sagd_cli.training.loop import Callbacks

HELD_OUT_DRAWS = 256  # images per trial: each image is used with several draws of the noise


@dataclass(frozen=True)
class HeldOut:
    """Images (N, C, *spatial) on [-1, 1], on which the averaged weights of `state` are tried, always with one noise.

    All that is found is part of `state`. So a training that is stopped and resumed finds the same.
    """

    images: Tensor
    state: TrainingState
    loss: Loss
    settings: TrainingConfig

    def watched(self, callbacks: Callbacks) -> Callbacks:
        """Return `callbacks` of a training that ends when the best weights stay the best, with these as the average."""

        def record(figures: LogRecord) -> None:
            if self.state.step % self.settings.log_steps == 0 or self._is_last:
                figures["held_out_loss"] = self._tried()
            callbacks.record(figures)

        def checkpoint() -> None:
            if self._best.is_past or self._is_last:
                self.state.ema.network.load_state_dict(self._best.network.state_dict())
            callbacks.checkpoint()

        return replace(callbacks, record=record, checkpoint=checkpoint)

    @property
    def _best(self) -> Best:
        assert self.state.best is not None
        return self.state.best

    @property
    def _is_last(self) -> bool:
        return self.state.step == self.settings.steps

    @torch.no_grad()
    def _tried(self) -> float:
        """Return the loss of the present averaged weights, and keep them if it is the smallest."""
        average, device = self.state.ema.network, self.images.device
        network = as_network(average)
        errors = [
            self.loss.errors(
                network, self.images, random_stream(device, self.settings.seed, "held-out", i)
            ).output
            for i in range(-(-HELD_OUT_DRAWS // len(self.images)))
        ]
        value = float(torch.stack(errors).square().mean())
        self._best.offer(average, value)
        return value
