"""One image file <-> one array of samples: the formats of image files, and what is refused.

`samples` is always an array (H, W, S). S is 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGB, alpha). Its type is one of
IMAGE_TYPES. A new format is a module that decodes it and a row of FORMATS. Messages here lack their
subject, for example "is empty": `images` puts the name of the file before them.
"""

import re
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import UnidentifiedImageError

from sagd_cli.errors import DataError
from sagd_cli.files.layout import IMAGE_TYPES, StackForm, is_store
from sagd_cli.files.metadata import NOTHING, Metadata
from sagd_cli.system.choices import Choice, choices, load_reference


@dataclass(frozen=True)
class ImageFormat(Choice):
    """One format of image files. `build` names its decoder: the bytes of a file to samples, upright as its EXIF says.

    `suffixes` are those of its files; the first one is the usual one. `magic` is a regular expression; the first bytes
    of this format's files match it, and those of other formats do not. `encoder` names a function from samples to
    bytes that loses nothing; it is empty when images are not written in this format. `depths` and `channels` are what
    the encoder can hold. `metadata` names a function from the bytes of a file to what it holds besides its pixels, and
    `embed` one from a file that the encoder wrote and such metadata to the file with them; empty where there are none.
    `form` names a function from a path to the `StackForm` of a file that is read and written image by image. Zarr's
    files are folders, which have a path in the place of bytes.
    """

    suffixes: tuple[str, ...]
    magic: bytes
    encoder: str = ""
    depths: tuple[str, ...] = ()
    channels: tuple[int, ...] = ()
    metadata: str = ""
    embed: str = ""
    form: str = ""


