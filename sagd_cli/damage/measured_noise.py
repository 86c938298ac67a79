"""The power spectrum of noise, measured on images of nothing else: dark frames, flat patches, examples of the noise."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from math import sqrt
from pathlib import Path

import numpy as np

from sagd_cli.config.noise_spectrum import NoiseSpectrum
from sagd_cli.config.noise_text import MEASURED, as_typed, path_text
from sagd_cli.data.folders import collect, list_images
from sagd_cli.data.images import Image
from sagd_cli.data.journal import SettingText, setting
from sagd_cli.data.outcome import Outcome
from sagd_cli.data.ranges import Range
from sagd_cli.errors import ConfigError, DataError
from sagd_cli.spectral.grid import Array, FrequencyGrid, format_shape
from sagd_cli.spectral.smoothed import SmoothedSpectrum, smoothed_spectrum
from sagd_cli.spectral.spectrum import power_spectrum
from sagd_cli.system.console import output
from sagd_cli.system.files import shown_path

TILE = 16  # samples a side of tiles, in all of which stationary noise has the same strength
# The standard deviation over the tiles of the logarithm of the mean size of whitened values, each cut at 3. In white
# noise it is 0.05, more in noise of few frequencies, and above 0.25 in nine of ten photographs.
PATCHY, LARGEST_WHITE = 0.2, 3.0
FAINTEST_HASHED = 1e-9  # of the largest power
SHADED = 0.6  # share of the variance that a quadratic surface explains; about 0.2 in noise of power 1/r^2


@dataclass(frozen=True, eq=False)
class MeasuredNoise:
    """The power spectrum of noise that was measured on the images at `path`; `str` returns from:PATH.

    `spectra` are those of the images of each size, with the numbers of these images. What was measured at another time
    is another noise, as the file may have changed.
    """

    path: str
    spectra: tuple[tuple[SmoothedSpectrum, int], ...] = field(repr=False)

    def power(self, grid: FrequencyGrid) -> Array:
        """Return E|F n|^2 / N on the half spectrum of `grid`, which is 0 at DC: the mean of an image is no noise.

        A note says so where images had another shape. Then the variance of the noise stays; lines and peaks that are
        one frequency wide stay so and change their height (`SmoothedSpectrum.power`). Raises ConfigError unless the
        fields have two axes.
        """
        if grid.ndim != 2:
            raise ConfigError(f"{self} was measured on images, and is not for a field of shape {grid.shape}")
        others = [format_shape(found.shape) for found, _ in self.spectra if found.shape != grid.shape]
        if others:
            output().once(
                f"{self}: measured on {', '.join(others)}, interpolated to {format_shape(grid.shape)}"
            )
        powers, counts = zip(*((found.power(grid), count) for found, count in self.spectra), strict=True)
        return np.asarray(np.average(powers, axis=0, weights=counts))

    def __str__(self) -> str:
        """The noise as the command line takes it."""
        return MEASURED + path_text(self.path)


def typed_noise(text: str, given: Range | None = None) -> NoiseSpectrum:
    """Read noise that a person typed, and measure what it names by from:PATH.

    Raises what `NoiseSpectrum.parse` and `measured_noise` raise.
    """
    return NoiseSpectrum.parse(as_typed(text), lambda path: measured_noise(path, given))


def _measured(noise: NoiseSpectrum) -> list[MeasuredNoise]:
    return [part.source for part in noise.parts if isinstance(part.source, MeasuredNoise)]


def noise_setting(noise: NoiseSpectrum) -> SettingText:
    """Return noise as a setting of a command; that which was measured is the same under every spelling of its path."""
    same = str(noise)
    for source in _measured(noise):
        same = same.replace(str(source), str(replace(source, path=str(Path(source.path).resolve()))))
    return setting("--noise", noise, same)


def noise_files(noise: NoiseSpectrum) -> list[Path]:
    """Return the files on which noise was measured."""
    return [file for source in _measured(noise) for file in list_images(Path(source.path))]


def measured_noise(path: str, given: Range | None = None) -> MeasuredNoise:
    """Measure the spectrum of noise on an image, or on all images of a folder, which hold nothing else.

    It is the mean of |F n|^2 / N about the mean of each image, over images and channels, on the [-1, 1] range; `given`
    is the range that the user says. `smoothed_spectrum` takes out its scatter. Images of several sizes have a spectrum
    for each size.

    It warns where an image does not look like noise, and where black and white are not known. Raises UsageError when
    there is no image, and DataError when one cannot be read or is constant.
    """
    outcome = Outcome()
    files = collect(list_images(Path(path)), given, output())
    images = [image for image in files.read(outcome, output()) if not image.is_empty]
    if outcome.failed:
        raise DataError(outcome.failed[0]["error"], f"All images of {path} are to be examples of the noise.")
    if any(image.values.found for image in images):
        output().warn(
            f"{path} does not say which values are black and white, so the strength of its noise is uncertain: give "
            "--range LO:HI, that of the images"
        )
    signals: dict[tuple[int, ...], list[Array]] = {}
    for image in images:
        signals.setdefault(image.pixels.shape[1:], []).append(_noise_in(image))
    spectra = tuple((_spectrum(fields), len(fields)) for fields in signals.values())
    strange = sum(
        not _is_noise(noise, found)
        for fields, (found, _) in zip(signals.values(), spectra, strict=True)
        for noise in fields
    )
    if strange:
        subject = path if len(images) == 1 else f"{strange} of {len(images)} images in {path}"
        output().warn(
            f"{subject} does not look like noise, and what it shows will be taken for noise: it should be a dark "
            "frame, a flat patch or an example of the noise"
        )
    return MeasuredNoise(path, spectra)


def measured_hash(noise: NoiseSpectrum, grid: FrequencyGrid) -> str | None:
    """Return a hash of the spectra in `noise` that were measured, on `grid`; None where there is none.

    It is of three digits of each power, and of none below 1e-9 of the largest: processors differ in the last digits.
    """
    sources = [part.source for part in noise.parts]
    found = {source.path: source.power(grid) for source in sources if isinstance(source, MeasuredNoise)}
    powers = (np.maximum(found[path], FAINTEST_HASHED * found[path].max()) for path in sorted(found))
    hashed = sha256(b"".join(np.rint(1000 * np.log10(power)).astype(np.int64).tobytes() for power in powers))
    return hashed.hexdigest() if found else None


def _noise_in(image: Image) -> Array:
    """Return the signal (C, H, W) of an image about the mean of each channel; raise DataError when it is constant."""
    signal = image.signal.astype(np.float64)
    if all(channel.min() == channel.max() for channel in signal):
        hint = "Take a dark frame, a flat patch or an example of the noise."
        raise DataError(f"{shown_path(image.path)} is constant: there is no noise to measure", hint)
    return np.asarray(signal - signal.mean(axis=(1, 2), keepdims=True))


def _spectrum(fields: Sequence[Array]) -> SmoothedSpectrum:
    """Return the spectrum of noise fields (C, H, W) of one size."""
    grid = FrequencyGrid(fields[0].shape[1:])
    power = np.mean([power_spectrum(noise, grid) for noise in fields], axis=0)
    power[0, 0] = 0.0  # there is only rounding
    return smoothed_spectrum(grid.full(power), len(fields))


def _is_noise(noise: Array, found: SmoothedSpectrum) -> bool:
    """Whether a field (C, H, W) may be stationary noise of the spectrum `found`.

    Its strength, with that spectrum divided out, is then about the same everywhere, and no smooth surface explains most
    of it.
    """
    grid = FrequencyGrid(found.shape)
    power = found.power(grid)
    gain = np.divide(1.0, np.sqrt(power), out=np.zeros_like(power), where=power > 0)
    white = np.fft.irfft2(np.fft.rfft2(noise) * gain, s=grid.shape)
    white /= max(float(white.std()), 1e-30)
    tiles = _tiles(np.minimum(np.abs(white), LARGEST_WHITE))
    independent = max(1.0, TILE**2 * grid.mean(power > 0))
    most = max(PATCHY, 2 * 0.75 / sqrt(independent))
    return float(np.std(np.log(tiles + 1e-3))) < most and _shading(noise) < SHADED


def _tiles(values: Array) -> Array:
    """Return the means of the whole tiles of fields (C, H, W), averaged over C; of small fields, one tile."""
    mean = values.mean(axis=0)
    side_y, side_x = (min(TILE, n) for n in mean.shape)
    rows, columns = mean.shape[0] // side_y, mean.shape[1] // side_x
    tiles = mean[: rows * side_y, : columns * side_x].reshape(rows, side_y, columns, side_x)
    return np.asarray(tiles.mean(axis=(1, 3)))


def _shading(noise: Array) -> float:
    """Return the share of the variance of fields (C, H, W) that a quadratic surface explains; 0 for small fields."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in noise.shape[1:]), indexing="ij")
    basis = np.stack([y, x, y * x, y**2, x**2, np.ones_like(x)]).reshape(6, -1).T
    if len(basis) < TILE**2:
        return 0.0
    q, _ = np.linalg.qr(basis)
    values = noise.reshape(len(noise), -1)
    return float(np.sum((values @ q) ** 2) / np.sum(values**2))
