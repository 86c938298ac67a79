"""One image file <-> one array of samples: the formats, their decoders and encoders, and what is refused.

`samples` is always (H, W, S): S is 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGB, alpha), of type uint8,
uint16 or float32. Each format has one engine: libpng for PNG and tifffile for TIFF, because Pillow cuts
their 16-bit colours to 8, and Pillow for the rest. Messages here lack their subject, the file's name,
which `images` puts before them: "is empty".
"""

import logging
import math
import struct
import warnings
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image as Pillow
from PIL import UnidentifiedImageError

from sagd_cli.errors import DataError

MAX_PIXELS = 64_000_000
MAX_BYTES = 2**30  # as large as MAX_PIXELS of uncompressed 32-bit float RGBA

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WebP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".pgm": "PGM",
}
SUFFIXES = ", ".join(FORMATS)

_MAGIC = {
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "JPEG": (b"\xff\xd8\xff",),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "BMP": (b"BM",),
    "PGM": (b"P2", b"P5"),
}
_PILLOW_NAME = {"PNG": "PNG", "JPEG": "JPEG", "WebP": "WEBP", "BMP": "BMP", "PGM": "PPM"}
_PILLOW_TARGET = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB", "RGBX": "RGB", "RGBA": "RGBA"}
_ORIENTATION = 0x0112

_TIFF_COLOURS = {0: 1, 1: 1, 2: 3, 3: 1}  # photometric: white is zero, black is zero, RGB, palette
_TIFF_KINDS = {("b", 1), ("u", 1), ("u", 2), ("u", 4), ("u", 8), ("u", 16), ("f", 32)}
# Others (JPEG, JPEG 2000, ...) carry a size of their own, which the page's does not bound.
_TIFF_COMPRESSIONS = {1, 2, 3, 4, 5, 8, 32773, 32946, 50000}

for _name in ("tifffile", "imagecodecs"):  # their remarks would reach stderr through logging's last resort
    logging.getLogger(_name).addHandler(logging.NullHandler())


