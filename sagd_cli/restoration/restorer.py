"""Restoring images once all is known: the band, how strong its noise is, and a model of the images."""

from dataclasses import dataclass
from math import isinf

import torch
from torch import Tensor

from sagd_cli.diffusion.band_denoiser import BandDenoiser
from sagd_cli.errors import DataError
from sagd_cli.restoration.band_model import BandModel
from sagd_cli.restoration.estimates import (
    UNTRAINED,
    drowned,
    noisier_posterior_mean,
    posterior_mean,
    posterior_sample,
)
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.noise import band_noise, random_stream

# The ends of the schedule's sigma / alpha at which a network can be trained; a lost band is taken to be at the upper.
FINEST, STRONGEST = 0.01, 100.0


@dataclass(frozen=True)
class RestoredBatch:
    """Images (B, C, H, W) on [-1, 1]: the estimate, further draws, and the deviation where it was asked for."""

    estimate: Tensor
    draws: list[Tensor]
    deviation: Tensor | None


@dataclass(frozen=True)
class Restoring:
    """The `estimate`: mean, sample or ode; how many posterior `samples` of an image, of how many network evaluations.

    `uncertain` asks for their deviation. Of the samples the first `returned` come back (None: all).
    """

    estimate: str = "mean"
    samples: int = 1
    uncertain: bool = False
    steps: int = 20
    seed: int = 0
    returned: int | None = None


@dataclass
class _Spread:
    """Variance of draws as they come, so that memory does not grow with them (Welford, Technometrics 1962)."""

    mean: Tensor
    squares: Tensor
    count: int = 0

    def add(self, draw: Tensor) -> None:
        """Count one more draw."""
        self.count += 1
        before = draw - self.mean
        self.mean += before / self.count
        self.squares += before * (draw - self.mean)

    @property
    def variance(self) -> Tensor:
        """The unbiased one, of two draws or more."""
        return self.squares / (self.count - 1)


@dataclass(frozen=True)
class Restorer:
    """Restores images with noise in `band`; without a `model` as an estimate does that needs none.

    `floor` is added to deviations in quadrature.
    """

    band: Band
    model: BandModel | None
    how: Restoring = Restoring()
    floor: float = 0.0

    @torch.inference_mode()
    def restore(self, y: Tensor, strengths: list[float], names: list[str]) -> RestoredBatch:
        """Restore images `y` (B, C, H, W) with noise of `strengths`, infinite for a lost band; those without stay.

        The noise that is drawn for an image is a function of the seed and its name. Colours are images of their own for
        a model of grey ones.
        """
        if self.model is None:
            noise = band_noise(self.band, tuple(y.shape[2:]), y.device)
            return RestoredBatch(UNTRAINED[self.how.estimate](y, noise), [], None)
        restored = self._of_any_colour(self.model, y, strengths, names)
        noisy = torch.tensor([value >= FINEST for value in strengths], device=y.device).view(-1, 1, 1, 1)
        deviation = restored.deviation
        return RestoredBatch(
            torch.where(noisy, restored.estimate, y),
            [torch.where(noisy, draw, y) for draw in restored.draws],
            None if deviation is None else noisy * deviation,
        )

    def _of_any_colour(
        self, model: BandModel, y: Tensor, strengths: list[float], names: list[str]
    ) -> RestoredBatch:
        shape, channels = y.shape, model.shape[0]
        if channels == shape[1]:
            return self._restore(model, y, strengths, names)
        if channels != 1:
            raise DataError(f"{model.name} was made for colour images, and this one is grey")
        planes = shape[1]
        names = [f"{name}/{channel}" for name in names for channel in range(planes)]
        strengths = [strength for strength in strengths for _ in range(planes)]
        restored = self._restore(model, y.reshape(-1, 1, *shape[2:]), strengths, names)
        deviation = restored.deviation
        return RestoredBatch(
            restored.estimate.reshape(shape),
            [draw.reshape(shape) for draw in restored.draws],
            None if deviation is None else deviation.reshape(shape),
        )

    def _restore(
        self, model: BandModel, y: Tensor, strengths: list[float], names: list[str]
    ) -> RestoredBatch:
        denoiser = model.denoiser(self.band, tuple(y.shape[2:]))
        damage = model.settings.damage
        if damage is not None:
            level = model.settings.strengths[1]
            return RestoredBatch(noisier_posterior_mean(y, denoiser, damage, level, names), [], None)
        given, noise = y, denoiser.noise
        lost = torch.tensor([isinf(value) for value in strengths], device=y.device).view(-1, 1, 1, 1)
        y = torch.where(lost, drowned(y, noise, STRONGEST, names), y)

        def unchanged(estimate: Tensor) -> Tensor:
            """Outside the band take what was given: beside noise that strong it was rounded."""
            return torch.where(lost, given + noise.project(estimate - given), estimate)

        low, high = model.settings.strengths
        levels = [min(max(value, low), high) for value in strengths]
        if self.how.estimate == "ode":
            return RestoredBatch(unchanged(self._drawn(y, denoiser, levels)), [], None)
        count = self.how.samples if self.how.estimate == "sample" or self.how.uncertain else 0
        kept = (self.how.returned or count) if self.how.estimate == "sample" else 0
        draws, spread = list[Tensor](), _Spread(torch.zeros_like(y), torch.zeros_like(y))
        for k in range(count):
            draw = unchanged(self._drawn(y, denoiser, levels, [f"{name} {k}" for name in names]))
            draws.extend([draw] if k < kept else [])
            if self.how.uncertain:
                spread.add(draw)
        deviation = (spread.variance + self.floor**2).sqrt() if self.how.uncertain else None
        if self.how.estimate == "sample":
            return RestoredBatch(draws[0], draws[1:], deviation)
        mean = posterior_mean(y, denoiser, torch.tensor(levels, device=y.device))
        return RestoredBatch(unchanged(mean), [], deviation)

    def _drawn(
        self, y: Tensor, denoiser: BandDenoiser, levels: list[float], seeds: list[str] | None = None
    ) -> Tensor:
        """Draw from the posterior, or follow its ODE without `seeds`: images of one level at a time."""
        drawn = torch.empty_like(y)
        for level in set(levels):
            of_level = [i for i, value in enumerate(levels) if value == level]
            streams = (
                [random_stream(y.device, self.how.seed, "posterior", seeds[i]) for i in of_level]
                if seeds
                else None
            )
            drawn[of_level] = posterior_sample(y[of_level], denoiser, level, self.how.steps, streams)
        return drawn
