"""What is known of the noise and of the images before they are restored, and of the noise of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sagd_cli.config.noise_spectrum import NoiseSpectrum
from sagd_cli.damage.gauge import Gauge
from sagd_cli.damage.lines import without_line_noise
from sagd_cli.damage.noise_levels import noise_levels
from sagd_cli.damage.strength import FINEST, Strength
from sagd_cli.data.images import Image
from sagd_cli.detection.find_noise import found_noise
from sagd_cli.restoration.options import Omission
from sagd_cli.restorer.restorer import Restorer
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.system.console import Output

SATURATED_SHARE = 0.01


@dataclass(frozen=True)
class Prepared:
    """All that restoring needs.

    `noise`: that of all images (None: each image has its own, which is found in it). `strength`: that of `noise`, where
    it was measured or told as one number. `knowledge`: what the restorer knows images from, for the JSON object.
    `learned_in`: the folder of what was learned for this call alone, which keeps nothing.
    """

    omission: Omission
    noise: NoiseSpectrum | None
    strength: Strength | None
    restorer: Restorer
    knowledge: str
    output: Output
    gauge: Gauge | None = None
    learned_in: Path | None = None

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
        noise = found_noise([signal]) if self.noise is None else self.noise
        if self.omission.per_image and noise is not None and self.noise is not None:
            noise = self._measured_on(signal, noise)
        if noise is None or not any(part.level for part in noise.parts):
            return None
        model = self.restorer.model
        if self.omission.tells_levels and model is not None and model.knows_any_noise:
            noise = self._possible(signal, noise)
        if model is not None:
            model.check(noise, self.omission.walks_path)
        return noise

    def without_lines(
        self, signal: NDArray[np.float32], noise: NoiseSpectrum | None
    ) -> tuple[NDArray[np.float32], NoiseSpectrum | None]:
        """Return an image (C, H, W) as it goes to the restorer, and the noise that is left for that.

        Offsets and gains of whole rows and columns are taken away by robust statistics, which are better there than any
        filter. Samples are of all the noise, so they leave this out. So do models of some noise only, and the notch.
        """
        model, choice = self.restorer.model, self.omission.choice
        is_left_out = choice.empties_band if model is None else not model.knows_any_noise
        if noise is None or is_left_out or self.omission.walks_path:
            return signal, noise
        return without_line_noise(signal, noise)

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
