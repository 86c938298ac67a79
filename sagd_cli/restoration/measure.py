"""The strength of noise in images, by the means there are: clean images of their kind, or only themselves."""

from collections.abc import Sequence
from functools import cached_property
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from sagd_cli.design.measure import LARGEST_TILE
from sagd_cli.errors import DataError
from sagd_cli.images import Image, to_signal
from sagd_cli.restoration.fields import Fields, tiles_of
from sagd_cli.restoration.parts import part_strengths
from sagd_cli.restoration.strength import (
    Groups,
    Strength,
    strength_from_power_law,
    strength_from_reference,
)
from sagd_cli.spectral.band import Band, Ring
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.spectrum import Spectrum, SpectrumAverage

WEAKEST = 0.01  # nothing weaker is noise to omit: half a step of 8-bit images has 0.004


class Gauge:
    """Measures the strength of noise in a band of images like `damaged`, against `reference` fields or a power law."""

    def __init__(self, damaged: Fields, reference: Fields | None, band: Band) -> None:
        """Take the fields, which suit each other."""
        self._damaged, self._band, self._clean = damaged, band, reference
        grid = FrequencyGrid(damaged.shape)
        channels = damaged.values.shape[1]
        noise = damaged.noise_spectrum(band)
        self._groups = Groups(grid, noise, channels, hann=not damaged.whole, lowest=damaged.lowest)

    def all(self) -> Strength:
        """Return the strength of the noise in all images together; raise DataError when there is none."""
        found = self._strength(self._damaged.values, self._damaged.independent)
        if not found.lost and (not found.found or found.value < WEAKEST):
            source = "a power law" if self._clean is None else "the reference"
            raise nothing_to_omit(self._band, source, found)
        return found

    def one(self, signal: NDArray[np.float32]) -> Strength | None:
        """Return the strength of the noise in one image (C, H, W); None when it is smaller, or greyer, than the fields.

        It is 0 in an image that is constant, or has far less in the band than clean images have.
        """
        if len(signal) < self._damaged.values.shape[1]:
            return None
        tiles = tiles_of(signal, self._damaged)
        tiles = tiles.reshape(-1, *self._damaged.values.shape[1:])
        try:
            return self._strength(tiles, len(tiles)) if len(tiles) else None
        except DataError:
            return Strength(0.0, 0.0, 0.0)

    @property
    def power_inside(self) -> float:
        """Mean power of all images over the band, signal and noise."""
        groups = self._groups
        power = groups.powers(self._damaged.values).mean(axis=0)[groups.inside] @ groups.bins[groups.inside]
        return float(power / groups.bins[groups.inside].sum())

    def _strength(self, values: NDArray[np.float32], independent: int) -> Strength:
        powers = self._groups.powers(values)
        if self._clean is None:
            return strength_from_power_law(powers.mean(axis=0), independent, self._groups)
        count = self._clean.independent
        return strength_from_reference(powers, self._reference, self._groups, independent, count)

    @cached_property
    def _reference(self) -> NDArray[np.float64]:
        assert self._clean is not None
        return self._groups.powers(self._clean.values)


def texture(images: Sequence[Image]) -> Spectrum:
    """Return the spectrum of the images' content, as `sagd spectrum` measures it, but of float images unclipped."""
    smallest = np.min([image.pixels.shape[1:] for image in images], axis=0)
    average = SpectrumAverage(tuple(min(int(side), LARGEST_TILE[2]) for side in smallest), hann=True)
    for image in images:
        average.add(to_signal(image.pixels).astype(np.float64))
    return average.result()


def thin_strength(images: Sequence[Image], band: Band) -> Strength:
    """Return the strength of noise in a band of notches and stripes, against the spectrum around each of them.

    It is the root mean square over the band of what is found in its parts. Raises DataError when that is nothing.
    """
    spectrum = texture(images)
    parts = part_strengths(spectrum.power, spectrum.fields, spectrum.grid, band)
    found = [part if part.found else Strength(0.0, 0.0, part.high) for part in parts]
    if not any(part.found for part in parts):
        raise nothing_to_omit(band, "the spectrum around it", parts[0])
    sizes = [spectrum.grid.total(part.mask(spectrum.grid)) for part in band.parts]

    def mean(values: list[float]) -> float:
        return sqrt(np.average(np.square(values), weights=sizes))

    value, low, high = (mean([getattr(part, end) for part in found]) for end in ("value", "low", "high"))
    return Strength(value, low, high)


def is_thin(band: Band) -> bool:
    """Whether a band is of notches and stripes, which a spectrum by radius does not show."""
    return not any(isinstance(part, Ring) for part in band.parts)


def nothing_to_omit(band: Band, source: str, found: Strength) -> DataError:
    """The error of images without noise that is certain."""
    return DataError(
        f"the band {band} holds no more power than {source} explains: there is no noise to omit for certain "
        f"(strength {found.value:.3g}, 95 % interval 0 to {found.high:.3g})",
        "Nothing was changed. If there is noise, give its --strength, or a --reference like the images.",
    )
