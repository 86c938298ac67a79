"""The strength of noise in images, measured against clean images of their kind, or without them."""

from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sagd_cli.damage.blocks import surer
from sagd_cli.damage.fields import Fields, tiles_of
from sagd_cli.damage.groups import Groups
from sagd_cli.damage.likelihood import Reference, strength_from_power_law, strength_from_reference
from sagd_cli.damage.strength import WEAKEST, Strength, nothing_to_omit
from sagd_cli.errors import DataError
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.grid import FrequencyGrid


class Gauge:
    """Measures the strength of noise in a band of images like `damaged`, against `reference` fields or a power law."""

    def __init__(self, damaged: Fields, reference: Fields | None, band: Band) -> None:
        """Take fields of one shape; without `reference` the power law of `damaged` itself is compared with."""
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
        """Return the strength of the noise in one image (C, H, W).

        It is 0 in an image that is constant, and in one that has far less in the band than clean images have. It is
        None when the image is smaller than the fields, or grey while they are in colour.
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
        power = self._groups.powers(values).mean(axis=0)
        if self._reference is None:
            found = strength_from_power_law(power, independent, self._groups)
            fields = replace(self._damaged, values=values, independent=independent)
            return surer(found, fields, self._band.mask(FrequencyGrid(fields.extent)).astype(np.float64))
        return strength_from_reference(power, independent, self._groups, self._reference)

    @cached_property
    def _reference(self) -> Reference | None:
        clean = self._clean
        return None if clean is None else Reference(self._groups.powers(clean.values), clean.independent)
