"""Made damage of periodic and of short-lined kinds: each function takes a clean image and returns it damaged.

Images are grey, (H, W) on [-1, 1]. `random` draws phases, places and fields. Frequencies are in cycles/pixel, angles in
degrees as those of `stripe:ANGLE`, levels standard deviations in grey levels of 255. Nothing is
clipped.
"""

import numpy as np
from scipy import ndimage

from sagd_cli.spectral.grid import Array

Random = np.random.Generator
GREY_LEVEL = 2 / 255
FINER = 4  # samples per pixel and axis of a screen that is not cut to pixels
TO_SIGMA = 1 / 2.355  # of a full width at half height


def halftone(image: Array, random: Random, period: float = 5.0, angle: float = 45.0) -> Array:
    """Round dots of black on white, `period` pixels apart on a screen at an angle, whose edges are soft.

    The image is compared with a cosine screen in samples finer than the pixels, which are blurred (sigma 0.7 pixels)
    and averaged.
    """
    fine = ndimage.zoom(image, FINER, order=1, grid_mode=True, mode="nearest")
    dots = ndimage.gaussian_filter(_screened(fine, random, period * FINER, angle), 0.7 * FINER)
    height, width = image.shape
    return dots.reshape(height, FINER, width, FINER).mean(axis=(1, 3))


def one_bit(image: Array, random: Random, period: float = 6.0, angle: float = 30.0) -> Array:
    """Round dots as `halftone` makes them, of whole pixels: each is black or white."""
    return _screened(image, random, period, angle)


def grey_screen(image: Array, random: Random, period: float = 6.0, angle: float = 30.0) -> Array:
    """A print that was scanned: a halftone, blurred further (sigma 1 pixel), and grain of 3 levels."""
    dots = ndimage.gaussian_filter(halftone(image, random, period, angle), 1.0)
    return dots + 3 * GREY_LEVEL * random.standard_normal(image.shape)


def curtains(image: Array, random: Random, angle: float = 90.0, level: float = 6.0) -> Array:
    """Short soft lines all over the image, 3 pixels wide and 40 long at half height: white noise through a line."""
    return image + level * GREY_LEVEL * _lines(image.shape, random, angle)


def tilted_curtains(image: Array, random: Random, angle: float = 20.0, level: float = 14.0) -> Array:
    """Curtains whose lines are at an angle, 20 degrees unless told."""
    return curtains(image, random, angle, level)


def tone_in_window(image: Array, random: Random, level: float = 14.0) -> Array:
    """One wave, seen through a Gaussian window (sigma a fifth of either side) about the middle of the image."""
    height, width = image.shape
    rows, columns = np.mgrid[:height, :width]
    window = np.exp(-12.5 * ((rows / height - 0.5) ** 2 + (columns / width - 0.5) ** 2))
    phase = random.uniform(0, 2 * np.pi)
    tone = window * np.cos(2 * np.pi * (0.11 * rows + 0.17 * columns) + phase)
    return image + level * GREY_LEVEL * np.sqrt(2) * tone


def drifting_tone(image: Array, random: Random, level: float = 14.0) -> Array:
    """One wave whose frequency along the rows goes from 0.15 to 0.21 over the image."""
    height, width = image.shape
    rows, columns = np.mgrid[:height, :width]
    turns = 0.1 * rows + 0.15 * columns + 0.03 * columns**2 / width
    return image + level * GREY_LEVEL * np.sqrt(2) * np.cos(2 * np.pi * turns + random.uniform(0, 2 * np.pi))


def lattice(image: Array, random: Random, period: float = 18.0, angle: float = 10.0) -> Array:
    """A faint grid of dots with tens of harmonics on a lattice, as a fabric or a sensor's mesh leaves; 14 levels."""
    height, width = image.shape
    first, second = _phases((height, width), random, period, angle)
    dots = np.exp(3 * (np.cos(first) + np.cos(second)) - 6)
    return image + 14 * GREY_LEVEL * (dots - dots.mean()) / dots.std()


CASES = {
    "halftone": halftone,
    "one-bit": one_bit,
    "grey-screen": grey_screen,
    "curtains": curtains,
    "curtains-20": tilted_curtains,
    "curtains-two": lambda image, random: curtains(curtains(image, random), random, 20.0),
    "tone-in-window": tone_in_window,
    "drifting-tone": drifting_tone,
    "lattice": lattice,
}


def _phases(shape: tuple[int, ...], random: Random, period: float, angle: float) -> tuple[Array, Array]:
    """Return the phases (H, W) of two waves of a period in pixels, one at an angle and one across it."""
    turn, (rows, columns) = np.radians(angle), np.mgrid[: shape[0], : shape[1]]
    along = columns * np.cos(turn) - rows * np.sin(turn)
    across = columns * np.sin(turn) + rows * np.cos(turn)
    first, second = random.uniform(0, 2 * np.pi, 2)
    return 2 * np.pi * along / period + first, 2 * np.pi * across / period + second


def _screened(image: Array, random: Random, period: float, angle: float) -> Array:
    """Return -1 and 1 where an image lies below and above a screen of two cosines.

    The screen's heights are spread evenly over the range, so that a flat area has its own mean tone.
    """
    first, second = _phases(image.shape, random, period, angle)
    height = np.cos(first) + np.cos(second)
    return np.where(image > 2 * _rank(height) - 1, 1.0, -1.0)


def _rank(height: Array) -> Array:
    """Return the share of cos a + cos b, for a and b anywhere, that is below `height`."""
    angles = (np.arange(720) + 0.5) * np.pi / 720
    known = np.sort(np.add.outer(np.cos(angles), np.cos(angles)).ravel())[::360]
    return np.interp(height, known, np.linspace(0, 1, len(known)))


def _lines(shape: tuple[int, ...], random: Random, angle: float) -> Array:
    """Return a field (H, W) of deviation 1: white noise through one Gaussian line, 3 pixels wide and 40 long."""
    turn, length, width = np.radians(angle), 40 * TO_SIGMA, 3 * TO_SIGMA
    padded = [side + 4 * round(length) for side in shape]
    f_y, f_x = np.fft.fftfreq(padded[0])[:, None], np.fft.rfftfreq(padded[1])
    along, across = f_x * np.cos(turn) - f_y * np.sin(turn), f_x * np.sin(turn) + f_y * np.cos(turn)
    weight = np.exp(-2 * np.pi**2 * ((along * length) ** 2 + (across * width) ** 2))
    white = random.standard_normal(padded)
    field = np.fft.irfft2(np.fft.rfft2(white) * weight, s=padded)[: shape[0], : shape[1]]
    return field / field.std()
