"""One image file <-> one array of samples: the formats, their decoders and encoders, and what is refused.

`samples` is always (H, W, S): S is 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGB, alpha), of type uint8,
uint16 or float32. Each format has one engine: libpng for PNG and tifffile for TIFF, because Pillow cuts
their 16-bit colours to 8, and Pillow for the rest. Messages here lack their subject, the file's name,
which `images` puts before them: "is empty".
"""

import logging
import struct
import warnings
from collections.abc import Callable
from io import BytesIO

import numpy as np
from PIL import Image as Pillow
from PIL import UnidentifiedImageError

from sagd_cli.data.layout import ORIENTATION, check_size, too_large, upright, with_channels
from sagd_cli.data.tiff import decode_tiff, encode_tiff
from sagd_cli.errors import DataError

MAX_FILE_BYTES = 2**30  # as large as MAX_PIXELS of uncompressed 32-bit float RGBA


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
            samples = decode_tiff(data) if name == "TIFF" else _decode_other(data, name)
    except DataError:
        raise
    except (Pillow.DecompressionBombError, Pillow.DecompressionBombWarning) as error:
        raise too_large() from error
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


def _detail(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return ""  # its message is the address of a buffer
    text = " ".join(str(error).split())[:120] or type(error).__name__
    return ": " + "".join(letter if letter.isprintable() else "?" for letter in text)


def _decode_other(data: bytes, name: str) -> np.ndarray:
    with Pillow.open(BytesIO(data), formats=[_PILLOW_NAME[name]]) as header:
        check_size(header.width * header.height)
        # An MPO is a photograph with previews behind it; every viewer shows its first picture alone.
        if getattr(header, "n_frames", 1) > 1 and header.format != "MPO":
            raise DataError("is an animation", "Extract its frames into one file each.")
        # Pillow meets a damaged PNG first: each one that imagecodecs 2026.3 refuses costs a reference to
        # None, and some thousands of them end the process on Python 3.11.
        header.load()
        samples = _decode_png(data) if name == "PNG" else _decode_pillow(header)
        return upright(samples, header.getexif().get(ORIENTATION, 1))


def _decode_png(data: bytes) -> np.ndarray:
    import imagecodecs

    return with_channels(imagecodecs.png_decode(data))


def _decode_pillow(header: Pillow.Image) -> np.ndarray:
    if header.mode == "I":  # a PGM of more than 8 bits, which Pillow has scaled to 16
        return with_channels(np.asarray(header).astype(np.uint16))
    if header.mode not in _PILLOW_TARGET:
        raise DataError(f"is a {header.mode} image", "Convert it to RGB first.")
    return with_channels(np.asarray(header.convert(_PILLOW_TARGET[header.mode])))


def _encode_png(samples: np.ndarray) -> bytes:
    import imagecodecs

    return bytes(imagecodecs.png_encode(samples[..., 0] if samples.shape[2] == 1 else samples))


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
    "TIFF": (("uint8", "uint16", "float32"), (1, 2, 3, 4), encode_tiff),
    "BMP": (("uint8",), (1, 3, 4), _encode_bmp),
    "PGM": (("uint8", "uint16"), (1,), _encode_pgm),
}
