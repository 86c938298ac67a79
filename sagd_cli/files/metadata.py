"""What belongs to an image file besides its pixels: the colour profile, the resolution, the tags of TIFF and EXIF.

It is carried from a file to the one that is written for it, and it never decides whether the pixels are read. Tags
are those of a TIFF file, or of EXIF, which is a TIFF file without pixels; numbers in them are little-endian here.
"""

import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from mmap import mmap
from typing import NamedTuple

import numpy as np

Buffer = bytes | memoryview | mmap

ORIENTATION = 0x0112
_EXIF, _GPS, _MAKER_NOTE = 34665, 34853, 37500
_MOST_TAGS = 4096
# Bytes of one value, and of the numbers in it, by the kind of a tag: 5 and 10 are fractions of two numbers.
_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_NUMBER = _BYTES | {5: 4, 10: 4}
_TEXT, _SHORT, _LONG, _FRACTION, _DOUBLE = 2, 3, 4, 5, 12
_RESOLUTION = (282, 283, 296)  # across, down, unit
_GEO = {33550, 33922, 34264, 34735, 34736, 34737, 50844}
_XMP, _DESCRIPTION = 700, 270
_RANGE, _GDAL_METADATA, _NO_DATA = 65105, 42112, 42113
# What is kept, and of which kinds. Every tag of text is kept besides: text holds no address in the file.
_KEPT = {
    **dict.fromkeys((282, 283, 286, 287, 318, 319), (_FRACTION,)),
    **dict.fromkeys((33550, 33922, 34264, 34736, 50844), (_DOUBLE,)),
    **dict.fromkeys((_XMP, 33723), (1, 7)),
    **dict.fromkeys((296, 34735), (_SHORT,)),
    **dict.fromkeys((_EXIF, _GPS), (_LONG,)),
}
_UNITS = {2: 1.0, 3: 2.54}  # inch, centimetre


class Tag(NamedTuple):
    """One tag: its code, its kind as TIFF counts kinds, and the bytes of its values, or the tags behind it."""

    code: int
    kind: int
    value: bytes
    parts: tuple["Tag", ...] = ()


@dataclass(frozen=True)
class Metadata:
    """What is carried from a file to the one that is written for it.

    `density` is in pixels per inch, across and down. `chunks` are those of a PNG file, without what the others say.
    `values` are black and white, where a TIFF file of ours states them. `has_copies`: smaller ones of it are left out.
    """

    icc: bytes = b""
    tags: tuple[Tag, ...] = ()
    density: tuple[float, float] | None = None
    chunks: tuple[tuple[bytes, bytes], ...] = ()
    values: tuple[float, float] | None = None
    has_copies: bool = False

    @property
    def no_data(self) -> tuple[float, ...]:
        """The values that stand for missing data, as GDAL writes them."""
        text = next((tag.value for tag in self.tags if tag.code == _NO_DATA), b"")
        try:
            return tuple(map(float, text.rstrip(b"\0").split()))
        except ValueError:
            return ()

    def in_other_units(self) -> "Metadata":
        """Return what still holds for values in other units: not that for missing data, and no statistics."""
        kept = [tag for tag in self.tags if tag.code not in (_NO_DATA, _GDAL_METADATA)]
        kept = [
            tag._replace(value=re.sub(rb"(?m)^(min|max)=.*\n?", b"", tag.value))
            if tag.code == _DESCRIPTION
            else tag
            for tag in kept
        ]
        return replace(self, tags=tuple(kept))

    def fitting(self, channels: int) -> "Metadata":
        """Return what fits an image of so many channels: a profile of another colour space is left out."""
        space = b"GRAY" if channels < 3 else b"RGB "
        return self if self.icc[16:20] == space else replace(self, icc=b"")


NOTHING = Metadata()


