"""What all decoders share: the largest image, the axis of channels, the upright orientation."""

import numpy as np

from sagd_cli.errors import DataError

MAX_PIXELS = 64_000_000
ORIENTATION = 0x0112


def check_size(pixels: int) -> None:
    """Raise DataError on a number of pixels that is 0, or above MAX_PIXELS."""
    if pixels > MAX_PIXELS:
        raise too_large()
    if pixels < 1:
        raise DataError("has no pixels")


def too_large() -> DataError:
    """Return the error of an image of more than MAX_PIXELS."""
    cause = f"has more than {MAX_PIXELS // 10**6} million pixels, the most that is read"
    return DataError(cause, "Cut it into tiles or reduce it first.")


def with_channels(samples: np.ndarray) -> np.ndarray:
    """Return samples (H, W) or (H, W, S) as (H, W, S)."""
    return samples[..., None] if samples.ndim == 2 else samples


def upright(samples: np.ndarray, orientation: int) -> np.ndarray:
    """Return `samples` (H, W, S) with the EXIF/TIFF `orientation` undone: 1 to 8, others change nothing."""
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return samples[::-1] if orientation in (3, 4, 7, 8) else samples
