"""JPEG, WebP, BMP and PGM files, which Pillow reads, and BMP and PGM files as they are written."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import numpy as np
from PIL import Image as Pillow

from sagd_cli.data.layout import ORIENTATION, check_size, too_large, upright, with_channels
from sagd_cli.errors import DataError

_KINDS = ("JPEG", "WEBP", "BMP", "PPM")  # Pillow's names; PGM files are a kind of PPM
_TARGET = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB", "RGBX": "RGB", "RGBA": "RGBA"}


def decode_pillow(data: bytes) -> np.ndarray:
    """Return the samples (H, W, S) of a JPEG, WebP, BMP or PGM file; raise DataError on one that is not accepted."""
    with opened(data, _KINDS) as picture:
        return upright_by_exif(_samples(picture), picture)


@contextmanager
def opened(data: bytes, kinds: tuple[str, ...]) -> Iterator[Pillow.Image]:
    """Give the loaded picture of a file of one of `kinds`, by Pillow's names.

    Raises DataError on one that is too large or an animation.
    """
    try:
        with Pillow.open(BytesIO(data), formats=kinds) as picture:
            check_size(picture.width * picture.height)
            # An MPO is a photograph with previews behind it; every viewer shows its first picture alone.
            if getattr(picture, "n_frames", 1) > 1 and picture.format != "MPO":
                raise DataError("is an animation", "Extract its frames into one file each.")
            picture.load()
            yield picture
    except (Pillow.DecompressionBombError, Pillow.DecompressionBombWarning) as error:
        raise too_large() from error


def upright_by_exif(samples: np.ndarray, picture: Pillow.Image) -> np.ndarray:
    """Return samples (H, W, S) turned and mirrored as the EXIF of `picture` says."""
    return upright(samples, picture.getexif().get(ORIENTATION, 1))


def _samples(picture: Pillow.Image) -> np.ndarray:
    if picture.mode == "I":  # a PGM of more than 8 bits, which Pillow has scaled to 16
        return with_channels(np.asarray(picture).astype(np.uint16))
    if picture.mode not in _TARGET:
        raise DataError(f"is a {picture.mode} image", "Convert it to RGB first.")
    return with_channels(np.asarray(picture.convert(_TARGET[picture.mode])))


def encode_bmp(samples: np.ndarray) -> bytes:
    """Return samples (H, W, 1, 3 or 4) of 8 bits as a BMP file."""
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


def encode_pgm(samples: np.ndarray) -> bytes:
    """Return samples (H, W, 1) of 8 or 16 bits as a PGM file."""
    height, width = samples.shape[:2]
    head = f"P5\n{width} {height}\n{np.iinfo(samples.dtype).max}\n"
    return head.encode() + samples.astype(samples.dtype.newbyteorder(">")).tobytes()