def metadata_of(
    tags: Iterable[Tag],
    icc: bytes = b"",
    density: tuple[float, float] | None = None,
    chunks: Iterable[tuple[bytes, bytes]] = (),
    xmp: bytes = b"",
) -> Metadata:
    """Return what is carried of the tags of a file, and of what else it holds, beside pixels that were turned upright.

    Where they were turned, what says where they lie is left out, and the resolutions change places.
    """
    tags = [*tags]
    turn = orientation(tags, xmp)
    kept = {tag.code: tag for tag in tags if tag.kind in _KEPT.get(tag.code, (_TEXT,)) and tag.code != _RANGE}
    kept = {code: tag for code, tag in kept.items() if code not in _RESOLUTION} | _resolution(kept)
    density = density or _density(kept)
    if turn != 1:
        said = kept.get(_DESCRIPTION)
        kept = {code: tag for code, tag in kept.items() if code not in {*_GEO, _XMP}}
        if said is not None and re.match(rb'\{"shape"|<\?xml|<OME', said.value):
            del kept[_DESCRIPTION]
    if turn > 4:
        density = density and density[::-1]
        across, down, _ = _RESOLUTION
        other = {across: down, down: across}
        kept = {other.get(code, code): tag._replace(code=other.get(code, code)) for code, tag in kept.items()}
    return Metadata(icc, tuple(kept.values()), density, tuple(chunks), _values(tags))


def range_tag(values: tuple[float, float] | None) -> tuple[Tag, ...]:
    """Return the tag that states black and white, none for None."""
    text = "" if values is None else f"sagd range {values[0]!r}:{values[1]!r}\0"
    return (Tag(_RANGE, _TEXT, text.encode()),) if text else ()


def _values(tags: Iterable[Tag]) -> tuple[float, float] | None:
    """Return black and white as `range_tag` states them, None where it does not.

    SMinSampleValue and SMaxSampleValue, which TIFF has for them, are not believed: many programs write there what the
    smallest and largest value of an image happen to be.
    """
    text = next((tag.value for tag in tags if tag.code == _RANGE), b"")
    found = re.fullmatch(rb"sagd range ([-+.\de]+):([-+.\de]+)\0*", text)
    try:
        return (float(found[1]), float(found[2])) if found else None
    except ValueError:
        return None


def orientation(tags: Iterable[Tag], xmp: bytes = b"") -> int:
    """Return the orientation, 1 to 8, that the tags give, else `xmp`; 1 when neither gives one.

    What is no integer from 1 to 8 counts as not given. Of several, the last one counts.
    """
    turns = [number for tag in tags if tag.code == ORIENTATION for number in _integers(tag)[:1]]
    if not turns:
        turns = [int(digit) for digit in re.findall(rb'tiff:Orientation(?:="|>)([0-9])', xmp)[:1]]
    return next((turn for turn in reversed(turns) if 1 <= turn <= 8), 1)


def read_tags(data: bytes | mmap, start: int | None = None) -> tuple[Tag, ...]:
    """Return the tags of the directory at byte `start` of a TIFF file or EXIF block, the first one if not said.

    What cannot be read is left out.
    """
    data = data[6:] if data[:6] == b"Exif\0\0" else data
    layout = _layout(data)
    if layout is None:
        return ()
    return tuple(_read(data, layout, layout.first(data) if start is None else start))


def blank_tags(data: memoryview, kept: Iterable[int]) -> None:
    """Overwrite each tag of a TIFF file that is not among `kept`, in all its directories, with one of no meaning."""
    layout = _layout(data)
    if layout is None:
        return
    known, seen = {*kept}, set[int]()
    empty = struct.pack(f"{layout.order}HH{layout.number}{layout.number}", 0xFFFF, 1, 1, 0)
    start = layout.first(data)
    while start and start not in seen:
        seen.add(start)
        end = start + (8 if layout.big else 2)
        for code, _, _, place in _entries(data, layout, start):
            end = place + layout.width
            if code not in known:
                data[end - len(empty) : end] = empty
        try:
            (start,) = struct.unpack_from(layout.order + layout.number, data, end)
        except struct.error:
            return


def directory(tags: Iterable[Tag], start: int) -> bytes:
    """Return a directory of `tags` and their values, as they lie from byte `start` of a TIFF file on."""
    ordered = sorted(tags)
    head, values = [struct.pack("<H", len(ordered))], list[bytes]()
    place = start + 2 + 12 * len(ordered) + 4
    for code, kind, value, parts in ordered:
        count = 1 if parts else len(value) // _BYTES[kind]
        field = value.ljust(4, b"\0")
        if parts or len(value) > 4:
            field = struct.pack("<I", place)
            values.append(directory(parts, place) if parts else value + bytes(len(value) % 2))
            place += len(values[-1])
        head.append(struct.pack("<HHI", code, kind, count) + field)
    return b"".join([*head, bytes(4), *values])


def exif_block(tags: Iterable[Tag]) -> bytes:
    """Return `tags` as an EXIF block."""
    return b"II*\0\x08\0\0\0" + directory(tags, 8)


