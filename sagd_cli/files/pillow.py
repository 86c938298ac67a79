"""The formats that Pillow reads, and BMP and netpbm's files as they are written."""

import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import imagecodecs
import numpy as np
from PIL import Image as Pillow
from PIL import UnidentifiedImageError, features

from sagd_cli.errors import DataError
from sagd_cli.files.layout import (
    bare_avif,
    bare_jp2,
    bare_jpeg,
    bare_webp,
    check_size,
    jp2_parts,
    jpeg_parts,
    too_large,
    upright,
    webp_chunks,
    with_channels,
)
from sagd_cli.files.metadata import Metadata, metadata_of, orientation, read_tags

_TARGET = {"1": "L", "L": "L", "LA": "LA", "P": "RGB", "PA": "RGBA"}
_TARGET |= {"RGB": "RGB", "RGBX": "RGB", "RGBA": "RGBA", "CMYK": "RGB"}
_CODECS = {"AVIF": "avif", "JPEG2000": "jpg_2000", "WEBP": "webp"}  # those that an installed Pillow may lack
_INCH = 0.0254  # metres
_SPACE = rb"(?:\s|#[^\r\n]*[\r\n])+"
_DEEP_COLOURS = re.compile(rb"P([36])" + 3 * (_SPACE + rb"(\d{1,9})") + rb"\s")


def decode_jpeg(data: bytes) -> np.ndarray:
    """Return the samples (H, W, S) of a JPEG file: its first picture; raise DataError on one that is too large."""
    exif, xmp, icc, _ = jpeg_parts(data)
    with opened(bare_jpeg(data), ("JPEG",)) as picture:
        return upright(_samples(picture, icc), orientation(read_tags(exif), xmp))


def decode_webp(data: bytes) -> np.ndarray:
    """Return the samples (H, W, S) of a WebP file; raise DataError on one that is too large or an animation."""
    chunks = dict(reversed(webp_chunks(data)))
    with opened(bare_webp(data), ("WEBP",)) as picture:
        turn = orientation(read_tags(chunks.get(b"EXIF", b"")), chunks.get(b"XMP ", b""))
        return upright(_samples(picture), turn)


def decode_plain(data: bytes) -> np.ndarray:
    """Return the samples (H, W, S) of a file of a format that has no orientation; raise DataError as `opened` does."""
    with opened(data, ("BMP", "GIF")) as picture:
        return _samples(picture)


def decode_icon(data: bytes) -> np.ndarray:
    """Return the samples (H, W, S) of the largest and deepest picture in an icon; raise DataError as `opened` does."""
    (count,) = struct.unpack_from("<H", data, 4)
    entries = [struct.unpack_from("<BB4xHII", data, 6 + 16 * i) for i in range(count)]
    best = max(range(count), key=lambda i: ((entries[i][0] or 256) * (entries[i][1] or 256), entries[i][2]))
    *_, size, start = entries[best]
    head = data[6 + 16 * best : 18 + 16 * best] + struct.pack("<I", 22)
    with opened(data[:4] + b"\1\0" + head + data[start : start + size], ("ICO",)) as picture:
        return _samples(picture)


def decode_tga(data: bytes) -> np.ndarray:
    """Return the samples (H, W, S) of a TGA file, without alpha that its head does not announce."""
    with opened(data, ("TGA",)) as picture:
        samples = _samples(picture)
        return samples if data[17] & 15 else samples[..., : 1 if samples.shape[2] < 3 else 3]


