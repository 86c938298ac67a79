"""What decoders share: the largest image, the axis of channels, the upright orientation, the parts of four formats.

The parts that make the pixels are told from the others, which are then never seen by what decodes the pixels.
"""

import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np

from sagd_cli.errors import DataError
from sagd_cli.files.metadata import Metadata

INTEGER_TYPES = ("uint8", "uint16", "uint32", "int8", "int16", "int32")
IMAGE_TYPES = (*INTEGER_TYPES, "float16", "float32", "float64")
MAX_PIXELS = 64_000_000
MAX_FILE_BYTES = 2**30  # as large as MAX_PIXELS of uncompressed 32-bit float RGBA
FORMS_KEPT = 1 << 14  # of files, each of which is asked for three times and more in the work on a folder
_OF_AXES = (270, 282, 283, 296)  # tags: the description, resolutions and their unit
STORE_MARKS = ("zarr.json", ".zarray", ".zgroup")  # a file in a folder by which it is a Zarr store
_INCH = 0.0254  # metres
_JP2 = b"\0\0\0\x0cjP  \r\n\x87\n"
_JP2_EXIF, _JP2_XMP = b"JpgTiffExif->JP2", bytes.fromhex("be7acfcb97a942e89c71999491e3afac")


def is_store(path: Path) -> bool:
    """Whether a folder is a Zarr store, which is read like a file of images."""
    return any(os.path.isfile(path / mark) for mark in STORE_MARKS)  # noqa: PTH113  # raises nothing


def check_size(pixels: int) -> None:
    """Raise DataError on a number of pixels that is 0, or above MAX_PIXELS."""
    if pixels > MAX_PIXELS:
        raise too_large()
    if pixels < 1:
        raise DataError("has no pixels")


def check_file_size(size: int) -> None:
    """Raise DataError on a file of more than MAX_FILE_BYTES bytes."""
    if size > MAX_FILE_BYTES:
        raise DataError(f"is larger than {MAX_FILE_BYTES // 2**30} GiB, the most that is read")


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


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and content of each box of a JPEG 2000 file, or in such a box; the last one may be cut short."""
    place = 0
    while place + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, place)
        start = place + 8
        if size == 1:
            size, start = int.from_bytes(data[start : start + 8], "big"), start + 8
        end = place + size if size else len(data)
        if end < start:
            return
        yield kind, data[start:end]
        place = end


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def bare_jp2(data: bytes) -> bytes:
    """Return a JPEG 2000 file with the boxes that the pixels depend on; a colour profile becomes a mere model."""
    if not data.startswith(_JP2):  # a stream without boxes
        return data
    parts = [_JP2]
    for kind, content in _boxes(data[len(_JP2) :]):
        if kind == b"jp2h":
            inner = [*_boxes(content)]
            head = dict(reversed(inner))
            has_colours = int.from_bytes(head.get(b"ihdr", b"")[8:10], "big") > 2 or b"pclr" in head
            models = [part for name, part in inner if name == b"colr" and part[:1] == b"\1" and len(part) > 6]
            models.append(struct.pack(">3BI", 1, 0, 0, 16 if has_colours else 17))
            order = [name for name in (b"ihdr", b"bpcc") if name in head]
            kept = [(name, head[name]) for name in order] + [(b"colr", models[0])]
            kept += [(name, head[name]) for name in (b"pclr", b"cmap", b"cdef") if name in head]
            parts.append(_box(kind, b"".join(_box(*part) for part in kept)))
        elif kind in (b"ftyp", b"jp2c"):
            parts.append(_box(kind, content))
    return b"".join(parts)


def jp2_parts(data: bytes) -> tuple[bytes, bytes, bytes, tuple[float, float] | None]:
    """Return the EXIF, the XMP, the colour profile and the resolution of a JPEG 2000 file."""
    boxes = [*_boxes(data)] if data.startswith(_JP2) else []
    texts = {content[:16]: content[16:] for kind, content in reversed(boxes) if kind == b"uuid"}
    head = [*_boxes(dict(reversed(boxes)).get(b"jp2h", b""))]
    profiles = [part[3:] for kind, part in head if kind == b"colr" and part[:1] == b"\2"]
    icc = next((part for part in profiles if int.from_bytes(part[:4], "big") == len(part)), b"")
    density = None
    resolution = dict(_boxes(dict(head).get(b"res ", b""))).get(b"resc", b"")
    if len(resolution) >= 10:
        down, of_down, across, of_across, *powers = struct.unpack(">4H2b", resolution[:10])
        if down and of_down and across and of_across:
            density = (
                across / of_across * 10.0 ** powers[1] * _INCH,
                down / of_down * 10.0 ** powers[0] * _INCH,
            )
    return texts.get(_JP2_EXIF, b""), texts.get(_JP2_XMP, b""), icc, density


def bare_avif(data: bytes) -> bytes:
    """Return an AVIF file whose EXIF is under a name that nothing knows: the file's own boxes say how it is turned."""
    return re.sub(rb"(infe[\2\3].{3}(?:..){1,2}..)Exif", rb"\1none", data, flags=re.DOTALL)


def metadata_of_axes(metadata: Metadata) -> Metadata:
    """Return what says what the axes of a stack are, and their scale, whatever its values are."""
    kept = [tag for tag in metadata.in_other_units().tags if tag.code in _OF_AXES]
    return Metadata(tags=tuple(kept))


class StackForm(Protocol):
    """How the images of a file of some format are stored, where each is read and written by itself."""

    format: ClassVar[str]
    is_folder: ClassVar[bool]

    @property
    def count(self) -> int:
        """The number of images."""
        ...

    @property
    def values(self) -> int:
        """The number of values of the first one."""
        ...

    @property
    def ends(self) -> tuple[float, float] | None:
        """The values beyond which it clips floats, None where it does not."""
        ...

    def decode(self, number: int) -> tuple[np.ndarray, Metadata]:
        """Return the samples (H, W, S) and the metadata of an image, upright; raise DataError on one not accepted."""
        ...

    def writer(self, path: Path, image_bytes: int) -> "StackWriter":
        """Return what writes such a file; `image_bytes` is the size of one image."""
        ...


class StackWriter(Protocol):
    """Writes a file image by image."""

    def add(self, samples: np.ndarray, metadata: Metadata) -> None:
        """Write the next image (H, W, S) with its metadata."""

    def close(self) -> None:
        """Write what is left, and close the file."""
