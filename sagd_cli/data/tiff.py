"""TIFF files: which are accepted, and their samples."""

import logging
import math
from io import BytesIO
from typing import Any

import numpy as np
import tifffile

from sagd_cli.data.layout import ORIENTATION, check_size, upright, with_channels
from sagd_cli.data.ranges import type_range
from sagd_cli.errors import DataError

for _engine in ("tifffile", "imagecodecs"):  # their remarks would reach stderr through logging's last resort
    logging.getLogger(_engine).addHandler(logging.NullHandler())

_COLOURS = {0: 1, 1: 1, 2: 3, 3: 1}  # photometric: white is zero, black is zero, RGB, palette
_KINDS = {("b", 1), ("u", 1), ("u", 2), ("u", 4), ("u", 8), ("u", 16), ("f", 32)}
# Others (JPEG, JPEG 2000, ...) carry a size of their own, which the page's does not bound.
_COMPRESSIONS = {1, 2, 3, 4, 5, 8, 32773, 32946, 50000}


def decode_tiff(data: bytes) -> np.ndarray:
    """Return the samples (H, W, S) of a TIFF file; raise DataError on one that is not accepted."""
    with tifffile.TiffFile(BytesIO(data)) as tiff:
        if len(tiff.pages) != 1:
            raise DataError(f"holds {len(tiff.pages)} pages", "Save each page to a file of its own.")
        page = tiff.pages[0]
        _check_page(page)
        samples = page.asarray(maxworkers=1)
        if page.axes == "SYX":
            samples = np.moveaxis(samples, 0, 2)
        orientation = page.tags.get(ORIENTATION)
        samples = _colours(with_channels(samples), page)
        return upright(samples, int(orientation.value) if orientation else 1)


def _check_page(page: Any) -> None:
    tile = (page.tilewidth, page.tilelength, page.tiledepth)
    for sides in ((page.imagewidth, page.imagelength, page.imagedepth), tile if page.is_tiled else (1,)):
        if not all(isinstance(side, int) for side in sides):  # a hostile tag may hold many numbers
            raise DataError("has a size that is not a number")
        check_size(math.prod(sides))
    if page.compression not in _COMPRESSIONS:
        raise DataError("has a compression that is not accepted", "Save it with LZW, Deflate or none.")
    if page.dtype is None or (page.dtype.kind, page.bitspersample) not in _KINDS:
        raise DataError("has an unusual sample type", "Save it as 8-bit, 16-bit or 32-bit float.")
    colours = _COLOURS.get(page.photometric)
    if colours is None or page.axes not in ("YX", "YXS", "SYX"):
        raise DataError("is neither grey nor RGB", "Convert it to RGB first.")
    extra = tuple(page.extrasamples)
    if page.samplesperpixel != colours + len(extra) or extra not in ((), (2,)):
        raise DataError("has channels besides colour and straight alpha", "Save it as RGB or RGBA.")


def _colours(samples: np.ndarray, page: Any) -> np.ndarray:
    """Return grey or RGB of 8 bits at least, where black is 0, from samples as `page` stores them."""
    if page.photometric == 3:
        return np.asarray(page.colormap >> 8).astype(np.uint8).T[samples[..., 0].astype(np.uint8)]
    if page.bitspersample < 8:
        samples = samples.astype(np.uint8) * np.uint8(255 // (2**page.bitspersample - 1))
    if page.photometric == 0:
        samples[..., 0] = type_range(samples.dtype).high - samples[..., 0]
    return samples


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
