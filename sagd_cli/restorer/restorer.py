"""Restoring images with a model, when their noise is known."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sagd_cli.config.noise_spectrum import NoiseSpectrum
from sagd_cli.denoising.planes import from_planes, to_planes
from sagd_cli.errors import DataError
from sagd_cli.restorer.catalogue import ESTIMATES, EstimateChoice
from sagd_cli.restorer.estimates import Drawing, noisier_posterior_mean
from sagd_cli.restorer.restoring import Estimates, Restoring
from sagd_cli.restorer.restoring_model import RestoringModel

SAMPLE = ESTIMATES["sample"]  # deviations are computed from this estimate, whichever one is written


@dataclass(frozen=True)
class RestoredBatch:
    """Images (B, C, H, W) on [-1, 1]: the estimate, further draws of it, and their deviation if it was asked for."""

    estimate: Tensor
    draws: list[Tensor]
    deviation: Tensor | None

    def reshaped(self, shape: torch.Size) -> "RestoredBatch":
        """Return it with images of `shape`."""
        deviation = None if self.deviation is None else self.deviation.reshape(shape)
        return RestoredBatch(
            self.estimate.reshape(shape), [draw.reshape(shape) for draw in self.draws], deviation
        )

    def expanded(self, shape: torch.Size) -> "RestoredBatch":
        """Return it with each grey image as one of `shape` whose colours are alike."""
        deviation = None if self.deviation is None else self.deviation.expand(shape)
        return RestoredBatch(
            self.estimate.expand(shape), [draw.expand(shape) for draw in self.draws], deviation
        )

    def fill(self, places: list[int], part: "RestoredBatch") -> None:
        """Replace the images at `places` by those of `part`."""
        self.estimate[places] = part.estimate
        for draw, drawn in zip(self.draws, part.draws, strict=True):
            draw[places] = drawn
        if self.deviation is not None and part.deviation is not None:
            self.deviation[places] = part.deviation


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
    """Restores images with `model`, as `how` says. `floor` is added to the deviations in quadrature."""

    model: RestoringModel
    how: Restoring
    floor: float = 0.0

    @torch.inference_mode()
    def restore(
        self,
        y: Tensor,
        noises: Sequence[NoiseSpectrum | None],
        names: Sequence[str],
        is_clipped: bool = False,
    ) -> RestoredBatch:
        """Restore images `y` (B, C, H, W) on [-1, 1], where image i has the noise `noises[i]`.

        An image without noise (None) comes back unchanged. The random numbers for image i are a function of the seed
        and of `names[i]`. `is_clipped`: pixels beyond black and white were cut off. Colours that are all alike, noise
        included, are restored as one grey image. A model of grey images restores each colour as a grey image. Raises
        DataError when a model of colour images alone is given grey ones.
        """
        kinds = [(noise, _is_grey(image)) for noise, image in zip(noises, y, strict=True)]
        (first, are_grey), *_ = kinds
        if first is not None and len(set(kinds)) == 1:
            return self._of_one_kind(y, first, are_grey, names, is_clipped)
        further = [y.clone() for _ in range(self._kept - 1)] if self._choice.draws else []
        batch = RestoredBatch(y.clone(), further, torch.zeros_like(y) if self.how.uncertain else None)
        for noise, is_grey in dict.fromkeys(kinds):
            places = [i for i, kind in enumerate(kinds) if kind == (noise, is_grey)]
            if noise is not None:
                some = [names[i] for i in places]
                batch.fill(places, self._of_one_kind(y[places], noise, is_grey, some, is_clipped))
        return batch

    def restored(
        self,
        signals: NDArray[np.float32],
        noises: Sequence[NoiseSpectrum | None],
        names: Sequence[str],
        is_clipped: bool,
    ) -> list[Estimates]:
        """Restore images (B, C, H, W) in memory as `restore` does."""
        batch = self.restore(torch.from_numpy(signals).to(self.model.model.device), noises, names, is_clipped)
        draws = [draw.cpu().numpy() for draw in (batch.estimate, *batch.draws)]
        deviations = None if batch.deviation is None else batch.deviation.cpu().numpy()
        return [
            Estimates(tuple(draw[i] for draw in draws), None if deviations is None else deviations[i])
            for i in range(len(signals))
        ]

    @property
    def _choice(self) -> EstimateChoice:
        return ESTIMATES[self.how.estimate]

    @property
    def _kept(self) -> int:
        return self.how.returned or self.how.samples

    def _of_one_kind(
        self, y: Tensor, noise: NoiseSpectrum, is_grey: bool, names: Sequence[str], is_clipped: bool
    ) -> RestoredBatch:
        if not is_grey:
            return self._of_one_noise(y, noise, names, is_clipped)
        return self._of_one_noise(y[:, :1], noise, names, is_clipped).expanded(y.shape)

    def _of_one_noise(
        self, y: Tensor, noise: NoiseSpectrum, names: Sequence[str], is_clipped: bool
    ) -> RestoredBatch:
        shape, channels = y.shape, self.model.shape[0]
        if channels > shape[1] and not self.model.takes_grey:
            raise DataError(f"{self.model.name} was made for colour images, and this one is grey")
        if channels < shape[1]:
            names = [f"{name}/{channel}" for name in names for channel in range(shape[1])]
            y = y.reshape(-1, 1, *shape[2:])
        return self._restored(y, noise, names, is_clipped).reshaped(shape)

    def _restored(
        self, y: Tensor, noise: NoiseSpectrum, names: Sequence[str], is_clipped: bool
    ) -> RestoredBatch:
        damage, (_, high) = self.model.settings.damage, self.model.settings.strengths
        if damage is not None:
            noise = self.model.as_trained(noise)
        denoiser, planes = self.model.denoiser(y, noise, is_clipped), to_planes(y)
        if damage is not None:
            drawing = Drawing(1, 0, names)
            estimate = noisier_posterior_mean(planes, denoiser, damage / high, drawing)
            return RestoredBatch(from_planes(estimate), [], None)

        def estimated(choice: EstimateChoice, seeds: Sequence[str]) -> Tensor:
            drawing = Drawing(self.how.steps, self.how.seed, seeds, self.how.noise_device)
            return from_planes(choice.load()(planes, denoiser, drawing))

        draws, deviation = self._draws(y, lambda k: estimated(SAMPLE, [f"{name} {k}" for name in names]))
        if self._choice.draws:
            return RestoredBatch(draws[0], draws[1:], deviation)
        return RestoredBatch(estimated(self._choice, names), [], deviation)

    def _draws(self, like: Tensor, draw: Callable[[int], Tensor]) -> tuple[list[Tensor], Tensor | None]:
        """Return the first posterior samples draw(0), draw(1), ... that are kept, and the deviation of all of them."""
        how = self.how
        count = how.samples if self._choice.draws or how.uncertain else 0
        kept = self._kept if self._choice.draws else 0
        draws, spread = list[Tensor](), _Spread(torch.zeros_like(like), torch.zeros_like(like))
        for k in range(count):
            drawn = draw(k)
            draws.extend([drawn] if k < kept else [])
            if how.uncertain:
                spread.add(drawn)
        return draws, (spread.variance + self.floor**2).sqrt() if how.uncertain else None


def _is_grey(image: Tensor) -> bool:
    """Whether the colours of an image (C, H, W) are all alike."""
    return len(image) > 1 and bool((image == image[:1]).all())
