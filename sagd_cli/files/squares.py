"""Central squares of images, resized; those of JPEG files are decoded no larger than they have to be."""

from io import BytesIO

import numpy as np
from PIL import Image as Pillow
from PIL.JpegImagePlugin import JpegImageFile

from sagd_cli.files.layout import MAX_PIXELS, bare_jpeg, jpeg_parts, with_channels
from sagd_cli.files.metadata import orientation, read_tags

DRAFT = 2  # times the side of the square: a JPEG file is decoded to this at least, or whole


def resized_square(samples: np.ndarray, size: int) -> np.ndarray:
    """Return the central square of samples (H, W, S), bytes or floats, resized to (size, size, S).

    The filter is Lanczos's, which averages when it reduces. It can go beyond black and white: bytes are clipped, and
    floats are not.
    """
    height, width, channels = samples.shape
    if samples.dtype == np.uint8 and channels in (1, 3):
        picture = Pillow.fromarray(samples[..., 0] if channels == 1 else samples)
        return with_channels(np.asarray(_resized(picture, (width, height), 1, size)))
    planes = [Pillow.fromarray(np.ascontiguousarray(plane)) for plane in np.moveaxis(samples, 2, 0)]
    return np.stack([np.asarray(_resized(plane, (width, height), 1, size)) for plane in planes], axis=2)


def jpeg_square(data: bytes, size: int) -> np.ndarray | None:
    """Return the central square (size, size, S) of a JPEG file; None where it has to be decoded in the usual way.

    The discrete cosine transform gives the picture at 1/2, 1/4 or 1/8 of its size, where its shorter side stays DRAFT
    times as long as the square's. That has to be another way for files that are damaged, too large, not upright, or
    neither grey nor RGB. Several threads may do this at once: no warnings are held back for it.
    """
    try:
        exif, xmp, _, _ = jpeg_parts(data)
        picture = JpegImageFile(BytesIO(bare_jpeg(data)))
        width, height = whole = picture.size
        if picture.mode not in ("L", "RGB") or width * height > MAX_PIXELS:
            return None
        if orientation(read_tags(exif), xmp) != 1:
            return None
        told = picture.draft(None, (DRAFT * size, DRAFT * size))
        scale = 1 if told is None else round(width / told[1][2])
        return with_channels(np.asarray(_resized(picture, whole, scale, size)))
    except Exception:  # hostile bytes make the decoder raise anything at all
        return None


def _resized(picture: Pillow.Image, whole: tuple[int, int], scale: int, size: int) -> Pillow.Image:
    """Return the central square of a picture that is the `scale`-th part of one of the size `whole`."""
    side = min(whole)
    left, top = ((length - side) // 2 for length in whole)
    box = (left / scale, top / scale, (left + side) / scale, (top + side) / scale)
    return picture.resize((size, size), Pillow.Resampling.LANCZOS, box)
