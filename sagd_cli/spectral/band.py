"""Bands as the command line takes them: radial, notches, stripes and their unions (MATH: 1.; CLI: BAND)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sagd_cli.errors import ConfigError, suggest
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.region import PRESETS, check_center, check_edges, disc, indicator, strip

STRIPE_AXES = {"horizontal": -2, "vertical": -1}  # the axis of the field along which the stripes alternate
STRIPE_WIDTH = 0.01
STRIPE_GUARD = 0.05
RINGS = "rings"  # stands, where networks are trained for several bands, for rings between random radii


class Part(Protocol):
    """One piece of a band."""

    def mask(self, grid: FrequencyGrid) -> NDArray[np.bool_]:
        """Bins of the half spectrum inside."""
        ...


@dataclass(frozen=True)
class Ring:
    """A radial band [low, high) in rho."""

    low: float
    high: float

    def mask(self, grid: FrequencyGrid) -> NDArray[np.bool_]:
        """Bins of the half spectrum inside."""
        return indicator(self.low, self.high, FrequencyGrid(grid.shape))

    def __str__(self) -> str:
        """The part as the command line takes it."""
        return f"{_shown(self.low)}:{_shown(self.high)}"


@dataclass(frozen=True)
class Notch:
    """A disc about a frequency and its mirror, in cycles/sample."""

    center: tuple[float, ...]
    radius: float

    def mask(self, grid: FrequencyGrid) -> NDArray[np.bool_]:
        """Bins of the half spectrum inside, at least the nearest one; raise ConfigError on a field of other axes."""
        if len(self.center) != grid.ndim:
            raise ConfigError(
                f"the band {self} gives {len(self.center)} frequencies and a radius, for a field of {grid.ndim} axes",
                "On images it is notch:FY,FX,RADIUS.",
            )
        return disc(self.center, self.radius, grid) > 0

    def __str__(self) -> str:
        """The part as the command line takes it."""
        return "notch:" + ",".join(map(_shown, (*self.center, self.radius)))


@dataclass(frozen=True)
class Stripe:
    """A strip of full `width` (cycles/sample) where stripes of the named direction lie, beyond rho = 0.05."""

    direction: str
    width: float = STRIPE_WIDTH

    def mask(self, grid: FrequencyGrid) -> NDArray[np.bool_]:
        """Bins of the half spectrum inside; raise ConfigError on a field without rows and columns."""
        if grid.ndim != 2:
            raise ConfigError(f"{self.direction} stripes need an image, not a field of shape {grid.shape}")
        return strip(STRIPE_AXES[self.direction], self.width, STRIPE_GUARD, FrequencyGrid(grid.shape)) > 0

    def __str__(self) -> str:
        """The part as the command line takes it."""
        return f"stripe:{self.direction},{_shown(self.width)}"


@dataclass(frozen=True)
class Band:
    """A union of parts of the spectrum."""

    parts: tuple[Part, ...]

    @classmethod
    def parse(cls, text: str) -> "Band":
        """Read a BAND; raise ConfigError otherwise.

        `low`, `mid`, `high`, `LO:HI` (rho), `notch:FY,FX,RADIUS` (cycles/pixel), `stripe:horizontal|vertical[,WIDTH]`
        (cycles/pixel), or several joined by `+`.
        """
        return cls(tuple(_parse_part(part.strip()) for part in text.split("+")))

    def mask(self, grid: FrequencyGrid) -> NDArray[np.bool_]:
        """Bins of the half spectrum inside the band; raise ConfigError when there is none at this size."""
        inside = np.logical_or.reduce([part.mask(grid) for part in self.parts])
        if not inside.any():
            raise ConfigError(
                f"the band {self} holds no frequency of a field of shape {grid.shape}", "Widen the band."
            )
        return np.asarray(inside)

    def __str__(self) -> str:
        """The band as the command line takes it."""
        return "+".join(map(str, self.parts))


def _parse_part(text: str) -> Part:
    if text in PRESETS:
        return Ring(*PRESETS[text])
    kind, colon, rest = text.partition(":")
    if not colon:
        raise ConfigError(
            f"unknown band {text!r}",
            f"{suggest(text, PRESETS)} A band is also LO:HI in rho, notch:FY,FX,RADIUS or stripe:horizontal.",
        )
    return _READERS.get(kind.strip(), _read_ring)(text, rest)


def _read_ring(text: str, rest: str) -> Ring:
    low, high = _numbers(text.split(":"), text, "LO:HI with two numbers", "0.5:1", (2, 2))
    check_edges(low, high, FrequencyGrid((2, 2)))
    return Ring(low, high)


def _read_notch(text: str, rest: str) -> Notch:
    form = "notch:FY,FX,RADIUS with numbers in cycles/pixel"
    *center, radius = _numbers(rest.split(","), text, form, "notch:0.25,0.1,0.01", (2, 4))
    check_center(center)
    if not 0 < radius <= 0.5:
        raise ConfigError(f"the notch {text!r} needs a radius above 0 and at most 0.5 cycles/pixel")
    return Notch(tuple(center), radius)


def _read_stripe(text: str, rest: str) -> Stripe:
    direction, comma, width = rest.partition(",")
    direction = direction.strip()
    if direction not in STRIPE_AXES:
        raise ConfigError(f"the stripes {text!r} have no direction", suggest(direction, STRIPE_AXES))
    if not comma:
        return Stripe(direction)
    form = "stripe:horizontal,WIDTH with a number in cycles/pixel"
    (value,) = _numbers([width], text, form, "stripe:horizontal,0.01", (1, 1))
    if not 0 <= value <= 0.5:
        raise ConfigError(f"the stripes {text!r} need a width from 0 to 0.5 cycles/pixel")
    return Stripe(direction, value)


_READERS: dict[str, Callable[[str, str], Part]] = {"notch": _read_notch, "stripe": _read_stripe}


def _shown(value: float) -> str:
    """Shortest text that reads back as the same number, so that a receipt names the very band."""
    return repr(float(value)).removesuffix(".0")


def _numbers(words: list[str], text: str, form: str, example: str, counts: tuple[int, int]) -> list[float]:
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = []
    if not counts[0] <= len(values) <= counts[1] or not np.all(np.isfinite(values)):
        raise ConfigError(f"the band {text!r} is not {form}", f"For example {example}.")
    return values