def with_density(tags: Iterable[Tag], density: tuple[float, float] | None) -> tuple[Tag, ...]:
    """Return `tags` with the resolution `density`; unchanged where they have it, or where it is None."""
    known = {tag.code: tag for tag in tags}
    if density is not None and density != _density(known):
        across, down, unit = _RESOLUTION
        for code, value in ((across, density[0]), (down, density[1])):
            known[code] = Tag(code, _FRACTION, struct.pack("<II", round(value * 10_000), 10_000))
        known[unit] = Tag(unit, _SHORT, struct.pack("<H", 2))
    return tuple(known.values())


class _Layout(NamedTuple):
    order: str
    big: bool
    number: str  # of a count or an address
    width: int  # of the place of a value

    def first(self, data: Buffer) -> int:
        """Return the address of the first directory of `data`, 0 where it ends before."""
        place = 8 if self.big else 4
        return int.from_bytes(data[place : place + self.width], "little" if self.order == "<" else "big")


def _layout(data: Buffer) -> _Layout | None:
    order = {b"II": "<", b"MM": ">"}.get(bytes(data[:2]))
    if order is None:
        return None
    big = data[2:4] in (b"+\0", b"\0+")
    return _Layout(order, True, "Q", 8) if big else _Layout(order, False, "I", 4)


def _entries(data: Buffer, layout: _Layout, start: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield the code, kind and count of each tag of the directory at `start`, and the place of its value."""
    try:
        (number,) = struct.unpack_from(layout.order + ("Q" if layout.big else "H"), data, start)
        place = start + (8 if layout.big else 2)
        for _ in range(min(number, _MOST_TAGS)):
            code, kind, count = struct.unpack_from(f"{layout.order}HH{layout.number}", data, place)
            place += 4 + layout.width
            if place + layout.width > len(data):
                return
            yield code, kind, count, place
            place += layout.width
    except (struct.error, OverflowError):
        return


def _read(data: bytes | mmap, layout: _Layout, start: int, deep: bool = True) -> Iterator[Tag]:
    room = len(data)  # values that overlap could be many times the file
    for code, kind, count, place in _entries(data, layout, start):
        if deep and code in (_EXIF, _GPS):
            (address,) = struct.unpack_from(layout.order + layout.number, data, place)
            parts = tuple(_read(data, layout, address, deep=False))
            if parts:
                yield Tag(code, _LONG, b"", parts)
            continue
        size = count * _BYTES.get(kind, 0)
        at = place
        if size > layout.width:
            (at,) = struct.unpack_from(layout.order + layout.number, data, place)
        # The note of a camera's maker holds addresses in the file that it was written for.
        if 0 < size <= min(len(data) - at, room) and code != _MAKER_NOTE:
            room -= size
            number = np.frombuffer(data, f"{layout.order}u{_NUMBER[kind]}", size // _NUMBER[kind], at)
            yield Tag(code, kind, number.astype(number.dtype.newbyteorder("<")).tobytes())


def _integers(tag: Tag) -> list[int]:
    is_whole = tag.kind in (1, _SHORT, _LONG)
    return np.frombuffer(tag.value, f"<u{_NUMBER[tag.kind]}").tolist() if is_whole else []


def _resolution(tags: dict[int, Tag]) -> dict[int, Tag]:
    """Return the tags of the resolution and its unit; none unless they are of the kinds they must have."""
    across, down, unit = _RESOLUTION
    found = {unit: Tag(unit, _SHORT, struct.pack("<H", 2))} | {
        code: tags[code] for code in _RESOLUTION if code in tags
    }
    shapes = {code: (tag.kind, len(tag.value)) for code, tag in found.items()}
    return found if shapes == {across: (_FRACTION, 8), down: (_FRACTION, 8), unit: (_SHORT, 2)} else {}


def _density(tags: dict[int, Tag]) -> tuple[float, float] | None:
    """Return the pixels per inch, across and down, that tags give; None where they give none."""
    known = _resolution(tags)
    if not known:
        return None
    across, down, unit = (known[code] for code in _RESOLUTION)
    factor = _UNITS.get(_integers(unit)[0])
    pairs = [struct.unpack("<II", tag.value) for tag in (across, down)]
    if factor is None or not all(top and bottom for top, bottom in pairs):
        return None
    first, second = (top / bottom * factor for top, bottom in pairs)
    return first, second
