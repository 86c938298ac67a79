"""PNG files: libpng reads and writes all their depths."""

import logging

import imagecodecs
import numpy as np

from sagd_cli.data.layout import with_channels
from sagd_cli.data.pillow import opened, upright_by_exif

# Its remarks would reach stderr through logging's last resort.
logging.getLogger("imagecodecs").addHandler(logging.NullHandler())


def decode_png(data: bytes) -> np.ndarray:
    """Return the samples (H, W, S) of a PNG file; raise DataError on one that is too large or an animation."""
    # Pillow meets a damaged PNG first: each one that imagecodecs 2026.3 refuses costs a reference to None, and some
    # thousands of them end the process on Python 3.11.
    with opened(data, ("PNG",)) as picture:
        return upright_by_exif(with_channels(imagecodecs.png_decode(data)), picture)


def encode_png(samples: np.ndarray) -> bytes:
    """Return samples (H, W, S) of 8 or 16 bits as a PNG file."""
    return bytes(imagecodecs.png_encode(samples[..., 0] if samples.shape[2] == 1 else samples))
