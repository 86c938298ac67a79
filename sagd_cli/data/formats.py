"""One image file <-> one array of samples: the formats of image files, and what is refused.

`samples` is always an array (H, W, S). S is 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGB, alpha). Its type is
uint8, uint16 or float32. A new format is a module that decodes it and a row of FORMATS. Messages here lack their
subject, for example "is empty": `images` puts the name of the file before them.
"""

import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import UnidentifiedImageError

from sagd_cli.errors import DataError
from sagd_cli.system.choices import Choice, choices, load_reference

MAX_FILE_BYTES = 2**30  # as large as MAX_PIXELS of uncompressed 32-bit float RGBA


@dataclass(frozen=True)
class ImageFormat(Choice):
    """One format of image files. `build` names its decoder: the bytes of a file to samples, upright as its EXIF says.

    `suffixes` are those of its files; the first one is the usual one. `magic` is a regular expression; the first bytes
    of this format's files match it, and those of other formats do not. `encoder` names a function from samples to
    bytes that loses nothing; it is empty when images are not written in this format. `depths` and `channels` are what
    the encoder can hold.
    """

    suffixes: tuple[str, ...]
    magic: bytes
    encoder: str = ""
    depths: tuple[str, ...] = ()
    channels: tuple[int, ...] = ()


# Each format has one engine: libpng for PNG and tifffile for TIFF, because Pillow cuts their 16-bit colours to 8,
# and Pillow for the rest.
FORMATS = choices(
    ImageFormat(
        name="PNG",
        summary="Portable Network Graphics, 8 or 16 bits, without loss",
        build="sagd_cli.data.png:decode_png",
        suffixes=(".png",),
        magic=rb"\x89PNG\r\n\x1a\n",
        encoder="sagd_cli.data.png:encode_png",
        depths=("uint8", "uint16"),
        channels=(1, 2, 3, 4),
    ),
    ImageFormat(
        name="JPEG",
        summary="photographs of 8 bits, compressed with loss",
        build="sagd_cli.data.pillow:decode_pillow",
        suffixes=(".jpg", ".jpeg"),
        magic=rb"\xff\xd8\xff",
    ),
    ImageFormat(
        name="WebP",
        summary="images of 8 bits for the web, mostly compressed with loss",
        build="sagd_cli.data.pillow:decode_pillow",
        suffixes=(".webp",),
        magic=rb"RIFF.{4}WEBP",
    ),
    ImageFormat(
        name="TIFF",
        summary="images of science, 8 bits, 16 bits or 32-bit float, without loss",
        build="sagd_cli.data.tiff:decode_tiff",
        suffixes=(".tif", ".tiff"),
        magic=rb"II[*+]\0|MM\0[*+]",
        encoder="sagd_cli.data.tiff:encode_tiff",
        depths=("uint8", "uint16", "float32"),
        channels=(1, 2, 3, 4),
    ),
    ImageFormat(
        name="BMP",
        summary="bitmaps of Windows, 8 bits, uncompressed",
        build="sagd_cli.data.pillow:decode_pillow",
        suffixes=(".bmp",),
        magic=rb"BM",
        encoder="sagd_cli.data.pillow:encode_bmp",
        depths=("uint8",),
        channels=(1, 3, 4),
    ),
    ImageFormat(
        name="PGM",
        summary="grey images of 8 or 16 bits, uncompressed",
        build="sagd_cli.data.pillow:decode_pillow",
        suffixes=(".pgm",),
        magic=rb"P[25]",
        encoder="sagd_cli.data.pillow:encode_pgm",
        depths=("uint8", "uint16"),
        channels=(1,),
    ),
)


def format_of(path: Path) -> str | None:
    """Return the name of the format that the suffix of `path` stands for, None where it stands for none."""
    suffix = path.suffix.lower()
    return next((name for name, known in FORMATS.items() if suffix in known.suffixes), None)


def accepted_suffixes() -> str:
    """Return the suffixes of all formats, as hints list them."""
    return ", ".join(suffix for known in FORMATS.values() for suffix in known.suffixes)


def is_lossless(name: str) -> bool:
    """Tell whether images of the format `name` are written in it, unchanged."""
    return bool(FORMATS[name].encoder)


def decode(data: bytes, name: str) -> np.ndarray:
    """Return the samples (H, W, S) in `data`, a file of the format `name`, upright as its EXIF says.

    Raises `DataError` when the content is of another format, has more than `MAX_PIXELS`, is an animation, has several
    pages, has a colour model other than grey and RGB, is not finite, or is damaged.
    """
    _check_content(data, name)
    read = FORMATS[name].load()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            warnings.simplefilter("error", RuntimeWarning)
            samples: np.ndarray = read(data)
    except DataError:
        raise
    except Exception as error:  # hostile bytes make the decoders raise anything at all
        raise DataError(f"is not a readable {name} file{_detail(error)}", "It may be damaged.") from error
    if samples.dtype.kind == "f" and not np.isfinite(samples).all():
        raise DataError("holds values that are not finite numbers", "Replace its NaN and infinite pixels.")
    return np.ascontiguousarray(samples)


def encode(samples: np.ndarray, name: str) -> bytes:
    """Return `samples` (H, W, S) as a file of the lossless format `name`, bit for bit.

    Raises `DataError` when the format cannot hold that many channels or that type.
    """
    target = FORMATS[name]
    if samples.dtype.name not in target.depths or samples.shape[2] not in target.channels:
        kind = f"{samples.shape[2]} channel(s) of {samples.dtype.name}"
        raise DataError(f"cannot hold {kind} without loss", "Write a .tif file, which holds every kind.")
    plain = np.copy(samples, order="C")  # imagecodecs wants plain strides on sides of 1
    return bytes(load_reference(target.encoder)(plain))


def _check_content(data: bytes, name: str) -> None:
    if not data:
        raise DataError("is empty")
    content = next((known for known in FORMATS.values() if re.match(known.magic, data, re.DOTALL)), None)
    if content is None:
        raise DataError(f"is not a {name} file", f"Accepted are {accepted_suffixes()}.")
    if content.name != name:
        message = f"is a {content.name} file by its content, not {name}"
        raise DataError(message, f"Rename it to end in {content.suffixes[0]}.")


def _detail(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return ""  # its message is the address of a buffer
    text = " ".join(str(error).split())[:120] or type(error).__name__
    return ": " + "".join(letter if letter.isprintable() else "?" for letter in text)