def decode(data: bytes, name: str) -> np.ndarray:
    """Return the samples (H, W, S) in `data`, a file of the format `name`, upright as its EXIF says.

    Raises `DataError` when the content is of another format, larger than `MAX_PIXELS`, an animation, of
    several pages, of a colour model other than grey and RGB, not finite, or damaged.
    """
    _check_content(data, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            warnings.simplefilter("error", RuntimeWarning)
            samples = _decode_tiff(data) if name == "TIFF" else _decode_other(data, name)
    except DataError:
        raise
    except (Pillow.DecompressionBombError, Pillow.DecompressionBombWarning) as error:
        raise _too_large() from error
    except Exception as error:  # hostile bytes make the decoders raise anything at all
        raise DataError(f"is not a readable {name} file{_detail(error)}", "It may be damaged.") from error
    if samples.dtype.kind == "f" and not np.isfinite(samples).all():
        raise DataError("holds values that are not finite numbers", "Replace its NaN and infinite pixels.")
    return np.ascontiguousarray(samples)


def encode(samples: np.ndarray, name: str) -> bytes:
    """Return `samples` (H, W, S) as a file of the lossless format `name`, bit for bit.

    Raises `DataError` when the format cannot hold that many channels or that type.
    """
    depths, channels, encoder = _ENCODERS.get(name, ((), (), _encode_png))
    if samples.dtype.name not in depths or samples.shape[2] not in channels:
        kind = f"{samples.shape[2]} channel(s) of {samples.dtype.name}"
        raise DataError(f"cannot hold {kind} without loss", "Write a .tif file, which holds every kind.")
    return encoder(np.copy(samples, order="C"))  # a copy, as imagecodecs wants plain strides on sides of 1


def is_lossless(name: str) -> bool:
    """Tell whether images of the format `name` are written in it, unchanged."""
    return name in _ENCODERS


def _check_content(data: bytes, name: str) -> None:
    if not data:
        raise DataError("is empty")
    content = _sniff(data)
    if content is None:
        raise DataError(f"is not a {name} file", f"Accepted are {SUFFIXES}.")
    if content != name:
        suffix = next(suffix for suffix, known in FORMATS.items() if known == content)
        raise DataError(f"is a {content} file by its content, not {name}", f"Rename it to end in {suffix}.")


def _sniff(data: bytes) -> str | None:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    return next((name for name, starts in _MAGIC.items() if data.startswith(starts)), None)


def _check_size(pixels: int) -> None:
    if pixels > MAX_PIXELS:
        raise _too_large()
    if pixels < 1:
        raise DataError("has no pixels")


def _too_large() -> DataError:
    cause = f"has more than {MAX_PIXELS // 10**6} million pixels, the most that is read"
    return DataError(cause, "Cut it into tiles or reduce it first.")


def _detail(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return ""  # its message is the address of a buffer
    text = " ".join(str(error).split())[:120] or type(error).__name__
    return ": " + "".join(letter if letter.isprintable() else "?" for letter in text)


def _decode_other(data: bytes, name: str) -> np.ndarray:
    with Pillow.open(BytesIO(data), formats=[_PILLOW_NAME[name]]) as header:
        _check_size(header.width * header.height)
        # An MPO is a photograph with previews behind it; every viewer shows its first picture alone.
        if getattr(header, "n_frames", 1) > 1 and header.format != "MPO":
            raise DataError("is an animation", "Extract its frames into one file each.")
        # Pillow meets a damaged PNG first: each one that imagecodecs 2026.3 refuses costs a reference to
        # None, and some thousands of them end the process on Python 3.11.
        header.load()
        samples = _decode_png(data) if name == "PNG" else _decode_pillow(header)
        return _upright(samples, header.getexif().get(_ORIENTATION, 1))


def _decode_png(data: bytes) -> np.ndarray:
    import imagecodecs

    return _with_channels(imagecodecs.png_decode(data))


def _decode_pillow(header: Pillow.Image) -> np.ndarray:
    if header.mode == "I":  # a PGM of more than 8 bits, which Pillow has scaled to 16
        return _with_channels(np.asarray(header).astype(np.uint16))
    if header.mode not in _PILLOW_TARGET:
        raise DataError(f"is a {header.mode} image", "Convert it to RGB first.")
    return _with_channels(np.asarray(header.convert(_PILLOW_TARGET[header.mode])))


def _with_channels(samples: np.ndarray) -> np.ndarray:
    return samples[..., None] if samples.ndim == 2 else samples


def _upright(samples: np.ndarray, orientation: int) -> np.ndarray:
    """Undo the EXIF/TIFF `orientation` (1 to 8; others mean nothing and change nothing)."""
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return samples[::-1] if orientation in (3, 4, 7, 8) else samples


def _decode_tiff(data: bytes) -> np.ndarray:
    import tifffile

    with tifffile.TiffFile(BytesIO(data)) as tiff:
        if len(tiff.pages) != 1:
            raise DataError(f"holds {len(tiff.pages)} pages", "Save each page to a file of its own.")
        page = tiff.pages[0]
        _check_tiff(page)
        samples = page.asarray(maxworkers=1)
        if page.axes == "SYX":
            samples = np.moveaxis(samples, 0, 2)
        orientation = page.tags.get(_ORIENTATION)
        samples = _tiff_colours(_with_channels(samples), page)
        return _upright(samples, int(orientation.value) if orientation else 1)


def _check_tiff(page: Any) -> None:
    tile = (page.tilewidth, page.tilelength, page.tiledepth)
    for sides in ((page.imagewidth, page.imagelength, page.imagedepth), tile if page.is_tiled else (1,)):
        if not all(isinstance(side, int) for side in sides):  # a hostile tag may hold many numbers
            raise DataError("has a size that is not a number")
        _check_size(math.prod(sides))
    if page.compression not in _TIFF_COMPRESSIONS:
        raise DataError("has a compression that is not accepted", "Save it with LZW, Deflate or none.")
    if page.dtype is None or (page.dtype.kind, page.bitspersample) not in _TIFF_KINDS:
        raise DataError("has an unusual sample type", "Save it as 8-bit, 16-bit or 32-bit float.")
    colours = _TIFF_COLOURS.get(page.photometric)
    if colours is None or page.axes not in ("YX", "YXS", "SYX"):
        raise DataError("is neither grey nor RGB", "Convert it to RGB first.")
    extra = tuple(page.extrasamples)
    if page.samplesperpixel != colours + len(extra) or extra not in ((), (2,)):
        raise DataError("has channels besides colour and straight alpha", "Save it as RGB or RGBA.")


def _tiff_colours(samples: np.ndarray, page: Any) -> np.ndarray:
    """Return grey or RGB at a depth we hold, from a palette, fewer than 8 bits or white as zero."""
    if page.photometric == 3:
        return np.asarray(page.colormap >> 8).astype(np.uint8).T[samples[..., 0].astype(np.uint8)]
    if page.bitspersample < 8:
        samples = samples.astype(np.uint8) * np.uint8(255 // (2**page.bitspersample - 1))
    if page.photometric == 0:
        samples[..., 0] = (1 if samples.dtype.kind == "f" else np.iinfo(samples.dtype).max) - samples[..., 0]
    return samples


def _encode_png(samples: np.ndarray) -> bytes:
    import imagecodecs

    return bytes(imagecodecs.png_encode(samples[..., 0] if samples.shape[2] == 1 else samples))


def _encode_tiff(samples: np.ndarray) -> bytes:
    import tifffile

    count = samples.shape[2]
    file = BytesIO()
    tifffile.imwrite(
        file,
        samples[..., 0] if count == 1 else samples,
        photometric="rgb" if count > 2 else "minisblack",
        planarconfig=None if count == 1 else "contig",
        extrasamples=["unassalpha"] if count in (2, 4) else None,
        metadata=None,
    )
    return file.getvalue()


def _encode_bmp(samples: np.ndarray) -> bytes:
    if samples.shape[2] == 4:
        return _encode_bmp_alpha(samples)
    file = BytesIO()
    Pillow.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples).save(file, "BMP")
    return file.getvalue()


def _encode_bmp_alpha(samples: np.ndarray) -> bytes:
    """Write the version 4 header (Microsoft, BITMAPV4HEADER): the first to say where alpha lies."""
    height, width = samples.shape[:2]
    start, size = 14 + 108, 4 * height * width
    head = struct.pack("<2sIHHI", b"BM", start + size, 0, 0, start)
    head += struct.pack("<IiiHHIIiiII", 108, width, height, 1, 32, 3, size, 2835, 2835, 0, 0)
    head += struct.pack("<4I4s48x", 0xFF0000, 0xFF00, 0xFF, 0xFF000000, b"BGRs")
    return head + samples[::-1, :, [2, 1, 0, 3]].tobytes()


def _encode_pgm(samples: np.ndarray) -> bytes:
    height, width = samples.shape[:2]
    head = f"P5\n{width} {height}\n{np.iinfo(samples.dtype).max}\n"
    return head.encode() + samples.astype(samples.dtype.newbyteorder(">")).tobytes()


_Encoder = Callable[[np.ndarray], bytes]
_ENCODERS: dict[str, tuple[tuple[str, ...], tuple[int, ...], _Encoder]] = {
    "PNG": (("uint8", "uint16"), (1, 2, 3, 4), _encode_png),
    "TIFF": (("uint8", "uint16", "float32"), (1, 2, 3, 4), _encode_tiff),
    "BMP": (("uint8",), (1, 3, 4), _encode_bmp),
    "PGM": (("uint8", "uint16"), (1,), _encode_pgm),
}
