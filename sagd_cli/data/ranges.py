"""The one place for the range of pixels: which values are black and white, and signals on [-1, 1]. Imports no torch.

Black and white of an image file are where the user or the file says, or else where its type and the values of its set
tell (`RangeSurvey`). Arrays of integers (and tensors: `tensors`) use the whole range of their type; floats are signals.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sagd_cli.errors import DataError, UsageError
from sagd_cli.files.layout import IMAGE_TYPES, INTEGER_TYPES
from sagd_cli.system.console import told_apart

Signal = NDArray[np.floating]  # an image (C, H, W), of which black is -1 and white is 1

# White minus black: as a share of their size, and in itself.
SMALLEST_SHARE, SMALLEST_SPAN, LARGEST_SPAN = 1e-12, 1e-35, 1e30
FEW_BITS = 14  # cameras have 10, 12 or 14
# How far values may lie beyond a range they are on, in lengths of the range, and how unevenly on its two sides.
SLIGHT, LARGEST_NOISE, UNEVEN = 0.25, 8, 6
UNTOLD = 1e6  # from 0, of a signal on [-1, 1]: there float32 has steps of 1/16
LEAST_FILLED = 1 / 64  # of a range that values are on; those that fill less would lose digits there


@dataclass(frozen=True)
class Range:
    """The values that are black, `low`, and white, `high`.

    `found`: they are no more than the ends of the values of some images. `given`: the user says them.
    """

    low: float = 0.0
    high: float = 1.0
    found: bool = field(default=False, compare=False)
    given: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        """Raise UsageError unless white is above black."""
        if not self.is_sound(self.low, self.high):
            raise UsageError(f"a range goes from a number to a larger one, not {self.low!r} to {self.high!r}")

    @staticmethod
    def is_sound(low: float, high: float) -> bool:
        """Whether two values can be black and white: float64 tells values between them apart."""
        return max(SMALLEST_SPAN, SMALLEST_SHARE * max(abs(low), abs(high))) < high - low < LARGEST_SPAN

    @classmethod
    def parse(cls, text: str) -> "Range":
        """Read LO:HI, for example 0:4095; raise UsageError on other text."""
        low, colon, high = text.partition(":")
        try:
            return cls(float(low), float(high)) if colon else cls(float("nan"))
        except (ValueError, UsageError):
            raise UsageError(f"{text!r} is not a range LO:HI", "For example 0:4095 or -1000:3000.") from None

    def __str__(self) -> str:
        """Return LO:HI."""
        return ":".join(repr(end).removesuffix(".0") for end in self.ends)

    @property
    def ends(self) -> list[float]:
        """Black and white, as JSON objects list them."""
        return [self.low, self.high]

    @property
    def span(self) -> float:
        """White minus black."""
        return self.high - self.low


UNIT, SIGNED, BYTES = Range(), Range(-1, 1), Range(0, 255)
_TYPES = {name: Range(int(np.iinfo(name).min), int(np.iinfo(name).max)) for name in INTEGER_TYPES}
_TYPES |= {name: UNIT for name in IMAGE_TYPES if name not in INTEGER_TYPES}


def type_range(dtype: np.dtype) -> Range:
    """Return all of an integer type, [0, 1] for floats; raise KeyError on a type that is none of IMAGE_TYPES."""
    return _TYPES[dtype.name]


def image_signal(pixels: np.ndarray, values: Range | None = None) -> NDArray[np.float32]:
    """Map the pixels of an image file, of any shape, from `values` to [-1, 1]; keep what is outside.

    `values` are those of the type where none are given. Raises KeyError on a type that images do not have, UsageError
    where all pixels are so far from `values` that signals do not tell them apart.
    """
    values = values or type_range(pixels.dtype)
    signal = np.empty(pixels.shape, np.float32)
    # In float64, as values may be far larger than their differences.
    np.subtract(pixels, values.low, out=signal, dtype=np.float64, casting="same_kind")
    signal *= np.float32(2 / values.span)
    signal -= np.float32(1)
    if signal.size and (signal.min() > UNTOLD or signal.max() < -UNTOLD):
        raise UsageError(
            f"all values lie far outside the range {values}", "Give their own with --range LO:HI."
        )
    return signal


def image_pixels(signal: Signal, dtype: np.dtype, values: Range | None = None) -> np.ndarray:
    """Map a signal of any shape from [-1, 1] to `values`, pixels of an image file of type `dtype`.

    `values` are those of the type where none are given. Integers are rounded, and clipped to the ends of their type;
    floats are not. Raises `DataError` when the signal holds NaN or infinity, KeyError on a type that images do not
    have.
    """
    return _as_type(_scaled(signal, values or type_range(dtype)), dtype)


def changed_pixels(pixels: np.ndarray, change: Signal, values: Range | None = None) -> np.ndarray:
    """Return `pixels` of an image file moved by `change`, a difference of signals on [-1, 1].

    All else is as in `image_pixels`. Exact where nothing changes, also for types with more digits than signals have.
    """
    return _as_type(pixels + _in_units(change, values or type_range(pixels.dtype)), pixels.dtype)


def _as_type(values: NDArray[np.float64], dtype: np.dtype) -> np.ndarray:
    if dtype.kind == "f":
        largest = float(np.finfo(dtype).max)
        return np.clip(values, -largest, largest).astype(dtype)
    whole = type_range(dtype)
    return np.clip(np.rint(values), whole.low, whole.high).astype(dtype)


def clipped_values(signal: Signal, dtype: np.dtype, values: Range | None = None) -> int:
    """Return how many values `image_pixels` clips, by more than their rounding."""
    if dtype.kind == "f":
        return 0
    scaled, whole = np.rint(_scaled(signal, values or type_range(dtype))), type_range(dtype)
    return int(np.count_nonzero((scaled < whole.low) | (scaled > whole.high)))


def _scaled(signal: Signal, values: Range) -> NDArray[np.float64]:
    return _in_units(signal.astype(np.float64) + 1, values) + values.low


def _in_units(change: Signal, values: Range) -> NDArray[np.float64]:
    """Return differences of signals as differences of values."""
    if not np.isfinite(change).all():
        raise DataError("the computed image holds values that are not finite numbers")
    return np.multiply(change, values.span / 2, dtype=np.float64)


def to_bytes(pixels: np.ndarray, values: Range | None = None) -> NDArray[np.uint8]:
    """Return the pixels of an image file as uint8: rounded and clipped, or the same array where they are bytes.

    Raises what `image_signal` and `image_pixels` raise.
    """
    if pixels.dtype == np.uint8 and values in (None, BYTES):
        return pixels
    return image_pixels(image_signal(pixels, values), np.dtype(np.uint8))


@dataclass
class _Seen:
    """What was seen of the values of one type in files that do not state their range."""

    low: float = float("inf")
    high: float = float("-inf")
    count: int = 0
    negative: int = 0
    in_unit: int = 0
    in_bytes: int = 0

    def add(self, pixels: np.ndarray) -> None:
        self.low, self.high = min(self.low, float(pixels.min())), max(self.high, float(pixels.max()))
        self.count += pixels.size
        if pixels.dtype.kind == "f":
            self.negative += int(np.count_nonzero(pixels < 0))
            self.in_unit += int(np.count_nonzero((pixels >= 0) & (pixels <= 1)))
            self.in_bytes += int(np.count_nonzero((pixels >= 0) & (pixels <= 255)))

    def range(self, dtype: np.dtype) -> Range:
        """Return the range that the values tell of."""
        if dtype in (np.uint8, np.uint16):
            few_bits = 0 < self.high < 2**FEW_BITS
            return Range(0, self.high, found=True) if few_bits else type_range(dtype)
        if dtype.kind != "f":
            return self._ends(dtype)
        # The middle of the values tells [-1, 1] from [0, 1] with noise.
        is_signed = 4 * self.negative >= self.count and self.low + self.high < 0.5
        if is_signed and self._is_near(SIGNED, LARGEST_NOISE):
            return SIGNED
        if self._is_near(UNIT, LARGEST_NOISE) and 3 * self.in_unit >= self.count:
            return UNIT
        if self._is_near(BYTES, 1) and 2 * self.in_bytes >= self.count and self.high > BYTES.high / 2:
            return BYTES
        return self._ends(dtype)

    def _ends(self, dtype: np.dtype) -> Range:
        """Return the range from the smallest to the largest value; that of the type where they are one, but rounded."""
        rounding = 4 * np.finfo(dtype).eps if dtype.kind == "f" else 0
        if self.high - self.low <= rounding * max(-self.low, self.high):
            return type_range(dtype)
        if not Range.is_sound(self.low, self.high):
            beyond = f"the values go from {self.low!r} to {self.high!r}, beyond what 32-bit floats tell apart"
            raise DataError(beyond, "Scale them first, or take an offset from them.")
        return Range(self.low, self.high, found=True)

    def _is_near(self, values: Range, most: float) -> bool:
        """Whether the values fill this range, but for some beyond, as resampling and noise leave them.

        Resampling goes a little beyond; noise on both sides, at most by `most` times the range. One value fills any.
        """
        if 0 < self.high - self.low < LEAST_FILLED * values.span:
            return False
        beyond = [max(0.0, end) / values.span for end in (values.low - self.low, self.high - values.high)]
        return max(beyond) <= SLIGHT or (max(beyond) <= most and min(beyond) > max(beyond) / UNEVEN)


@dataclass(frozen=True)
class Ranges:
    """Where black and white lie in the images of one set, by the name of their type.

    `remarks` are sentences about what was found and was not plain.
    """

    by_type: Mapping[str, Range]
    remarks: tuple[str, ...] = ()

    @classmethod
    def told(cls, values: Range, types: Iterable[str] = IMAGE_TYPES) -> "Ranges":
        """Return the range that the user says for images of these `types`."""
        return cls(dict.fromkeys(types, replace(values, given=True)))

    def of(self, dtype: np.dtype, stated: Range | None = None) -> Range:
        """Return the range of an image of this type whose file states the range `stated`."""
        decided = self.by_type.get(dtype.name) or type_range(dtype)
        return stated if stated is not None and not decided.given else decided


@dataclass
class RangeSurvey:
    """Looks at the values of the images of a set, and decides where black and white lie; `given` is what the user says.

    The range `given` is for all images but bytes, and for these where there are no others. A file that states its range
    has that. For the other files one range is decided for each type, as docs/files.md says.
    """

    given: Range | None = None
    types: set[str] = field(default_factory=set)
    seen: dict[str, _Seen] = field(default_factory=dict)

    def add(self, pixels: np.ndarray, stated: Range | None = None) -> None:
        """Take in an image; `stated` is the range that its file states."""
        self.types.add(pixels.dtype.name)
        if pixels.dtype != np.uint8 and stated is None and self.given is None and pixels.size:
            self.seen.setdefault(pixels.dtype.name, _Seen()).add(pixels)

    def decided(self) -> Ranges:
        """Return the decision, with a remark for each type whose range was found from its values."""
        if self.given is not None:
            return Ranges.told(self.given, self.types - {"uint8"} or self.types)
        by_type, remarks = dict[str, Range](), list[str]()
        for name, seen in self.seen.items():
            whole = type_range(np.dtype(name))
            by_type[name] = seen.range(np.dtype(name))
            if by_type[name] != whole or not whole.low <= seen.low <= seen.high <= whole.high:
                (low, high), (black, white) = told_apart(seen.low, seen.high), told_apart(*by_type[name].ends)
                values = f"the values of the {name} images go from {low} to {high}"
                remarks.append(f"{values}: black is taken as {black} and white as {white}")
        return Ranges(by_type, tuple(remarks))


def array_signal(image: NDArray[Any]) -> NDArray[np.float64]:
    """Map an array of integers, of any shape, from the whole range of its type to [-1, 1]; keep the values of floats.

    Raises DataError on any other type.
    """
    if image.dtype.kind == "f":
        return image.astype(np.float64)
    if image.dtype.kind not in "ui":
        raise DataError(f"values of type {image.dtype} are no image", "Give integers or real numbers.")
    top = np.iinfo(image.dtype).max
    return image / (top / 2) - 1 if image.dtype.kind == "u" else image / (top + 1.0)


@dataclass
class ToBytes:
    """A change of images to bytes: from [-1, 1], rounded and clipped.

    `clipped` counts the values that were beyond, since image 0: a set is read from its start more than once.
    """

    clipped: int = 0

    def __call__(self, index: int, image: NDArray[Any]) -> NDArray[np.uint8]:
        """Return image number `index` as bytes; bytes stay as they are.

        Raises DataError on an array that is not finite, or of another type than integers and floats.
        """
        signal, kind = array_signal(image), np.dtype(np.uint8)
        self.clipped = (self.clipped if index else 0) + clipped_values(signal, kind)
        return image_pixels(signal, kind)
