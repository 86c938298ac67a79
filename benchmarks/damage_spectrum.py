"""What is left of lines and of a pattern of dots or waves in an image, seen in its spectrum: no truth is needed."""

import numpy as np
from scipy import ndimage

from sagd_cli.spectral.grid import Array

STEP, REACH = 3, 9  # of the surroundings of a frequency: the median of 9x9 of every third one
LARGEST = 0.7  # of |f| that peaks are looked for at, in cycles/pixel
ACROSS = np.linspace(0.03, 0.2, 9)  # cycles/pixel: the edges of the bins of lines
STRIP, NEAR, FAR = 0.008, 0.03, 0.08  # half the width of a strip of lines; its surroundings' ends


def transformed(image: Array) -> Array:
    """The spectrum (H, W) of an image less its mean, through a Hann window."""
    window = np.multiply.outer(np.hanning(image.shape[0]), np.hanning(image.shape[1]))
    return np.fft.fft2((image - image.mean()) * window)


def frequencies(shape: tuple[int, ...]) -> tuple[Array, Array]:
    """The frequencies (H, 1) and (1, W) in cycles/pixel."""
    return np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])[None]


def surroundings(values: Array) -> Array:
    """The median (H, W) about each frequency of a full spectrum (H, W)."""
    medians = ndimage.median_filter(values[::STEP, ::STEP], REACH, mode="wrap")
    height, width = values.shape
    return medians.repeat(STEP, axis=0).repeat(STEP, axis=1)[:height, :width]


def peaks(magnitude: Array, times: float, smallest: float) -> Array:
    """The frequencies (H, W) beyond |f| = `smallest` whose magnitude is so many times that around them."""
    radius = np.hypot(*frequencies(magnitude.shape))
    is_high = magnitude > times * surroundings(magnitude)
    return ndimage.binary_dilation(is_high, np.ones((3, 3))) & (radius > smallest) & (radius < LARGEST)


def pattern_energy(image: Array, places: Array) -> float:
    """The power of an image at the `places` (H, W) of a pattern over that around them, in dB."""
    power = np.abs(transformed(image)) ** 2
    return float(10 * np.log10(np.mean((power / surroundings(power))[places])))


def line_energy(image: Array, angle: float) -> float:
    """The power of lines seen at an angle in degrees over that beside them in the spectrum, in dB.

    It is compared at the same frequency across the lines, in bins whose decibels are averaged.
    """
    turn = np.radians(angle)
    f_y, f_x = frequencies(image.shape)
    along = np.abs(f_x * np.cos(turn) - f_y * np.sin(turn))
    bins = np.digitize(np.abs(f_x * np.sin(turn) + f_y * np.cos(turn)), ACROSS)
    power = np.abs(transformed(image)) ** 2
    lines, beside = (
        [power[places & (bins == i)].mean() for i in range(1, len(ACROSS))]
        for places in (along < STRIP, (along > NEAR) & (along < FAR))
    )
    return float(np.mean(10 * np.log10(np.divide(lines, beside))))
