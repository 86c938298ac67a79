"""Restoring images when the band, the strength of its noise and a model of the images are known."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isinf

import torch
from torch import Tensor

from sagd_cli.damage.strength import FINEST, STRONGEST
from sagd_cli.errors import DataError
from sagd_cli.restoration.band_model import BandModel
from sagd_cli.restoration.catalogue import ESTIMATES, EstimateChoice
from sagd_cli.restoration.estimates import Drawing, drowned, noisier_posterior_mean
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.noise import band_noise

SAMPLE = ESTIMATES["sample"]  # deviations are computed from this estimate, whichever one is written


@dataclass(frozen=True)
class RestoredBatch:
    """Images (B, C, H, W) on [-1, 1]: the estimate, further draws of it, and their deviation if it was asked for."""

    estimate: Tensor
    draws: list[Tensor]
    deviation: Tensor | None


@dataclass(frozen=True)
class Restoring:
    """How images are restored.

    `estimate`: a name in `ESTIMATES`. `samples`: posterior samples per image, each in `steps` network evaluations.
    `uncertain`: also compute the standard deviation of the samples. `returned`: how many of the samples are returned,
    from the first on (None: all of them).
    """

    estimate: str = "mean"
    samples: int = 1
    uncertain: bool = False
    steps: int = 20
    seed: int = 0
    returned: int | None = None


@dataclass
class _Spread:
    """Variance of draws, updated with each draw to save memory (Welford, Technometrics 1962)."""

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
        """The unbiased variance, of two draws or more."""
        return self.squares / (self.count - 1)


@dataclass(frozen=True)
class Restorer:
    """Restores images with noise in `band`, as `how` says.

    `model` is None for an estimate that needs none. `floor` is added to the deviations in quadrature.
    """

    band: Band
    model: BandModel | None
    how: Restoring = Restoring()
    floor: float = 0.0

    @torch.inference_mode()
    def restore(self, y: Tensor, strengths: list[float], names: list[str]) -> RestoredBatch:
        """Restore images `y` (B, C, H, W) on [-1, 1], where image i has noise of amplitude `strengths[i]`.

        An infinite strength says that the band is lost. With a model, an image whose strength is below `FINEST` comes
        back unchanged. The random numbers for image i are a function of the seed and of `names[i]`. A model of grey
        images restores each colour as a grey image. Raises DataError when a model of colour images is given grey ones.
        """
        if self.model is None:
            noise = band_noise(self.band, tuple(y.shape[2:]), y.device)
            return RestoredBatch(self._choice.load()(y, noise), [], None)
        restored = self._of_any_colour(self.model, y, strengths, names)
        noisy = torch.tensor([value >= FINEST for value in strengths], device=y.device).view(-1, 1, 1, 1)
        deviation = restored.deviation
        return RestoredBatch(
            torch.where(noisy, restored.estimate, y),
            [torch.where(noisy, draw, y) for draw in restored.draws],
            None if deviation is None else noisy * deviation,
        )

    @property
    def _choice(self) -> EstimateChoice:
        return ESTIMATES[self.how.estimate]

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
        damage, (low, high) = model.settings.damage, model.settings.strengths
        if damage is not None:
            return RestoredBatch(noisier_posterior_mean(y, denoiser, damage, high, names), [], None)
        given, noise = y, denoiser.process.noise
        lost = torch.tensor([isinf(value) for value in strengths], device=y.device).view(-1, 1, 1, 1)
        y = torch.where(lost, drowned(y, noise, STRONGEST, names), y)
        levels = [min(max(value, low), high) for value in strengths]

        def estimated(choice: EstimateChoice, seeds: list[str]) -> Tensor:
            """Return the estimate. Around a lost band take `given`: beside such strong noise, `y` is rounded there."""
            drawing = Drawing(self.how.steps, self.how.seed, seeds)
            estimate: Tensor = choice.load()(y, denoiser, levels, drawing)
            return torch.where(lost, given + noise.project(estimate - given), estimate)

        draws, deviation = self._draws(y, lambda k: estimated(SAMPLE, [f"{name} {k}" for name in names]))
        if self._choice.draws:
            return RestoredBatch(draws[0], draws[1:], deviation)
        return RestoredBatch(estimated(self._choice, names), [], deviation)

    def _draws(self, like: Tensor, draw: Callable[[int], Tensor]) -> tuple[list[Tensor], Tensor | None]:
        """Return the first posterior samples draw(0), draw(1), ... that are kept, and the deviation of all of them."""
        how = self.how
        count = how.samples if self._choice.draws or how.uncertain else 0
        kept = (how.returned or count) if self._choice.draws else 0
        draws, spread = list[Tensor](), _Spread(torch.zeros_like(like), torch.zeros_like(like))
        for k in range(count):
            drawn = draw(k)
            draws.extend([drawn] if k < kept else [])
            if how.uncertain:
                spread.add(drawn)
        return draws, (spread.variance + self.floor**2).sqrt() if how.uncertain else None