_PILLOW = "sagd_cli.files.pillow"
# Each format has one engine: libpng for PNG and tifffile for TIFF, because Pillow cuts their 16-bit colours to 8,
# and Pillow for the rest, with what it would cut read apart.
FORMATS = choices(
    ImageFormat(
        name="PNG",
        summary="Portable Network Graphics, 8 or 16 bits, without loss",
        build="sagd_cli.files.png:decode_png",
        suffixes=(".png",),
        magic=rb"\x89PNG\r\n\x1a\n",
        encoder="sagd_cli.files.png:encode_png",
        depths=("uint8", "uint16"),
        channels=(1, 2, 3, 4),
        metadata="sagd_cli.files.png:read_png_metadata",
        embed="sagd_cli.files.png:embed_in_png",
    ),
    ImageFormat(
        name="JPEG",
        summary="photographs of 8 bits, compressed with loss",
        build=f"{_PILLOW}:decode_jpeg",
        suffixes=(".jpg", ".jpeg", ".jpe", ".jfif"),
        magic=rb"\xff\xd8\xff",
        metadata=f"{_PILLOW}:read_jpeg_metadata",
    ),
    ImageFormat(
        name="JPEG 2000",
        summary="photographs of 1 to 16 bits, compressed with or without loss",
        build=f"{_PILLOW}:decode_jpeg2000",
        suffixes=(".jp2", ".j2k", ".jpf", ".jpx", ".j2c", ".jpc"),
        magic=rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51",
        metadata=f"{_PILLOW}:read_jpeg2000_metadata",
    ),
    ImageFormat(
        name="WebP",
        summary="images of 8 bits for the web, mostly compressed with loss",
        build=f"{_PILLOW}:decode_webp",
        suffixes=(".webp",),
        magic=rb"RIFF.{4}WEBP",
        metadata=f"{_PILLOW}:read_webp_metadata",
    ),
    ImageFormat(
        name="AVIF",
        summary="images of 8 to 12 bits for the web, mostly compressed with loss",
        build=f"{_PILLOW}:decode_avif",
        suffixes=(".avif",),
        magic=rb".{4}ftyp(?:avi[fs]|(?:mif1|msf1).{0,64}?avif)",
        metadata=f"{_PILLOW}:read_avif_metadata",
    ),
    ImageFormat(
        name="GIF",
        summary="images of at most 256 colours, one frame",
        build=f"{_PILLOW}:decode_plain",
        suffixes=(".gif",),
        magic=rb"GIF8[79]a",
    ),
    ImageFormat(
        name="TIFF",
        summary="images of science, integers and floats, one or many, without loss",
        build="sagd_cli.files.tiff:decode_tiff",
        suffixes=(".tif", ".tiff"),
        magic=rb"II[*+]\0|MM\0[*+]",
        encoder="sagd_cli.files.tiff:encode_tiff",
        depths=IMAGE_TYPES,
        channels=(1, 2, 3, 4),
        metadata="sagd_cli.files.tiff:read_tiff_metadata",
        embed="sagd_cli.files.tiff:embed_in_tiff",
        form="sagd_cli.files.stacks:tiff_form",
    ),
    ImageFormat(
        name="FITS",
        summary="images of astronomy, with the package astropy, plane by plane",
        build="sagd_cli.files.fits:decode_fits",
        suffixes=(".fits", ".fit", ".fts"),
        magic=rb"SIMPLE  =",
        form="sagd_cli.files.fits:fits_form",
    ),
    ImageFormat(
        name="Zarr",
        summary="arrays in chunks, with the package zarr, plane by plane; OME-Zarr",
        build="sagd_cli.files.zarr:decode_zarr",
        suffixes=(".zarr",),
        magic=rb"(?!)",
        form="sagd_cli.files.zarr:zarr_form",
    ),
    ImageFormat(
        name="BMP",
        summary="bitmaps of Windows, 8 bits, uncompressed",
        build=f"{_PILLOW}:decode_plain",
        suffixes=(".bmp", ".dib"),
        magic=rb"BM",
        encoder=f"{_PILLOW}:encode_bmp",
        depths=("uint8",),
        channels=(1, 3, 4),
        metadata=f"{_PILLOW}:read_pillow_metadata",
        embed=f"{_PILLOW}:embed_in_bmp",
    ),
    ImageFormat(
        name="PGM",
        summary="grey images of 8 or 16 bits, uncompressed",
        build=f"{_PILLOW}:decode_netpbm",
        suffixes=(".pgm",),
        magic=rb"P[25]",
        encoder=f"{_PILLOW}:encode_pgm",
        depths=("uint8", "uint16"),
        channels=(1,),
    ),
    ImageFormat(
        name="PPM",
        summary="colour images of 8 or 16 bits, uncompressed",
        build=f"{_PILLOW}:decode_netpbm",
        suffixes=(".ppm",),
        magic=rb"P[36]",
        encoder=f"{_PILLOW}:encode_ppm",
        depths=("uint8", "uint16"),
        channels=(3,),
    ),
    ImageFormat(
        name="PBM",
        summary="images of one bit; .pnm files hold these, PGM or PPM",
        build=f"{_PILLOW}:decode_netpbm",
        suffixes=(".pbm", ".pnm"),
        magic=rb"P[14]",
    ),
    ImageFormat(
        name="ICO",
        summary="icons of 8 bits, the largest of its pictures",
        build=f"{_PILLOW}:decode_icon",
        suffixes=(".ico",),
        magic=rb"\0\0\x01\0",
    ),
    ImageFormat(
        name="TGA",
        summary="Truevision's images of 8 bits, uncompressed or of runs",
        build=f"{_PILLOW}:decode_tga",
        suffixes=(".tga",),
        # No file says that it is one: this is what a header can be. So it comes last.
        magic=rb".(?:\x01[\x01\x09].{4}[\x0f\x10\x18\x20]|\0[\x02\x03\x0a\x0b].{5}).{8}"
        rb"[\x08\x0f\x10\x18\x20][\0-\x3f]",
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


def format_in(data: bytes) -> str:
    """Return the name of the format that the bytes of a file are in; raise DataError where they are in none."""
    if not data:
        raise DataError("is empty")
    for name, known in FORMATS.items():
        if re.match(known.magic, data, re.DOTALL):
            return name
    raise DataError("is not an image of an accepted format", f"Accepted are {accepted_suffixes()}.")


def stack_form(path: Path) -> StackForm | None:
    """Return the form of a file that is read image by image; None for others, and where it cannot be read."""
    try:
        known = FORMATS["Zarr"]
        if not is_store(path):
            if not path.is_file():  # opening a pipe would wait for a writer for ever
                return None
            with path.open("rb") as file:
                known = FORMATS[format_in(file.read(64))]
        found: StackForm | None = load_reference(known.form)(path) if known.form else None
    except Exception:  # hostile bytes make the decoders raise anything at all
        return None
    return found


def decode(data: bytes | Path, name: str) -> np.ndarray:
    """Return the samples (H, W, S) in `data`, a file of the format `name`, upright as its EXIF says.

    What a file holds besides its pixels and their orientation changes nothing, sound or not. Raises `DataError` when
    the content has more than `MAX_PIXELS`, is an animation, has several pages, has a colour model other than grey, RGB
    and CMYK, or is damaged.
    """
    samples: np.ndarray = decoded(name, partial(FORMATS[name].load(), data))
    return np.ascontiguousarray(samples)


def decoded(name: str, read: Callable[[], Any]) -> Any:
    """Return what `read` reads from a file of the format `name`; raise `DataError` where it is damaged."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what makes pixels doubtful is raised; decoders warn of the rest
            return read()
    except DataError:
        raise
    except Exception as error:  # hostile bytes make the decoders raise anything at all
        raise DataError(f"is not a readable {name} file{_detail(error)}", "It may be damaged.") from error


def read_metadata(data: bytes, name: str) -> Metadata:
    """Return what `data`, a file of the format `name`, holds besides its pixels: nothing where that cannot be read."""
    reader = FORMATS[name].metadata
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found: Metadata = load_reference(reader)(data) if reader else Metadata()
    except Exception:  # hostile bytes make the decoders raise anything at all
        return Metadata()
    return found


def encode(samples: np.ndarray, name: str, metadata: Metadata = NOTHING) -> bytes:
    """Return `samples` (H, W, S) as a file of the lossless format `name`, bit for bit.

    It holds as much of `metadata` as it can. Raises `DataError` when the format cannot hold that many channels or that
    type.
    """
    target = FORMATS[name]
    if samples.dtype.name not in target.depths or samples.shape[2] not in target.channels:
        kind = f"{samples.shape[2]} channel(s) of {samples.dtype.name}"
        raise DataError(f"cannot hold {kind} without loss", "Write a .tif file, which holds every kind.")
    plain = np.copy(samples, order="C")  # imagecodecs wants plain strides on sides of 1
    try:
        data = bytes(load_reference(target.encoder)(plain))
    except (RuntimeError, ValueError) as error:  # those of the encoders
        raise DataError(f"cannot be written as {name}{_detail(error)}", "Write another format.") from error
    fitting = metadata.fitting(samples.shape[2])
    if not target.embed or fitting == NOTHING:
        return data
    try:
        return bytes(load_reference(target.embed)(data, fitting))
    except (struct.error, OverflowError, ValueError):  # a number that the format has no room for
        return data


def _detail(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return ""  # its message is the address of a buffer
    text = " ".join(str(error).split())[:120] or type(error).__name__
    return ": " + "".join(letter if letter.isprintable() else "?" for letter in text)
