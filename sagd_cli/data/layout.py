"""What decoders share: the largest image, the axis of channels, the upright orientation, the parts of JPEG and WebP.

The parts that make the pixels are told from the others, which are then never seen by what decodes the pixels.
"""

import struct
from collections.abc import Iterator

import numpy as np

from sagd_cli.errors import DataError

MAX_PIXELS = 64_000_000


def check_size(pixels: int) -> None:
    """Raise DataError on a number of pixels that is 0, or above MAX_PIXELS."""
    if pixels > MAX_PIXELS:
        raise too_large()
    if pixels < 1:
        raise DataError("has no pixels")


def too_large() -> DataError:
    """Return the error of an image of more than MAX_PIXELS."""
    cause = f"has more than {MAX_PIXELS // 10**6} million pixels, the most that is read"
    return DataError(cause, "Cut it into tiles or reduce it first.")


def with_channels(samples: np.ndarray) -> np.ndarray:
    """Return samples (H, W) or (H, W, S) as (H, W, S)."""
    return samples[..., None] if samples.ndim == 2 else samples


def upright(samples: np.ndarray, orientation: int) -> np.ndarray:
    """Return `samples` (H, W, S) with the EXIF/TIFF `orientation` undone: 1 to 8, others change nothing."""
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return samples[::-1] if orientation in (3, 4, 7, 8) else samples


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield marker, content and whole of each segment before the pixels, at last marker 0 and all the rest."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] not in (0, 0xDA):
        if data[place + 1] == 0xFF:  # may fill the space before a marker
            place += 1
            continue
        marker = data[place + 1]
        if marker == 0x01 or 0xD0 <= marker <= 0xD9:  # no content
            break
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        yield marker, data[place + 4 : end], data[place:end]
        place = end
    yield 0, b"", data[place:]


def bare_jpeg(data: bytes) -> bytes:
    """Return a JPEG file without its comments and applications' segments, except for the two that colours depend on."""
    return data[:2] + b"".join(
        whole
        for marker, content, whole in _jpeg_segments(data)
        if not (0xE0 <= marker <= 0xEF or marker == 0xFE)
        or (marker == 0xE0 and content.startswith(b"JFIF\0") and len(content) >= 14)
        or (marker == 0xEE and content.startswith(b"Adobe") and len(content) >= 12)
    )


def jpeg_parts(data: bytes) -> tuple[bytes, bytes, bytes, tuple[float, float] | None]:
    """Return the EXIF, the XMP, the colour profile and the resolution of a JPEG file."""
    exif, xmp, icc, density = list[bytes](), b"", dict[int, bytes](), None
    for marker, content, _ in _jpeg_segments(data):
        if marker == 0xE1 and content.startswith(b"Exif\0\0"):
            exif.append(content[6:])
        elif marker == 0xE1 and content.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
            xmp = content
        elif marker == 0xE2 and content.startswith(b"ICC_PROFILE\0") and len(content) > 14:
            icc[content[12]] = content[14:]
        elif marker == 0xE0 and content.startswith(b"JFIF\0") and len(content) >= 14:
            unit, across, down = struct.unpack(">BHH", content[7:12])
            factor = {1: 1.0, 2: 2.54}.get(unit, 0.0)
            if factor and across and down:
                density = across * factor, down * factor
    profile = b"".join(icc[number] for number in sorted(icc))
    whole = int.from_bytes(profile[:4], "big") == len(profile)
    return b"".join(exif), xmp, profile if whole else b"", density


def webp_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return kind and content of each chunk of a WebP file; the last one may be cut short."""
    chunks, place = [], 12
    while place + 8 <= len(data):
        kind, size = struct.unpack_from("<4sI", data, place)
        chunks.append((kind, data[place + 8 : place + 8 + size]))
        place += 8 + size + size % 2
    return chunks


def bare_webp(data: bytes) -> bytes:
    """Return a WebP file without its profile, EXIF, XMP and unknown chunks, nor an announcement of them."""
    parts = []
    for kind, whole in webp_chunks(data):
        # The first byte of VP8X announces: alpha and animation stay.
        content = bytes([whole[0] & 0b10010]) + whole[1:] if kind == b"VP8X" and whole else whole
        if kind in (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"):
            parts.append(struct.pack("<4sI", kind, len(content)) + content + bytes(len(content) % 2))
    body = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body
