"""Images with noise in them, and image files of samples (H, W, S)."""

from pathlib import Path

import numpy as np

from sagd_cli.data.images import Image, write_image


def noise(shape, depth, seed=0):
    rng = np.random.default_rng(seed)
    if np.dtype(depth).kind == "f":
        return rng.normal(0.5, 2, shape).astype(depth)  # many values outside [0, 1]
    return rng.integers(np.iinfo(depth).min, np.iinfo(depth).max + 1, shape).astype(depth)


def image_of(samples):
    """Return the Image of samples (H, W, S)."""
    channels = 1 if samples.shape[2] < 3 else 3
    alpha = samples[..., channels] if samples.shape[2] > channels else None
    return Image(np.moveaxis(samples[..., :channels], 2, 0), alpha, Path("memory"))


def save(path, samples):
    image = image_of(samples)
    write_image(image, image.pixels, path)
    return image
