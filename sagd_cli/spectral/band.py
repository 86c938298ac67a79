"""Bands as the command line takes them: rings, notches, stripes and their unions (docs/theory.md, section 1)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from sagd_cli.errors import ConfigError, suggest
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.region import PRESETS, check_center, check_edges, disc, indicator, wedge

STRIPE_ANGLES = {"horizontal": 0.0, "vertical": 90.0}  # of the lines, in degrees
WIDEST_ANGLE = 90.0  # between the lines of one part
STRIPE_WIDTH = 0.01
STRIPE_GUARD = 0.05
MOST_SHOWN = 4  # parts of a band or of noise, in messages
# In the list of bands that a network is trained for: rings between random radii, and noise of any kind.
RINGS, ANY = "rings", "any"


class Part(Protocol):
    """One piece of a band; `str` returns its text for the command line."""

    @property
    def is_radial(self) -> bool:
        """Whether the part is the same in all directions, so that a spectrum by radius shows it."""
        ...

    @property
    def is_thin(self) -> bool:
        """Whether noise in the part is measured against the frequencies around it: it is that narrow."""
        ...

    def mask(self, grid: FrequencyGrid) -> NDArray[np.bool_]:
        """Bins of the half spectrum inside."""
        ...


@dataclass(frozen=True)
class Ring:
    """A radial band from `low` to `high` in rho; `high` is excluded unless it is the corner of the spectrum."""

    low: float
    high: float
    is_radial: ClassVar[bool] = True
    is_thin: ClassVar[bool] = False

    def mask(self, grid: FrequencyGrid) -> NDArray[np.bool_]:
        """Bins of the half spectrum inside."""
        return indicator(self.low, self.high, FrequencyGrid(grid.shape))

    def __str__(self) -> str:
        """The part as the command line takes it."""
        return f"{_shown(self.low)}:{_shown(self.high)}"


@dataclass(frozen=True)
class Notch:
    """A disc of `radius` about the frequency `center`, and its mirror at the opposite frequency, in cycles/sample."""

    center: tuple[float, ...]
    radius: float
    is_radial: ClassVar[bool] = False
    is_thin: ClassVar[bool] = True

    def mask(self, grid: FrequencyGrid) -> NDArray[np.bool_]:
        """Bins of the half spectrum inside, at least the nearest one.

        Raises ConfigError when `center` has not one frequency for each axis of the field.
        """
        if len(self.center) != grid.ndim:
            raise ConfigError(
                f"the band {self} gives {len(self.center)} frequencies and a radius, for a field of {grid.ndim} axes",
                f"On images it is {KINDS['notch'].form}.",
            )
        return disc(self.center, self.radius, grid) > 0

    def __str__(self) -> str:
        """The part as the command line takes it."""
        return "notch:" + ",".join(map(_shown, (*self.center, self.radius)))


@dataclass(frozen=True)
class Stripe:
    """The strip of full `width` (cycles/sample) that holds stripes of `direction`, from `guard` to `end` in rho; no DC.

    `direction` is horizontal, vertical, the angle of the lines in degrees, counter-clockwise from horizontal ones, or
    the least and the largest of their angles as LO:HI. The strip then widens to a wedge.
    """

    direction: str
    width: float = STRIPE_WIDTH
    guard: float = STRIPE_GUARD
    end: float = 1.0
    is_radial: ClassVar[bool] = False
    is_thin: ClassVar[bool] = True

    @property
    def angles(self) -> tuple[float, float]:
        """The least and the largest angle of the lines in degrees, counter-clockwise from horizontal ones."""
        known = STRIPE_ANGLES.get(self.direction)
        ends = [known] if known is not None else [float(angle) for angle in self.direction.split(":")]
        return ends[0], ends[-1]

    @property
    def axis(self) -> int | None:
        """The axis of images on which the lines are counted: 0 for rows, 1 for columns, None for lines at an angle."""
        low, high = self.angles
        return int(low // 90) % 2 if low == high and low % 90 == 0 else None

    @property
    def is_whole(self) -> bool:
        """Whether it holds whole rows or columns: it is at no angle, begins at DC and has no end."""
        return self.axis is not None and self.guard == 0 and self.end == 1

    def mask(self, grid: FrequencyGrid) -> NDArray[np.bool_]:
        """Bins of the half spectrum inside; raise ConfigError unless the field has two axes."""
        if grid.ndim != 2:
            raise ConfigError(f"{self.direction} stripes need an image, not a field of shape {grid.shape}")
        inside = wedge(self.angles, self.width, grid)
        return inside & indicator(self.guard, self.end, FrequencyGrid(grid.shape)) & (grid.radius > 0)

    def __str__(self) -> str:
        """The part as the command line takes it."""
        ends = [_shown(self.guard), _shown(self.end)][: 1 + (self.end != 1)]
        tail = ends if self.guard != STRIPE_GUARD or self.end != 1 else []
        return "stripe:" + ",".join([self.direction, _shown(self.width), *tail])


@dataclass(frozen=True)
class Band:
    """A union of parts of the spectrum."""

    parts: tuple[Part, ...]

    @classmethod
    def parse(cls, text: str) -> "Band":
        """Return the band that `text` (a BAND) names: one of `band_forms()`, or several of them joined by `+`.

        Raises ConfigError on other text.
        """
        return cls(tuple(_parse_part(part.strip()) for part in text.split("+")))

    @property
    def rings(self) -> tuple[Ring, ...]:
        """The rings among its parts."""
        return tuple(part for part in self.parts if isinstance(part, Ring))

    def mask(self, grid: FrequencyGrid) -> NDArray[np.bool_]:
        """Bins of the half spectrum inside the band; raise ConfigError when the band holds none on `grid`."""
        inside = np.zeros(grid.half_shape, bool)
        for part in self.parts:  # a screen has hundreds
            inside |= part.mask(grid)
        if not inside.any():
            raise ConfigError(
                f"the band {self} holds no frequency of a field of shape {grid.shape}", "Widen the band."
            )
        return inside

    @property
    def shown(self) -> str:
        """Its text for people: the first parts of many."""
        return joined(self.parts)

    def __str__(self) -> str:
        """The band as the command line takes it."""
        return "+".join(map(str, self.parts))


def joined(parts: Sequence[object]) -> str:
    """Return parts joined by `+` for people: the first ones of more than `MOST_SHOWN`, and how many more there are."""
    more = len(parts) - MOST_SHOWN
    text = "+".join(map(str, parts[:MOST_SHOWN]))
    return f"{text} and {more} more" if more > 0 else text


def band_forms() -> str:
    """Return the forms of a BAND as a list for help texts."""
    return ", ".join([*PRESETS, *(kind.form for kind in KINDS.values())])


def _parse_part(text: str) -> Part:
    if text in PRESETS:
        return Ring(*PRESETS[text])
    name, colon, rest = text.partition(":")
    if not colon:
        *forms, last = (kind.form for kind in KINDS.values())
        hint = f"{suggest(text, PRESETS)} A band is also {', '.join(forms)} or {last}."
        raise ConfigError(f"unknown band {text!r}", hint)
    kind = name.strip()
    if kind.isalpha() and kind not in KINDS:
        raise ConfigError(
            f"unknown kind of band {kind!r} in {text!r}", suggest(kind, KINDS.keys() - {"ring"})
        )
    return KINDS.get(kind, KINDS["ring"]).read(text, rest)


def _read_ring(text: str, rest: str) -> Ring:
    low, high = _numbers(text.split(":"), text, "LO:HI with two numbers", "0.5:1", (2, 2))
    check_edges(low, high, FrequencyGrid((2, 2)))
    return Ring(low, high)


def _read_notch(text: str, rest: str) -> Notch:
    form = f"{KINDS['notch'].form} with numbers in cycles/pixel"
    *center, radius = _numbers(rest.split(","), text, form, "notch:0.25,0.1,0.01", (2, 4))
    check_center(center)
    if not 0 < radius <= 0.5:
        raise ConfigError(f"the notch {text!r} needs a radius above 0 and at most 0.5 cycles/pixel")
    return Notch(tuple(center), radius)


def _read_stripe(text: str, rest: str) -> Stripe:
    direction, comma, further = rest.partition(",")
    direction = _direction(text, direction.strip())
    if not comma:
        return Stripe(direction)
    form = f"{KINDS['stripe'].form} with numbers, in cycles/pixel and in rho"
    width, *ends = _numbers(further.split(","), text, form, "stripe:horizontal,0.01", (1, 3))
    if not 0 <= width <= 0.5:
        raise ConfigError(f"the stripes {text!r} need a width from 0 to 0.5 cycles/pixel")
    guard, end = [*ends, *(STRIPE_GUARD, 1.0)[len(ends) :]]
    if not 0 <= guard < 0.5:
        raise ConfigError(f"the stripes {text!r} begin between 0 and 0.5 in rho")
    if not guard < end <= 1:
        raise ConfigError(
            f"the stripes {text!r} end above {guard:g}, where they begin, and at most at 1 in rho"
        )
    return Stripe(direction, width, guard, end)


def _direction(text: str, direction: str) -> str:
    """Return a direction of stripes in its shortest form; rows and columns go by their words."""
    if direction in STRIPE_ANGLES:
        return direction
    try:
        angles = [float(word) for word in direction.split(":")]
    except ValueError:
        hint = suggest(direction, STRIPE_ANGLES)
        raise ConfigError(
            f"the stripes {text!r} have no direction", f"{hint} An angle in degrees is one, too."
        ) from None
    first, *_, last = [angles[0], *angles]
    if len(angles) > 2 or not -180 <= first <= last <= 180 or last - first > WIDEST_ANGLE:
        raise ConfigError(
            f"the stripes {text!r} need an angle from -180 to 180 degrees, or two as LO:HI, at most 90 apart",
            "0 is horizontal, 45 rises to the right like /, 90 is vertical, and 135 falls.",
        )
    shown = ":".join(map(_shown, angles))
    axis = Stripe(shown).axis
    return shown if axis is None else [*STRIPE_ANGLES][axis]


@dataclass(frozen=True)
class PartKind:
    """One kind of parts of a BAND.

    `form` describes what people type. `read(text, rest)` returns the part; `text` is the whole text of the part, and
    `rest` is what follows its first colon. It raises ConfigError on text that is not valid.
    """

    form: str
    read: Callable[[str, str], Part]


# By the word before the colon. A ring has no such word: it begins with a number.
KINDS = {
    "ring": PartKind("LO:HI in rho", _read_ring),
    "notch": PartKind("notch:FY,FX,RADIUS", _read_notch),
    "stripe": PartKind("stripe:horizontal|vertical|ANGLE[,WIDTH[,FROM[,TO]]]", _read_stripe),
}


def _shown(value: float) -> str:
    """Return the shortest text that reads back as the same number, so that a receipt names exactly the same band."""
    return repr(float(value)).removesuffix(".0")


def _numbers(words: list[str], text: str, form: str, example: str, counts: tuple[int, int]) -> list[float]:
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = []
    if not counts[0] <= len(values) <= counts[1] or not np.all(np.isfinite(values)):
        raise ConfigError(f"the band {text!r} is not {form}", f"For example {example}.")
    return values
