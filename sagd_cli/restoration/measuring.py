"""The noise of the images of an omission: as it was told or found, and how strong it is in all of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sagd_cli.config.noise_spectrum import NoiseSpectrum
from sagd_cli.damage.fields import CROP, SMALLEST_SIDE, Fields, make_fields
from sagd_cli.damage.gauge import Gauge
from sagd_cli.damage.noise_levels import noise_levels
from sagd_cli.damage.strength import FINEST, Strength
from sagd_cli.damage.thin import is_thin
from sagd_cli.data.images import Image
from sagd_cli.detection.find_band import find_thin
from sagd_cli.errors import DataError
from sagd_cli.restoration.options import AUTO, Omission
from sagd_cli.spectral.band import MOST_SHOWN, Band
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.system.console import Output

MEASURED_VALUES = 1 << 23  # of images: more make the noise of all of them no surer


@dataclass(frozen=True)
class Measuring:
    """Measures the noise that `omission` names, on some images of `source`; `given` may be of very different sizes.

    `known` is what was measured before, which is not measured again: the text of the noise that was found, and of all
    the noise in the end, its levels and its strength.
    """

    omission: Omission
    source: Path
    given: Sequence[Image]
    output: Output
    known: Mapping[str, Any] | None = None

    @cached_property
    def images(self) -> Sequence[Image]:
        """Those that are not much smaller than the others, as all crops would have to be as small."""
        sides = np.array([min(image.pixels.shape[1:]) for image in self.given])
        least = max(SMALLEST_SIDE, min(float(np.median(sides)), CROP) / 2)
        large = [image for image, side in zip(self.given, sides, strict=True) if side >= least]
        return large or self.given

    @cached_property
    def measured(self) -> Sequence[Image]:
        """Some of them, evenly spread, on which noise is looked for and measured."""
        size = sum(image.pixels.size for image in self.images)
        return self.images[:: -(-size // MEASURED_VALUES)]

    @cached_property
    def fields(self) -> tuple[Fields, Fields | None]:
        """Fields of the damaged images and of the clean ones (None without any), all of one shape."""
        omission = self.omission
        signals = [image.signal for image in self.images]
        clean = omission.reference.signals(self.images) if omission.reference else []
        damaged = make_fields(signals, clean, omission.seed)
        return damaged, make_fields(clean, signals, omission.seed) if clean else None

    @cached_property
    def noise(self) -> NoiseSpectrum:
        """The noise as told, or peaks and stripes as found; some levels may be unknown.

        Raises DataError when nothing is found, ConfigError when it has no frequency, or all of them, in the largest
        image.
        """
        noise = self.omission.noise
        if noise == AUTO and self.known is not None:
            noise = NoiseSpectrum.parse(self.known["found"])
        elif noise == AUTO:
            noise = find_thin(self.measured, self.source)
            self.output.once(f"found {noise.shown}")
            if any(isinstance(part.source, Band) and len(part.source.parts) > 1 for part in noise.parts):
                self.output.note("taken for a halftone: its screen is noise about the points of a lattice")
        assert isinstance(noise, NoiseSpectrum)
        look = noise.units if None in noise.levels else noise.power
        look(FrequencyGrid(max((image.pixels.shape[1:] for image in self.images), key=np.prod)))
        return noise

    @property
    def is_thin(self) -> bool:
        """Whether a part of the noise is peaks and stripes."""
        sources = [part.source for part in self.noise.parts]
        return any(isinstance(source, Band) and is_thin(source) for source in sources)

    @cached_property
    def gauge(self) -> Gauge | None:
        """What compares one BAND, whose level is unknown, with other frequencies or with a reference, else None."""
        band = self.noise.band if len(self.noise.parts) == 1 else None
        if band is None or self.noise.levels != [None] or (is_thin(band) and not self.omission.reference):
            return None
        return Gauge(*self.fields, band)

    def levels(self) -> tuple[NoiseSpectrum, Strength | None]:
        """Return the noise with all its levels, and its strength where that is one number.

        Raises DataError when there is no noise.
        """
        noise, levels = self.noise, self.noise.levels
        if self.known is not None:
            is_found, strength = self.omission.noise == AUTO, self.known["strength"]
            # What was told may name files, whose spectra are here already.
            noise = (
                NoiseSpectrum.parse(self.known["noise"])
                if is_found
                else noise.with_levels(self.known["levels"])
            )
            return noise, None if strength is None else Strength(**strength)
        if None not in levels:
            return noise, Strength.told(levels[0]) if len(levels) == 1 and levels[0] is not None else None
        if self.gauge is not None:
            found = self.gauge.all()
            self._say(str(noise), found)
            return noise.with_levels([found.level]), found
        measured = noise_levels([image.signal for image in self.measured], noise.units)
        unknown = [
            (str(part), m)
            for part, m, level in zip(noise.parts, measured, levels, strict=True)
            if level is None
        ]
        certain = [(text, m) for text, m in unknown if m.found]
        for text, strength in (certain if len(unknown) > MOST_SHOWN else unknown)[:MOST_SHOWN]:
            self._say(text, strength)
        if len(unknown) > MOST_SHOWN:
            self.output.note(f"{len(unknown) - len(certain)} of {len(unknown)} parts are not certain")
        # What nobody told may be no noise at all: the smaller strength then.
        values = [m.cautious if self.omission.noise == AUTO else m.value for m in measured]
        known = [value if level is None else level for level, value in zip(levels, values, strict=True)]
        if not any(m.found or level for level, m in zip(levels, measured, strict=True)):
            raise DataError(
                f"no noise {noise.shown} is certain in the images",
                "Nothing was changed. If there is noise, give its --strength, or a --reference like the images.",
            )
        return noise.with_levels(known), measured[0] if len(measured) == 1 else None

    def single_levels(self) -> list[float]:
        """Return the levels that the noise, of one part, has in single images, where they are to be measured."""
        if not self.omission.per_image:
            return []
        if self.gauge is not None:
            found = [self.gauge.one(image.signal) for image in self.images]
            levels = [one.level for one in found if one is not None]
        else:
            levels = [noise_levels([image.signal], self.noise.units)[0].cautious for image in self.images]
        return [level for level in levels if level >= FINEST]

    def _say(self, what: str, found: Strength) -> None:
        interval = (
            f"strength {found.value:.3g} (95 % interval {found.low:.3g} to {found.high:.3g}, range [-1, 1])"
        )
        self.output.note(f"{what}: {'lost, nothing of the images shows in it' if found.lost else interval}")
