"""Noise that a run is trained for, as its settings name it."""

from collections.abc import Mapping
from dataclasses import dataclass

from sagd_cli.config.noise_spectrum import MeasuredSpectrum, NoiseSpectrum
from sagd_cli.config.noise_text import MEASURED, path_text
from sagd_cli.errors import ConfigError
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.grid import Array, FrequencyGrid


@dataclass(frozen=True)
class _Unread:
    """Measured noise whose spectrum is not read: only its name is known."""

    path: str

    def power(self, grid: FrequencyGrid) -> Array:
        raise ConfigError(f"{self} was not measured", "Give the noise to `sagd omit`, which measures it.")

    def __str__(self) -> str:
        return MEASURED + path_text(self.path)


def trained_noise(text: str, measured: Mapping[str, MeasuredSpectrum] | None = None) -> NoiseSpectrum:
    """Return the noise that a run is trained for, as its settings name it; a part without a level has level 1.

    A BAND stands as it is: its pieces count once where they overlap. Spectra that were `measured` are found there by
    their path. Raises what `NoiseSpectrum.parse` raises.
    """
    known = measured or {}
    try:
        return NoiseSpectrum.of_band(Band.parse(text), 1.0)
    except ConfigError:
        noise = NoiseSpectrum.parse(text, lambda path: known.get(path) or _Unread(path))
    return noise.with_default(1.0)
