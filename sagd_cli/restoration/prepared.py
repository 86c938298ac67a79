"""What is known of the noise and of the images before they are restored, and of the noise of each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from math import inf
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sagd_cli.config.noise_spectrum import NoiseSpectrum
from sagd_cli.damage.gauge import Gauge
from sagd_cli.damage.lines import has_line_noise, without_line_noise
from sagd_cli.damage.noise_levels import noise_levels
from sagd_cli.damage.strength import FINEST, Strength
from sagd_cli.data.images import Image
from sagd_cli.detection.find_noise import found_noise
from sagd_cli.restoration.options import Omission
from sagd_cli.restorer.restoring import UNCHANGED, Estimates
from sagd_cli.restorer.tones import without_tones
from sagd_cli.spectral.band import Band, Notch, Stripe
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.system.console import Output

if TYPE_CHECKING:
    from sagd_cli.restorer.restorer import Restorer
    from sagd_cli.restorer.restoring_model import RestoringModel

SATURATED_SHARE = 0.01
_ONE_AT_A_TIME = Lock()  # a model uses all cores, or the only device


def noisy_bins(noise: NoiseSpectrum, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which bins of the half spectrum of an image of `shape` hold `noise`; raise ConfigError where none does."""
    return np.unpackbits(_packed_bins(noise, shape), axis=-1, count=shape[-1] // 2 + 1).view(np.bool_)


@lru_cache(maxsize=8)  # a large image may have some of its own: 4 MB for 64 megapixels
def _packed_bins(noise: NoiseSpectrum, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    return np.packbits(noise.power(FrequencyGrid(shape)) > 0, axis=-1)


@lru_cache(maxsize=8)
def check_frequencies(noise: NoiseSpectrum, shape: tuple[int, ...]) -> None:
    """Raise ConfigError when a part of `noise` has no frequency in an image of `shape`."""
    noise.units(FrequencyGrid(shape))  # not kept: a grid keeps its arrays


@dataclass(frozen=True)
class Prepared:
    """All that restoring needs.

    `noise`: that of all images (None: each image has its own, which is found in it). `strength`: that of `noise`, where
    it was measured or told as one number. `knowledge`: what the restorer knows images from, for the JSON object.
    `model` gives the model, and is not called before an image needs it (None: an estimate without a model). Its
    deviations have a `floor`. `left` is what was still found in restored images.
    """

    omission: Omission
    noise: NoiseSpectrum | None
    strength: Strength | None
    output: Output
    model: "Callable[[], RestoringModel] | None" = None
    knows_any_noise: bool = True
    knowledge: str = ""
    floor: float = 0.0
    gauge: Gauge | None = None
    left: NoiseSpectrum | None = None

    @property
    def looks_again(self) -> bool:
        """Whether noise is looked for again in what was restored: nobody told it, and more of it can be taken away."""
        is_told = isinstance(self.omission.noise, NoiseSpectrum)
        return not is_told and self.knows_any_noise and not self.omission.walks_path

    @property
    def method(self) -> str:
        """The name of the method in the JSON object."""
        estimate = self.omission.estimate
        return f"{self.knowledge}-{estimate}" if self.omission.choice.needs_model else estimate

    def noise_of(self, signal: NDArray[np.float32]) -> NoiseSpectrum | None:
        """Return the noise of an image (C, H, W), or None where it has none.

        With `--per-image` its strength is measured on this image where that is possible. What was told is lowered to
        the power that the image has there. Raises DataError when the model was not trained for it.
        """
        noise = self.found(signal) if self.noise is None else self.noise
        if self.omission.per_image and noise is not None and self.noise is not None:
            noise = self._measured_on(signal, noise)
        if noise is None or not any(part.level for part in noise.parts):
            return None
        if self.omission.tells_levels and self.model is not None and self.knows_any_noise:
            noise = self._possible(signal, noise)
        if self.model is not None and not self.knows_any_noise:
            self.model().check(noise, self.omission.walks_path)
        return noise

    def found(self, signal: NDArray[np.float32]) -> NoiseSpectrum | None:
        """Return the noise that is found in an image (C, H, W) and can be taken away, None where there is none.

        Without a model that is no white noise, which leaves no frequency to compare it with; a warning says so.
        """
        noise = found_noise([signal])
        if noise is None or self.model is not None:
            return noise
        bands = tuple(part for part in noise.parts if isinstance(part.source, Band))
        if len(bands) < len(noise.parts):
            self.output.once(
                f"white noise was found, and stays: {self.method} is for noise in a BAND, and --estimate mean takes "
                "white noise, too",
                warns=True,
            )
        return NoiseSpectrum(bands) if bands else None

    def restored(
        self,
        signals: Sequence[NDArray[np.float32]],
        noises: Sequence[NoiseSpectrum | None],
        names: Sequence[str],
        is_clipped: bool,
    ) -> list[Estimates]:
        """Return the estimates of images (C, H, W) of one shape, which have these noises, as `noise_of` found them.

        `is_clipped`: pixels beyond black and white were cut off. Raises DataError when that cannot be done. Several
        threads may call it.
        """
        given = [self.without_waves(*pair) for pair in zip(signals, noises, strict=True)]
        ready, left = zip(*given, strict=True)
        if self.model is None:
            found = [Estimates((self._untrained(signal, noise),)) for signal, noise in given]
        elif not any(left) and not self.omission.walks_path:
            found = [Estimates((signal,)) for signal in ready]
        else:
            stacked = ready[0][None] if len(ready) == 1 else np.stack(ready)  # a copy of a large image less
            with _ONE_AT_A_TIME:
                found = self.restorer.restored(stacked, left, names, is_clipped)
        are_changed = (not np.array_equal(*pair) for pair in zip(signals, ready, strict=True))
        methods = map(self._method_of, noises, left, are_changed)
        return [replace(one, method=method) for one, method in zip(found, methods, strict=True)]

    def _method_of(self, noise: NoiseSpectrum | None, left: NoiseSpectrum | None, is_changed: bool) -> str:
        """Return what was done to an image with `noise`: `left` is what was there when waves had been taken away.

        `is_changed`: something was taken away.
        """
        if noise is None or (left is None and not is_changed):
            return UNCHANGED
        parts = [part for part in noise.parts if is_changed and (left is None or part not in left.parts)]
        pieces = [piece for part in parts if isinstance(part.source, Band) for piece in part.source.parts]
        kinds = (("lines", Stripe), ("tones", Notch))
        taken = [name for name, kind in kinds if any(isinstance(piece, kind) for piece in pieces)]
        return "+".join([*taken, *([] if left is None else [self.method])])

    @cached_property
    def restorer(self) -> "Restorer":
        """The restorer of the model."""
        assert self.model is not None
        model = self.model()
        from sagd_cli.restorer.restorer import Restorer  # torch, which many calls do not need

        return Restorer(model, self.omission.restoring, self.floor)

    @property
    def is_in_small_steps(self) -> bool:
        """Whether most of the work is to find noise or take lines away, and no model was needed so far."""
        has_lines = self.noise is None or has_line_noise(self.noise)
        return has_lines and not self.omission.per_image and "restorer" not in vars(self)

    def without_waves(
        self, signal: NDArray[np.float32], noise: NoiseSpectrum | None
    ) -> tuple[NDArray[np.float32], NoiseSpectrum | None]:
        """Return an image (C, H, W) as it goes to the restorer, and the noise that is left for that.

        Offsets and gains of whole rows and columns are taken away by robust statistics, and tones as waves, which are
        better there than any filter. Samples are of all the noise, so they leave this out. So do models of some noise
        only, and the notch.
        """
        choice = self.omission.choice
        is_left_out = choice.empties_band if self.model is None else not self.knows_any_noise
        if noise is None or is_left_out or self.omission.walks_path:
            return signal, noise
        signal, left = without_line_noise(signal, noise)
        if left is not None:
            signal, left = without_tones(signal, left, isinstance(self.omission.noise, NoiseSpectrum))
        has_power = left is not None and any(part.level != 0 for part in left.parts)
        return signal, left if has_power else None

    def _untrained(self, signal: NDArray[np.float32], noise: NoiseSpectrum | None) -> NDArray[np.float32]:
        if noise is None:
            return signal
        is_grey = bool((signal[1:] == signal[:1]).all())
        estimate = self.omission.choice.load()(
            signal[:1] if is_grey else signal, noisy_bins(noise, signal.shape[1:])
        )
        return np.asarray(np.broadcast_to(estimate, signal.shape))

    def _measured_on(self, signal: NDArray[np.float32], noise: NoiseSpectrum) -> NoiseSpectrum | None:
        if self.gauge is None:
            told = self.omission.levels or [None] * len(noise.parts)
            measured = [found.cautious for found in noise_levels([signal], noise.units)]
            return noise.with_levels([m if t is None else t for t, m in zip(told, measured, strict=True)])
        found = self.gauge.one(signal)
        if found is None:
            return noise
        return None if found.level < FINEST else noise.with_levels([found.level] * len(noise.parts))

    def _possible(self, signal: NDArray[np.float32], noise: NoiseSpectrum) -> NoiseSpectrum:
        """Return `noise`, or less of it where the image holds less power at its frequencies than it would have."""
        grid = FrequencyGrid(signal.shape[1:])
        power = noise.power(grid)
        there = np.isfinite(power) & (power > 0) & (grid.radius > 0)
        if not there.any():
            return noise
        spectrum = np.abs(np.fft.rfft2(signal)) ** 2 / grid.size
        had, told = (grid.total(np.where(there, values, 0)) for values in (spectrum.mean(axis=0), power))
        count = grid.total(there) * len(signal)
        if told * (1 - 5 / np.sqrt(count)) <= had or np.mean(np.abs(signal) >= 1) > SATURATED_SHARE:
            return noise
        self.output.once(
            "an image holds less power at the frequencies of the noise than the strength that was given would add: "
            "it is lowered to what is there",
            warns=True,
        )
        share = float(np.sqrt(had / told))
        levels = [part.level or 0.0 for part in noise.parts]
        return noise.with_levels([level if level == inf else level * share for level in levels])


def warn_of_clipping(images: Sequence[Image], output: Output) -> None:
    """Warn when many pixels may be clipped: clipping spreads noise over all frequencies, out of its band."""
    share = saturated_share(images)
    if share > SATURATED_SHARE:
        output.warn(
            f"{share:.0%} of the pixels are black or white: where noise was clipped there, it has left its band, and "
            "only a part of it can be taken away (float TIFF keeps values outside the range)"
        )


def saturated_share(images: Sequence[Image]) -> float:
    """Return the share of the pixels of integer images, but constant ones, that are black or white."""
    whole = [image for image in images if image.pixels.dtype.kind == "u" and np.ptp(image.pixels)]
    ends = ((image.pixels == image.values.low) | (image.pixels == image.values.high) for image in whole)
    return sum(map(np.count_nonzero, ends)) / max(sum(image.pixels.size for image in whole), 1)
