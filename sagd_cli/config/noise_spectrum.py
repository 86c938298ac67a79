"""Noise as the command line takes it: a sum of bands, filters and measured spectra, each with its level."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from sagd_cli.config.arguments import check_filter_file, is_path, parse_filter
from sagd_cli.config.filter import FilterConfig
from sagd_cli.config.noise_text import MEASURED, named_path, parts_of, path_text, without_level
from sagd_cli.errors import ConfigError, UsageError, suggest
from sagd_cli.plugin.registry import registry
from sagd_cli.spectral.band import KINDS, Band, joined
from sagd_cli.spectral.grid import Array, FrequencyGrid
from sagd_cli.spectral.region import PRESETS
from sagd_cli.spectral.smoothed import spread_power
from sagd_cli.system.files import has_suffix
from sagd_cli.system.yaml import parse_yaml

WEAKEST_LEVEL, STRONGEST_LEVEL = 1e-6, 1e6  # that a person can mean
NOISE_FORM = (
    "A part of the noise is a BAND, a filter (white, powerlaw:alpha=-1, FILE.yaml or -) or from:PATH, each with "
    ":level=F if need be."
)


class MeasuredSpectrum(Protocol):
    """The power spectrum of noise that was measured on images; `str` returns from:PATH."""

    def power(self, grid: FrequencyGrid) -> Array:
        """Return the power of the noise (half spectrum) in fields of `grid`."""
        ...


@dataclass(frozen=True)
class NoisePart:
    """Noise with the power level^2 w(f)^2.

    `source` says w. `level` is the amplitude on the [-1, 1] range: infinite where all is lost, None where it is to be
    found. Measured noise has its own, and the level multiplies it.
    """

    source: Band | FilterConfig | MeasuredSpectrum
    level: float | None = None

    def __post_init__(self) -> None:
        """Raise ConfigError on a level that is negative, NaN, or above STRONGEST_LEVEL and not infinite."""
        if self.level is not None:
            check_level(self.level, 0.0)

    def __hash__(self) -> int:
        """Hash its text: the options of a filter are a mapping, which has no hash."""
        return hash(str(self))

    def unit(self, grid: FrequencyGrid) -> Array:
        """Return w(f)^2 on the half spectrum of `grid`: 1 inside a band, or the squared weight of a filter.

        Raises ConfigError when the band or filter has no frequency there.
        """
        if isinstance(self.source, Band):
            return self.source.mask(grid).astype(np.float64)
        if isinstance(self.source, FilterConfig):
            return np.square(self.source.weights(grid.shape).weight)
        return self.source.power(grid)

    def __str__(self) -> str:
        """The part as the command line takes it."""
        text = _filter_text(self.source) if isinstance(self.source, FilterConfig) else str(self.source)
        if isinstance(self.source, Band) and len(self.source.parts) > 1:
            text = f"({text})"
        if self.level is None or (self.level == 1 and text.startswith(MEASURED)):
            return text
        return f"{text}:level={repr(float(self.level)).removesuffix('.0')}"


@dataclass(frozen=True)
class NoiseSpectrum:
    """The power spectrum N(f) of noise: the sum of that of its parts, which are independent."""

    parts: tuple[NoisePart, ...]

    @classmethod
    def parse(
        cls, text: str, read_measured: Callable[[str], MeasuredSpectrum] | None = None
    ) -> "NoiseSpectrum":
        """Read parts SPEC[:k=v,...,level=F] joined by `+`.

        SPEC is a BAND, a filter as `parse_filter` reads it, or from:PATH, which `read_measured` is called with PATH
        for and whose level is 1 unless given. A BAND of several pieces that count once where they overlap is put in
        parentheses, and a filter file may stand in braces, as JSON. A `+` in brackets, in quotes or in a number joins
        nothing. Raises UsageError, which names the part, on other text, and what `read_measured` raises.
        """
        return cls(tuple(_parse_part(part, read_measured) for part in parts_of(text)))

    @classmethod
    def of_band(cls, band: Band, level: float | None) -> "NoiseSpectrum":
        """Return noise of one level in a band."""
        return cls((NoisePart(band, level),))

    @property
    def sources(self) -> list[str]:
        """What each part is, without its level."""
        return [str(replace(part, level=None)) for part in self.parts]

    @property
    def levels(self) -> list[float | None]:
        """The level of each part."""
        return [part.level for part in self.parts]

    @property
    def merged(self) -> "NoiseSpectrum":
        """The same noise, of known levels, with one part for each source and none of level 0; powers add."""
        parts, levels = dict(zip(self.sources, self.parts, strict=True)), dict[str, float]()
        for source, level in zip(self.sources, self.levels, strict=True):
            levels[source] = math.hypot(levels.get(source, 0.0), level or 0.0)
        return NoiseSpectrum(
            tuple(replace(parts[source], level=level) for source, level in levels.items() if level)
        )

    @property
    def band(self) -> Band | None:
        """The union of its parts, or None when one of them is no band."""
        bands = [part.source for part in self.parts if isinstance(part.source, Band)]
        if len(bands) < len(self.parts):
            return None
        return Band(tuple(piece for band in bands for piece in band.parts))

    def units(self, grid: FrequencyGrid) -> list[Array]:
        """Return w(f)^2 of each part; raise ConfigError when one has no frequency on `grid`."""
        return [part.unit(grid) for part in self.parts]

    def power(self, grid: FrequencyGrid) -> Array:
        """Return N(f) = sum of level^2 w(f)^2 on the half spectrum of `grid`.

        It is infinite where a part with an infinite level has any weight. At DC such a part adds nothing, because the
        mean of an image is never lost. Raises ConfigError when a level is unknown, and when N is 0 everywhere, or
        infinite everywhere but at DC.
        """
        total = np.zeros(grid.half_shape)
        for part, unit in zip(self.parts, self.units(grid), strict=True):
            if part.level is None:
                raise ConfigError(f"the noise {part} has no level", f"For example {part}:level=0.1.")
            if part.level == math.inf:
                lost = np.where(unit > 0, math.inf, 0.0)
                lost.flat[0] = 0.0
                total += lost
            else:
                total += part.level * part.level * unit
        if not total.any():
            raise ConfigError(f"the noise {self} has no power at all", "Give it a level above 0.")
        if total.size > 1 and np.isinf(total.flat[1:]).all():
            raise ConfigError(
                f"the noise {self} leaves no frequency of a field of shape {grid.shape}",
                "Only a part of the spectrum can be lost.",
            )
        return total

    def of_crops(self, extent: tuple[int, ...]) -> "NoiseSpectrum":
        """Return the noise of crops, of any size, of images of the shape `extent` that have this noise."""
        return NoiseSpectrum((NoisePart(_Cropped(self, FrequencyGrid(extent)), 1.0),))

    def check_told(self) -> None:
        """Raise ConfigError on a level below WEAKEST_LEVEL: measured noise may have it, but not noise that is told."""
        for level in self.levels:
            if level is not None:
                check_level(level)

    @property
    def shown(self) -> str:
        """Its text for people, with levels of three digits: the first parts of many."""
        rounded = self.with_levels([level and float(f"{level:.3g}") for level in self.levels]).parts
        bands = [(str(part), part.source) for part in rounded]
        return joined([text.replace(str(b), b.shown) if isinstance(b, Band) else text for text, b in bands])

    def with_levels(self, levels: Sequence[float | None]) -> "NoiseSpectrum":
        """Return it with these levels, one for each part."""
        parts = zip(self.parts, levels, strict=True)
        return NoiseSpectrum(tuple(replace(part, level=level) for part, level in parts))

    def with_default(self, level: float | None) -> "NoiseSpectrum":
        """Return it with `level` for each part that has none."""
        return self.with_levels([level if part.level is None else part.level for part in self.parts])

    def __str__(self) -> str:
        """The noise as the command line takes it."""
        return "+".join(map(str, self.parts))


@dataclass(frozen=True)
class _Cropped:
    """The noise of images of `grid`, as crops of them have it; `str` returns that of the whole images."""

    noise: NoiseSpectrum
    grid: FrequencyGrid

    def power(self, grid: FrequencyGrid) -> Array:
        return spread_power(self.noise.power(self.grid), self.grid, grid)

    def __str__(self) -> str:
        return str(self.noise)


def check_level(level: float, weakest: float = WEAKEST_LEVEL) -> None:
    """Raise ConfigError unless `level` is from `weakest` to STRONGEST_LEVEL or infinite."""
    if not (weakest <= level <= STRONGEST_LEVEL or level == math.inf):
        raise ConfigError(
            f"the strength must be from {WEAKEST_LEVEL:g} to {STRONGEST_LEVEL:g}, or inf, not {level:g}",
            "It is the amplitude on the [-1, 1] range; inf says that the frequencies are lost.",
        )


def _filter_text(config: FilterConfig) -> str:
    """Return TYPE[:k=v,...] with all options, or the whole filter file in braces where that says too little."""
    plain = FilterConfig(type=config.type, options=config.options)
    if config != plain:
        return json.dumps({key: value for key, value in config.document().items() if key != "source"})
    options = [f"{key}={json.dumps(value)}" for key, value in config.options.items()]
    return ":".join([config.type, ",".join(options)] if options else [config.type])


def _parse_part(part: str, read_measured: Callable[[str], MeasuredSpectrum] | None) -> NoisePart:
    spec, level = without_level(part)
    if spec.startswith(MEASURED) and read_measured is not None:
        return NoisePart(
            read_measured(named_path(spec.removeprefix(MEASURED))), 1.0 if level is None else level
        )
    try:
        return NoisePart(_source(spec), level)
    except UsageError as error:
        if spec and spec in error.message:
            raise
        raise type(error)(f"the noise {part!r}: {error.message}", error.hint) from None


def _source(spec: str) -> Band | FilterConfig:
    name, _, options = spec.partition(":")
    families = registry().names("filter")
    if spec.startswith("(") and spec.endswith(")"):
        return Band.parse(spec[1:-1])
    if spec.startswith("{"):
        document = parse_yaml(spec, "the filter in braces")
        return _without_source(check_filter_file(document, "the filter in braces"))
    # `notch` and `stripe` are both: numbers or a direction say a BAND, key=value a family.
    if name in PRESETS or _is_number(name) or (name in KINDS and not (name in families and "=" in options)):
        return Band.parse(spec)
    path = named_path(spec)
    if name in families or spec == "-" or has_suffix(path, ".yaml", ".yml"):
        return _without_source(parse_filter(path))
    if is_path(Path.exists, path):
        raise ConfigError(
            f"{path!r} is not a filter file, which ends in .yaml",
            f"Noise is measured on images by {MEASURED}{path_text(path)}.",
        )
    known = suggest(name, [*PRESETS, *(KINDS.keys() - {"ring"}), *families])
    raise ConfigError(f"unknown noise {spec!r}", f"{known} {NOISE_FORM}")


def _without_source(config: FilterConfig) -> FilterConfig:
    """Return the filter without the data it was fitted to, which say nothing of the noise."""
    return config.model_copy(update={"source": None})


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