def decode_netpbm(data: bytes) -> np.ndarray:
    """Return the samples (H, W, S) of a PBM, PGM or PPM file; raise DataError on one that holds several images."""
    deep = _deep_colours(data)
    if deep is not None:
        return deep
    with opened(data, ("PPM",), load=False) as picture:
        if data[1:2] in b"456":
            start = picture.tile[0][2]  # type: ignore[attr-defined]
            bits = {"1": 1, "I": 16}.get(picture.mode, 8 * len(picture.getbands()))
            _check_end(data[start + picture.height * -(-picture.width * bits // 8) :])
        picture.load()
        return _samples(picture)


def decode_avif(data: bytes) -> np.ndarray:
    """Return the samples (H, W, S) of an AVIF file; raise DataError as `opened` does."""
    bare = bare_avif(data)
    with opened(bare, ("AVIF",)) as picture:
        flags = bare[bare.find(b"av1C") + 6] if b"av1C" in bare else 0
        bits = (8, 8, 10, 12)[flags >> 5 & 3]
        if bits > 8:
            samples = _scaled(with_channels(imagecodecs.avif_decode(bare)), 2**bits - 1)
        else:
            samples = _samples(picture)
        return upright(samples, orientation(read_tags(picture.info.get("exif", b""))))


def decode_jpeg2000(data: bytes) -> np.ndarray:
    """Return the samples (H, W, S) of a JPEG 2000 file; raise DataError as `opened` does."""
    bare = bare_jp2(data)
    exif, xmp, _, _ = jp2_parts(data)
    with opened(bare, ("JPEG2000",)) as picture:
        bits = _bits(bare)
        if max(bits) > 8:
            samples = _scaled(with_channels(imagecodecs.jpeg2k_decode(bare)), 2 ** max(bits) - 1)
        else:
            samples = _samples(picture)
            if min(bits) < 8:  # Pillow has put zeros behind them
                if picture.mode not in ("L", "LA", "RGB", "RGBA"):
                    raise DataError("has a palette of fewer than 8 bits", "Save it as RGB of 8 bits.")
                channels = zip(np.moveaxis(samples, 2, 0), bits, strict=True)
                samples = np.stack(
                    [_scaled(channel >> 8 - own, 2**own - 1) for channel, own in channels], axis=2
                )
        return upright(samples, orientation(read_tags(exif), xmp))


@contextmanager
def opened(data: bytes, kinds: tuple[str, ...], load: bool = True) -> Iterator[Pillow.Image]:
    """Give the picture of a file of one of `kinds`, by Pillow's names, loaded if not otherwise said.

    Raises DataError on one that is too large or an animation, and on a kind that the installed Pillow does not read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Pillow.DecompressionBombWarning)
            with Pillow.open(BytesIO(data), formats=kinds) as picture:
                check_size(picture.width * picture.height)
                if getattr(picture, "n_frames", 1) > 1:
                    raise DataError("is an animation", "Extract its frames into one file each.")
                if load:
                    picture.load()
                yield picture
    except (Pillow.DecompressionBombError, Pillow.DecompressionBombWarning) as error:
        raise too_large() from error
    except UnidentifiedImageError as error:
        lacking = [kind for kind in kinds if kind in _CODECS and not features.check(_CODECS[kind])]
        if not lacking:
            raise
        raise DataError(
            f"is in a format that the installed Pillow lacks ({' or '.join(lacking)})",
            "Install a newer Pillow, or convert it to PNG.",
        ) from error


def read_jpeg_metadata(data: bytes) -> Metadata:
    """Return what a JPEG file holds besides its pixels."""
    exif, xmp, icc, density = jpeg_parts(data)
    return metadata_of(read_tags(exif), icc, density, xmp=xmp)


def read_webp_metadata(data: bytes) -> Metadata:
    """Return what a WebP file holds besides its pixels."""
    chunks = dict(reversed(webp_chunks(data)))
    exif, xmp, icc = (chunks.get(kind, b"") for kind in (b"EXIF", b"XMP ", b"ICCP"))
    return metadata_of(read_tags(exif), icc, xmp=xmp)


def read_jpeg2000_metadata(data: bytes) -> Metadata:
    """Return what a JPEG 2000 file holds besides its pixels."""
    exif, xmp, icc, density = jp2_parts(data)
    return metadata_of(read_tags(exif), icc, density, xmp=xmp)


def read_avif_metadata(data: bytes) -> Metadata:
    """Return what an AVIF file holds besides its pixels, without EXIF that is damaged."""
    try:
        return read_pillow_metadata(data)
    except Exception:  # hostile bytes make the decoder raise anything at all
        return read_pillow_metadata(bare_avif(data))


def read_pillow_metadata(data: bytes) -> Metadata:
    """Return what Pillow finds besides the pixels in a file of the other formats."""
    with opened(data, ("BMP", "AVIF"), load=False) as picture:
        info = picture.info
        exif, icc = (info.get(name) or b"" for name in ("exif", "icc_profile"))
        return metadata_of(read_tags(exif), icc, info.get("dpi"))


def encode_bmp(samples: np.ndarray) -> bytes:
    """Return samples (H, W, 1, 3 or 4) of 8 bits as a BMP file."""
    if samples.shape[2] == 4:
        return _encode_bmp_alpha(samples)
    file = BytesIO()
    Pillow.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples).save(file, "BMP")
    return file.getvalue()


def embed_in_bmp(data: bytes, metadata: Metadata) -> bytes:
    """Return a BMP file with the resolution that `metadata` gives; the format as written holds no more."""
    if metadata.density is None:
        return data
    pixels = struct.pack("<ii", *(round(number / _INCH) for number in metadata.density))
    return data[:38] + pixels + data[46:]


def encode_pgm(samples: np.ndarray) -> bytes:
    """Return samples (H, W, 1) of 8 or 16 bits as a PGM file."""
    return _netpbm(b"P5", samples)


def encode_ppm(samples: np.ndarray) -> bytes:
    """Return samples (H, W, 3) of 8 or 16 bits as a PPM file."""
    return _netpbm(b"P6", samples)


def _netpbm(kind: bytes, samples: np.ndarray) -> bytes:
    height, width = samples.shape[:2]
    head = b"%s\n%d %d\n%d\n" % (kind, width, height, np.iinfo(samples.dtype).max)
    return head + samples.astype(samples.dtype.newbyteorder(">")).tobytes()


def _encode_bmp_alpha(samples: np.ndarray) -> bytes:
    """Write the version 4 header (Microsoft, BITMAPV4HEADER): the first to say where alpha lies."""
    height, width = samples.shape[:2]
    start, size = 14 + 108, 4 * height * width
    head = struct.pack("<2sIHHI", b"BM", start + size, 0, 0, start)
    head += struct.pack("<IiiHHIIiiII", 108, width, height, 1, 32, 3, size, 2835, 2835, 0, 0)
    head += struct.pack("<4I4s48x", 0xFF0000, 0xFF00, 0xFF, 0xFF000000, b"BGRs")
    return head + samples[::-1, :, [2, 1, 0, 3]].tobytes()


def _samples(picture: Pillow.Image, icc: bytes = b"") -> np.ndarray:
    mode = picture.mode
    if mode.startswith("I"):  # a PGM of more than 8 bits, which Pillow has scaled to 16
        return with_channels(np.asarray(picture).astype(np.uint16))
    if mode not in _TARGET:
        raise DataError(f"is a {mode} image", "Convert it to RGB first.")
    target = _TARGET[mode]
    if "transparency" in picture.info:
        target = {"L": "LA", "RGB": "RGBA"}.get(target, target)
    if mode == "CMYK":
        return np.asarray(_printed(picture, icc))
    return with_channels(np.asarray(picture.convert(target)))


def _printed(picture: Pillow.Image, icc: bytes) -> Pillow.Image:
    """Return a picture in the colours of print as RGB: through its profile where that is sound."""
    from PIL import ImageCms

    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(icc))
        screen = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(picture, profile, screen, outputMode="RGB") or picture
    except (ImageCms.PyCMSError, OSError):
        return picture.convert("RGB")


def _deep_colours(data: bytes) -> np.ndarray | None:
    """Return the samples of a PPM file of more than 8 bits, which Pillow would cut to 8; None for another file."""
    head = _DEEP_COLOURS.match(data)
    width, height, top = (int(number) for number in head.groups()[1:]) if head else (0, 0, 0)
    if head is None or not 255 < top < 65536:
        return None
    check_size(width * height)
    count = 3 * width * height
    if head[1] == b"6":
        values = np.frombuffer(data, ">u2", count, head.end())
        _check_end(data[head.end() + 2 * count :])
    else:
        numbers = re.sub(rb"#[^\r\n]*", b"", data[head.end() :]).split()[:count]
        values = np.array([int(number) for number in numbers])
    return _scaled(values.reshape(height, width, 3), top)


def _check_end(rest: bytes) -> None:
    if re.match(rb"\s*P[1-7]\s", rest):
        raise DataError("holds several images", "Save each one to a file of its own.")


def _bits(data: bytes) -> list[int]:
    """Return the bits of each component of a JPEG 2000 file; raise DataError on numbers with a sign."""
    start = data.find(b"\xff\x4f\xff\x51") + 40  # the number of components, in the head of the codestream
    (count,) = struct.unpack_from(">H", data, start)
    kinds = data[start + 2 : start + 2 + 3 * count : 3]
    if any(kind & 0x80 for kind in kinds):
        raise DataError("has samples with a sign", "Save it as unsigned integers.")
    return [kind + 1 for kind in kinds]


def _scaled(values: np.ndarray, top: int) -> np.ndarray:
    """Return `values` from 0 to `top` as samples of 8 bits, or of 16 where they have more than 8."""
    white = 255 if top < 256 else 65535
    table = np.rint(np.arange(top + 1) * (white / top)).astype(np.uint8 if top < 256 else np.uint16)
    samples: np.ndarray = table[np.minimum(values, top)]
    return samples
