"""TIFF files of one image, and the pages of others: which are accepted, and their samples."""

import logging
import math
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from sagd_cli.errors import DataError
from sagd_cli.files.layout import check_size, upright, with_channels
from sagd_cli.files.metadata import (
    Metadata,
    Tag,
    blank_tags,
    directory,
    metadata_of,
    orientation,
    range_tag,
    read_tags,
    with_density,
)

for _engine in ("tifffile", "imagecodecs"):  # their remarks would reach stderr through logging's last resort
    logging.getLogger(_engine).addHandler(logging.NullHandler())

_COLOURS = {0: 1, 1: 1, 2: 3, 3: 1}  # photometric: white is zero, black is zero, RGB, palette
_KINDS = {("b", 1), *(("u", bits) for bits in (1, 2, 4, 8, 16, 32))}
_KINDS |= {*(("i", bits) for bits in (8, 16, 32)), *(("f", bits) for bits in (16, 32, 64))}
_OTHER_KINDS = {"c": "complex numbers", "f": "floats", "i": "integers with a sign", "u": "integers"}
# Others (JPEG, JPEG 2000, ...) carry a size of their own, which the page's does not bound.
_COMPRESSIONS = {1, 2, 3, 4, 5, 8, 32773, 32946, 50000}
# The tags that say how the pixels are stored; no other is looked at to read them.
_OF_PIXELS = {
    *(254, 255, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325),
    *(338, 339, 32997, 32998),
}
_ICC, _SUB_FILES, _METAMORPH = 34675, 330, 33629
REDUCED = 1
REDUCED_OR_MASK = REDUCED | 4
_ASSOCIATED, _STRAIGHT = 1, 2  # kinds of extra samples: alpha that colours are multiplied by, or not


def decode_tiff(data: bytes) -> np.ndarray:
    """Return the samples (H, W, S) of a TIFF file; raise DataError on one that is not accepted."""
    with _opened(data) as tiff:
        page = _only_page(tiff, data)
        return decode_page(page, read_tags(data, page.offset))


def decode_page(page: Any, tags: tuple[Tag, ...], plane: np.ndarray | None = None) -> np.ndarray:
    """Return the samples (H, W, S) of a page, or of a `plane` that lies behind it."""
    _check_page(page)
    samples = page.asarray(maxworkers=1) if plane is None else plane
    if page.axes == "SYX":
        samples = np.moveaxis(samples, 0, 2)
    return upright(_colours(with_channels(samples), page), orientation(tags))


def read_tiff_metadata(data: bytes) -> Metadata:
    """Return what a TIFF file of one page holds besides its pixels."""
    with _opened(data) as tiff:
        tags = read_tags(data, _pages(tiff)[0].offset)
        is_beside = len(tiff.pages) > 1 and any(page.subfiletype & REDUCED for page in tiff.pages)
        return replace(metadata_in(tags), has_copies=is_beside or any(tag.code == _SUB_FILES for tag in tags))


def metadata_in(tags: tuple[Tag, ...]) -> Metadata:
    """Return what the tags of a page hold besides its pixels."""
    icc = next((tag.value for tag in tags if tag.code == _ICC), b"")
    return metadata_of(tags, icc)


@contextmanager
def _opened(data: bytes) -> Iterator[tifffile.TiffFile]:
    """Give a TIFF file of which only the tags of pixels are seen."""
    file = BytesIO(data)
    with file.getbuffer() as view:
        blank_tags(view, _OF_PIXELS)
    with tifffile.TiffFile(file) as tiff:
        yield tiff


def _pages(tiff: tifffile.TiffFile) -> list[Any]:
    """Return the pages that are images of their own, which reduced copies and masks are not; all where none is."""
    return [page for page in tiff.pages if not page.subfiletype & REDUCED_OR_MASK] or [*tiff.pages]


def _only_page(tiff: tifffile.TiffFile, data: bytes) -> Any:
    """Return the page that holds the image; raise DataError where there are several, or several planes in one."""
    pages = _pages(tiff)
    count = len(pages)
    if count == 1:
        (page,) = pages
        # Raw photographs keep the image behind a preview.
        if page.subfiletype & REDUCED_OR_MASK and _SUB_FILES in {
            tag.code for tag in read_tags(data, page.offset)
        }:
            raise DataError("holds its image behind a preview", "Save the image to a file of its own.")
        if isinstance(page.imagedepth, int) and page.imagedepth > 1:
            raise DataError(
                f"holds {page.imagedepth} planes as the depth of one page",
                "Save each plane as a page, for example with tifffile or ImageJ.",
            )
        if len(tiff.pages) == 1:
            count = planes_behind(page, BytesIO(data))
    if count != 1:
        raise DataError(f"holds {count} pages", "Save each page to a file of its own.")
    return page


