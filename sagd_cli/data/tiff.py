"""TIFF files: which are accepted, and their samples."""

import math
from io import BytesIO
from typing import Any

import numpy as np

from sagd_cli.data.layout import ORIENTATION, check_size, upright, with_channels
from sagd_cli.errors import DataError

_TIFF_COLOURS = {0: 1, 1: 1, 2: 3, 3: 1}  # photometric: white is zero, black is zero, RGB, palette
_TIFF_KINDS = {("b", 1), ("u", 1), ("u", 2), ("u", 4), ("u", 8), ("u", 16), ("f", 32)}
# Others (JPEG, JPEG 2000, ...) carry a size of their own, which the page's does not bound.
_TIFF_COMPRESSIONS = {1, 2, 3, 4, 5, 8, 32773, 32946, 50000}


def decode_tiff(data: bytes) -> np.ndarray:
    """Return the samples (H, W, S) of a TIFF file; raise DataError on one that is not accepted."""
    import tifffile

    with tifffile.TiffFile(BytesIO(data)) as tiff:
        if len(tiff.pages) != 1:
            raise DataError(f"holds {len(tiff.pages)} pages", "Save each page to a file of its own.")
        page = tiff.pages[0]
        _check_tiff(page)
        samples = page.asarray(maxworkers=1)
        if page.axes == "SYX":
            samples = np.moveaxis(samples, 0, 2)
        orientation = page.tags.get(ORIENTATION)
        samples = _tiff_colours(with_channels(samples), page)
        return upright(samples, int(orientation.value) if orientation else 1)


def _check_tiff(page: Any) -> None:
    tile = (page.tilewidth, page.tilelength, page.tiledepth)
    for sides in ((page.imagewidth, page.imagelength, page.imagedepth), tile if page.is_tiled else (1,)):
        if not all(isinstance(side, int) for side in sides):  # a hostile tag may hold many numbers
            raise DataError("has a size that is not a number")
        check_size(math.prod(sides))
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


def encode_tiff(samples: np.ndarray) -> bytes:
    """Return samples (H, W, S) as a TIFF file of one page."""
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
