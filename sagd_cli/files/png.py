"""PNG files: libpng reads and writes all their depths, from the chunks that make the pixels."""

import logging
import re
import struct
import zlib
from collections.abc import Iterator
from itertools import islice

import imagecodecs
import numpy as np

from sagd_cli.errors import DataError
from sagd_cli.files.layout import upright, with_channels
from sagd_cli.files.metadata import Metadata, Tag, exif_block, metadata_of, orientation, read_tags
from sagd_cli.files.pillow import opened

# Its remarks would reach stderr through logging's last resort.
logging.getLogger("imagecodecs").addHandler(logging.NullHandler())

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_INCH = 0.0254  # metres
_PALETTE = 3  # the colour type
_COLOUR_TYPES = 0, 4, 2, 6  # of 1 to 4 samples a pixel
_LEVELS = (
    1,
    6,
)  # of libdeflate's 12, for small images, whose files they make as large within 1 %, and for large ones
_LARGE = 1 << 16  # bytes
_AT_ONCE = 1 << 18  # bytes; what fits into a processor's cache
_MOST_INFLATED, _MOST_CHUNKS = 2**24, 1000
# Chunks on colours that hold for other pixels too. The names of others say it by their fourth letter.
_COLOURS = {b"cHRM", b"gAMA", b"sRGB", b"cICP", b"mDCV", b"cLLI"}
_OF_PIXELS = {b"tRNS", b"acTL", b"fcTL", b"fdAT"}
_TURNING = (b"XML:com.adobe.xmp\0", b"Raw profile type")


def decode_png(data: bytes) -> np.ndarray:
    """Return the samples (H, W, S) of a PNG file; raise DataError on one that is too large or an animation."""
    bare = b"".join([_SIGNATURE, *_pixel_chunks(data)])
    # Pillow meets a damaged PNG first: each one that imagecodecs 2026.3 refuses costs a reference to None, and some
    # thousands of them end the process on Python 3.11.
    with opened(bare, ("PNG",)):
        samples = with_channels(imagecodecs.png_decode(bare))
    return upright(samples, orientation(*_exif_and_xmp(_sound_chunks(data))))


def _pixel_chunks(data: bytes) -> Iterator[bytes]:
    """Yield each chunk that the pixels depend on; of palettes and transparent colours those that are in order."""
    colour, held = 0, 0  # the colour type, and the colours of the palette
    may_follow = True  # a transparent colour: the first one, before the pixels
    for kind, content, whole in _chunks(data):
        if kind == b"fdAT":  # the pixels of a further frame
            raise DataError("is an animation", "Extract its frames into one file each.")
        if kind == b"IHDR":
            colour = content[9] if len(content) > 9 else 0
        elif kind == b"PLTE":
            if colour != _PALETTE:  # no more than a suggestion
                continue
            held = len(content) // 3
        elif kind == b"IDAT":
            may_follow = False
        elif kind == b"tRNS":
            fits = (
                1 <= len(content) <= held if colour == _PALETTE else len(content) == {0: 2, 2: 6}.get(colour)
            )
            if not (may_follow and fits and whole == _chunk(kind, content)):
                continue
            may_follow = False
        elif _is_optional(kind):
            continue
        yield whole


def read_png_metadata(data: bytes) -> Metadata:
    """Return what a PNG file holds besides its pixels; chunks that disagree with their checksums are left out."""
    found = _sound_chunks(data)
    tags, xmp = _exif_and_xmp(found)
    turn = orientation(tags, xmp)
    chunks = [
        (kind, content)
        for kind, content in found
        if (kind in _COLOURS or kind[3] & 32)
        and kind not in (b"eXIf", b"pHYs")
        and (turn == 1 or not content.startswith(_TURNING))
    ]
    single = dict(reversed(found))
    density = None
    if len(single.get(b"pHYs", b"")) == 9:
        across, down, unit = struct.unpack(">IIB", single[b"pHYs"])
        if unit == 1:
            density = across * _INCH, down * _INCH
        elif turn < 5:
            chunks.append((b"pHYs", single[b"pHYs"]))
    return metadata_of(tags, _profile(single.get(b"iCCP", b"")), density, chunks, xmp)


def encode_png(samples: np.ndarray) -> bytes:
    """Return samples (H, W, S) of 8 or 16 bits as a PNG file."""
    return next(encode_pngs(samples[None]))