def planes_behind(page: Any, file: BytesIO | Path) -> int:
    """Return the number of planes in a file of one page, as ImageJ, MetaMorph and tifffile write some stacks.

    Descriptions of a stack outlive it. One is believed where at least half a plane of the file lies free behind the
    page's own.
    """
    planes = 1
    try:
        with tifffile.TiffFile(file) as whole:
            tags = whole.pages[0].tags
            sizes = [min(size, page.nbytes) for size in page.databytecounts]
            end = max(start + size for start, size in zip(page.dataoffsets, sizes, strict=False))
            others = [page.offset, whole.filehandle.size, *(tag.valueoffset for tag in tags)]
            if min(other for other in others if other >= end) - end >= sum(sizes) / 2:
                planes = tags[_METAMORPH].count if _METAMORPH in tags else 1
                told = re.match(
                    r"ImageJ=.*?^images=(\d+)", whole.pages[0].description, re.DOTALL | re.MULTILINE
                )
                planes = max(planes, int(told[1]) if told else 1)
                planes = max(planes, math.prod(whole.series[0].shape) // math.prod(page.shape))
    except Exception:  # hostile bytes make the decoder raise anything at all
        return planes
    return planes


def _check_page(page: Any) -> None:
    tile = (page.tilewidth, page.tilelength, page.tiledepth)
    for sides in ((page.imagewidth, page.imagelength, page.imagedepth), tile if page.is_tiled else (1,)):
        if not all(isinstance(side, int) for side in sides):  # a hostile tag may hold many numbers
            raise DataError("has a size that is not a number")
        check_size(math.prod(sides))
    if page.compression not in _COMPRESSIONS:
        raise DataError("has a compression that is not accepted", "Save it with LZW, Deflate or none.")
    if page.dtype is None or (page.dtype.kind, page.bitspersample) not in _KINDS:
        kind = "" if page.dtype is None else _OTHER_KINDS.get(page.dtype.kind, "")
        raise DataError(
            f"holds {kind or 'samples'} of {page.bitspersample} bits",
            "Save it as integers of 8, 16 or 32 bits or floats of 16, 32 or 64.",
        )
    colours = _COLOURS.get(page.photometric)
    if colours is None or page.axes not in ("YX", "YXS", "SYX"):
        raise DataError("is neither grey nor RGB", "Convert it to RGB first.")
    extra = tuple(page.extrasamples)
    if page.samplesperpixel != colours + len(extra) or extra not in ((), (_ASSOCIATED,), (_STRAIGHT,)):
        raise DataError(
            "has channels besides its colours, and does not say that they are alpha",
            "Save it without them, or as straight alpha (in TIFF, ExtraSamples 2).",
        )


def _colours(samples: np.ndarray, page: Any) -> np.ndarray:
    """Return grey or RGB of 8 bits at least, black being 0 and alpha straight, from samples as `page` stores them."""
    if page.photometric == 3:
        colours = page.colormap if page.colormap.max() < 256 else page.colormap >> 8  # some hold 8 bits of 16
        index = samples[..., 0].astype(np.uint16)
        return np.concatenate([colours.astype(np.uint8).T[index], samples[..., 1:]], axis=2)
    if page.bitspersample < 8:
        samples = samples.astype(np.uint8) * np.uint8(255 // (2**page.bitspersample - 1))
    if page.photometric == 0:
        if samples.dtype.kind == "f" and not 0 <= samples[..., 0].min() <= samples[..., 0].max() <= 1:
            raise DataError(
                "holds floats of which 0 is white, and nothing says which is black",
                "Turn its values over first.",
            )
        # Of integers that is a turn of all bits, with a sign or without.
        samples[..., 0] = 1 - samples[..., 0] if samples.dtype.kind == "f" else ~samples[..., 0]
    return _straight(samples) if tuple(page.extrasamples) == (_ASSOCIATED,) else samples


def _straight(samples: np.ndarray) -> np.ndarray:
    """Return samples whose colours were multiplied by alpha, the last one, with colours that are not.

    They are black where alpha is 0, and integers end at white.
    """
    white = 1 if samples.dtype.kind == "f" else np.iinfo(samples.dtype).max
    alpha = samples[..., -1:].astype(np.float64)
    colours = samples[..., :-1] * np.divide(white, alpha, out=np.zeros_like(alpha), where=alpha > 0)
    if samples.dtype.kind != "f":
        colours = np.minimum(np.rint(colours), white)
    return np.concatenate([colours.astype(samples.dtype), samples[..., -1:]], axis=2)


def encode_tiff(samples: np.ndarray) -> bytes:
    """Return samples (H, W, S) as a TIFF file of one page."""
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


def embed_in_tiff(data: bytes, metadata: Metadata) -> bytes:
    """Return a TIFF file with `metadata` in it: its directory is written anew, at the end."""
    written = {tag.code: tag for tag in read_tags(data)}
    tags = written | {tag.code: tag for tag in with_density(metadata.tags, metadata.density)}
    if metadata.icc:
        tags[_ICC] = Tag(_ICC, 7, metadata.icc)
    tags |= {tag.code: tag for tag in range_tag(metadata.values)}
    if tags == written:
        return data
    space = bytes(len(data) % 2)
    start = len(data) + len(space)
    return b"".join([data[:4], struct.pack("<I", start), data[8:], space, directory(tags.values(), start)])
