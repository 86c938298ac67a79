"""Noise that a run is trained for, as its settings name it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np

from sagd_cli.config.filter import FilterConfig
from sagd_cli.config.noise_spectrum import MeasuredSpectrum, NoisePart, NoiseSpectrum
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


@dataclass(frozen=True)
class NoiseContext:
    """What the settings of a run do not say of the noise that it is trained for.

    `measured` are the spectra that they name by a path. `extent` is the shape of the images that those of the data set
    are cut from (None: these are whole).
    """

    measured: Mapping[str, MeasuredSpectrum] = field(default_factory=dict)
    extent: tuple[int, ...] | None = None


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


def strengths_of(
    noise: NoiseSpectrum, known: NoiseSpectrum, grid: FrequencyGrid
) -> tuple[float, float] | None:
    """Return the least and the largest factor by which the amplitude of `noise` exceeds that of `known`.

    It is taken at every frequency of `grid` but DC; None where only one of the two has noise there. So noises are the
    same whatever their text. Those that were measured go by their path. Their levels are known and not all 0.
    """
    ours, theirs = _amplitudes(noise, grid), _amplitudes(known, grid)
    if ours.keys() != theirs.keys():
        return None
    told, trained = (np.concatenate([kind[name] for name in ours]) for kind in (ours, theirs))
    inside = trained > 0
    return None if np.any((told > 0) != inside) else _ends(told[inside] / trained[inside])


def ring_strengths(noise: NoiseSpectrum, narrowest: float, grid: FrequencyGrid) -> tuple[float, float] | None:
    """Return the least and the largest amplitude of `noise` in a ring on `grid` at least `narrowest` wide, in rho.

    None where it is in no such ring, or only in a part of one.
    """
    amplitudes = _amplitudes(noise, grid)
    if amplitudes.keys() != {""}:
        return None
    amplitude, rho = amplitudes[""], grid.rho.flat[1:]
    inside = amplitude > 0
    low, high = _ends(rho[inside])
    is_whole = np.array_equal((rho >= low) & (rho <= high), inside)
    return _ends(amplitude[inside]) if is_whole and high - low >= narrowest - 2 / min(grid.shape) else None


def _amplitudes(noise: NoiseSpectrum, grid: FrequencyGrid) -> dict[str, Array]:
    """Return the level of each measured part by its name, and by "" the amplitudes of the others together."""
    levels, power = dict[str, Array](), np.zeros(1)
    for part in noise.parts:
        level = part.level or 0.0
        if isinstance(part.source, Band | FilterConfig):
            unit = _unit(replace(part, level=None), grid)
            power = power + np.multiply(unit, level * level, where=unit > 0, out=np.zeros(unit.shape))
        else:
            levels[str(part.source)] = np.array([level])
    return levels | ({"": np.sqrt(power)} if power.size > 1 else {})


@lru_cache(maxsize=8)
def _unit(part: NoisePart, grid: FrequencyGrid) -> Array:
    """Return the power of level 1 at each frequency but DC, which is asked for with every image."""
    return part.unit(grid).flat[1:]


def _ends(values: Array) -> tuple[float, float]:
    return float(values.min()), float(values.max())
