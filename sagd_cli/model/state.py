"""A network in training, with its averages, its optimiser and its step."""

from typing import Any

import torch
from torch import nn

from sagd_cli.config.run import TrainingConfig
from sagd_cli.model.ema import Best, Ema
from sagd_cli.model.learned_filter import LearnedProfile
from sagd_cli.model.network import laid_out

# Steps of Adam on the knots of a filter are as long as those on weights, but the loss is much flatter there.
PROFILE_LEARNING_RATE = 5.0


class TrainingState:
    """A network in training, with its averages, its optimiser and the number of steps done.

    `averages` holds one average for each half-life, by its number of images; `ema` is the first one. `profile` is the
    learned filter that is trained with the network, or None. `profile_ema` is its average, of the first half-life.
    `best` are the averaged weights that did best on images that are held out, or None when no image is.
    """

    def __init__(
        self,
        network: nn.Module,
        settings: TrainingConfig,
        device: torch.device,
        profile: LearnedProfile | None = None,
        keeps_best: bool = False,
    ) -> None:
        """Move the network to `device`, lay it out for training, and start at step 0."""
        self.device = device
        self.network = laid_out(network.to(device), device)
        half_lives = settings.ema_half_life_images
        self.averages = {half_life: Ema(self.network, half_life) for half_life in half_lives}
        self.ema = self.averages[half_lives[0]]
        self.best = Best(self.ema.network).to(device) if keeps_best else None
        self.profile = None if profile is None else profile.to(device)
        self.profile_ema = None if profile is None else Ema(profile, half_lives[0])
        groups: list[dict[str, Any]] = [
            {"params": list(self.network.parameters()), "weight_decay": settings.weight_decay, "scale": 1.0}
        ]
        if profile is not None:
            knots = list(profile.parameters())
            groups.append({"params": knots, "weight_decay": 0.0, "scale": PROFILE_LEARNING_RATE})
        self.optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)
        self.step = 0