def encode_pngs(images: np.ndarray) -> Iterator[bytes]:
    """Yield each of images (N, H, W, S) of 8 or 16 bits as a PNG file."""
    _, height, width, count = images.shape
    wide = images.dtype.itemsize
    form = struct.pack(">IIBBBBB", width, height, 8 * wide, _COLOUR_TYPES[count - 1], 0, 0, 0)
    head, end = _SIGNATURE + _chunk(b"IHDR", form), _chunk(b"IEND", b"")
    group = max(1, _AT_ONCE // (height * width * count * wide))
    for start in range(0, len(images), group):
        values = np.ascontiguousarray(images[start : start + group], dtype=f">u{wide}").view(np.uint8)
        filtered = _filtered(values.reshape(-1, width * count * wide), height, count * wide)
        level = _LEVELS[height * filtered.shape[1] >= _LARGE]
        for rows in filtered.reshape(-1, height, filtered.shape[1]):
            # Not libpng, which takes three to five times as long.
            packed = imagecodecs.deflate_encode(rows.data, level=level)  # type: ignore[arg-type]  # any buffer
            yield head + _chunk(b"IDAT", bytes(packed)) + end


def _filtered(rows: np.ndarray, height: int, pixel: int) -> np.ndarray:
    """Return rows of bytes of images one below the other, each row behind the number of its filter.

    Of the differences from the left (1) and from above (2), a row gets those whose absolute values sum to less,
    the usual guess at what compresses better (PNG, third edition, section 12.7). `pixel` are the bytes of one.
    """
    filtered = np.empty((len(rows), 1 + rows.shape[1]), np.uint8)
    step = max(1, _AT_ONCE // rows.shape[1])
    for start in range(0, len(rows), step):
        part, tops = rows[start : start + step], slice(-start % height, None, height)
        left, above = part.copy(), part.copy()
        left[:, pixel:] -= part[:, :-pixel]
        above[1:] -= part[:-1]
        above[:1] -= rows[max(0, start - 1)]
        above[tops] = part[tops]
        costs = [np.abs(each.view(np.int8)).view(np.uint8).sum(1, dtype=np.uint32) for each in (left, above)]
        takes_left = (costs[0] <= costs[1])[:, None]
        filtered[start : start + step, :1] = np.where(takes_left, 1, 2)
        filtered[start : start + step, 1:] = np.where(takes_left, left, above)
    return filtered


def embed_in_png(data: bytes, metadata: Metadata) -> bytes:
    """Return a PNG file with `metadata` in it, but for chunks that readers would refuse."""
    chunks = [chunk for chunk in metadata.chunks if _is_readable(*chunk)]
    if metadata.icc:
        chunks.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(metadata.icc)))
    if metadata.density:
        pixels = [round(number / _INCH) for number in metadata.density]
        chunks.append((b"pHYs", struct.pack(">IIB", *pixels, 1)))
    if metadata.tags:
        chunks.append((b"eXIf", exif_block(metadata.tags)))
    start = len(_SIGNATURE) + 12 + 13  # behind the first chunk, IHDR
    return data[:start] + b"".join(_chunk(*chunk) for chunk in chunks) + data[start:]


def _is_optional(kind: bytes) -> bool:
    return bool(kind[0] & 32)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield the kind, the content and the whole of each chunk, up to the last one or to where the file was cut."""
    place, kind = len(_SIGNATURE), b""
    while place + 8 <= len(data) and kind != b"IEND":
        size, kind = struct.unpack_from(">I4s", data, place)
        whole = data[place : place + 12 + size]
        yield kind, whole[8 : 8 + size], whole
        place += len(whole)


def _sound_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return kind and content of each optional chunk that is whole and agrees with its checksum."""
    optional = ((kind, content, whole) for kind, content, whole in _chunks(data) if _is_optional(kind))
    return [
        (kind, content)
        for kind, content, whole in islice(optional, _MOST_CHUNKS)
        if whole == _chunk(kind, content) and kind not in _OF_PIXELS
    ]


def _is_readable(kind: bytes, content: bytes) -> bool:
    """Tell whether Pillow reads a file of one pixel that has this chunk: what it refuses, others would refuse too."""
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    pixel = _chunk(b"IDAT", zlib.compress(b"\0\0")) + _chunk(b"IEND", b"")
    try:
        with opened(_SIGNATURE + head + _chunk(kind, content) + pixel, ("PNG",)):
            return True
    except Exception:  # hostile bytes make the decoder raise anything at all
        return False


def _exif_and_xmp(chunks: list[tuple[bytes, bytes]]) -> tuple[tuple[Tag, ...], bytes]:
    exif = next((content for kind, content in chunks if kind == b"eXIf"), b"") or _raw_exif(chunks)
    xmp = next((content for kind, content in chunks if content.startswith(_TURNING[0])), b"")
    return read_tags(exif), xmp


def _raw_exif(chunks: list[tuple[bytes, bytes]]) -> bytes:
    """Return the EXIF that ImageMagick wrote as text, before there was a chunk for it."""
    for kind, content in chunks:
        keyword, _, text = content.partition(b"\0")
        if keyword in (b"Raw profile type exif", b"Raw profile type APP1"):
            lines = (_inflated(text[1:]) if kind == b"zTXt" else text).split(b"\n")[3:]
            digits = b"".join(lines)
            return bytes.fromhex(digits.decode()) if re.fullmatch(rb"(?:[0-9a-fA-F]{2})+", digits) else b""
    return b""


def _profile(content: bytes) -> bytes:
    """Return the colour profile in an iCCP chunk; nothing when it is damaged, or packed by an unknown method."""
    packed = content.partition(b"\0")[2]
    return _inflated(packed[1:]) if packed[:1] == b"\0" else b""


def _inflated(data: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        content = unpacker.decompress(data, _MOST_INFLATED)
    except zlib.error:
        return b""
    return content if unpacker.eof else b""
