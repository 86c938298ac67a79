"""Tones are taken away as waves, all over an image, in a part of it, or drifting; what is no tone is left."""

from math import inf

import numpy as np
import pytest
from support.synthetic import gaussian_fields, natural, wave

from sagd_cli.config.noise_spectrum import NoiseSpectrum
from sagd_cli.restorer.tones import without_tones
from sagd_cli.spectral.band import Band, Notch
from sagd_cli.spectral.grid import FrequencyGrid

SHAPE = (120, 152)
FREQUENCY = (0.1128, 0.1741)  # between two bins
RADIUS = 0.045
GRID = FrequencyGrid(SHAPE)


def field(seed=0):
    """A field with a natural image's spectrum, of deviation 0.3."""
    image = natural(SHAPE, seed, beta=2.5)[0]
    return 0.3 * (image - image.mean()) / image.std()


def told(center=FREQUENCY, radius=RADIUS, level=2.0):
    """The noise of a tone as a peak of the spectrum tells it: the centre is that of a bin."""
    on_grid = tuple(round(f * side) / side for f, side in zip(center, SHAPE, strict=True))
    return NoiseSpectrum.of_band(Band((Notch(on_grid, radius),)), level)


def places():
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return rows / SHAPE[0] - 0.5, columns / SHAPE[1] - 0.5


def everywhere():
    return wave(SHAPE, FREQUENCY)


def in_a_window():
    y, x = places()
    return np.exp(-12 * (y**2 + x**2)) * wave(SHAPE, FREQUENCY)


def drifting():
    y, x = places()
    turns = FREQUENCY[0] * y * SHAPE[0] + FREQUENCY[1] * x * SHAPE[1] + 2 * x**2
    return np.cos(2 * np.pi * turns + 1)


def squared_error(restored, image):
    return float(np.sum((restored - image) ** 2))


@pytest.mark.parametrize(("tone", "most"), [(everywhere, 0.1), (in_a_window, 0.3), (drifting, 0.5)])
@pytest.mark.parametrize("level", [0.1, 0.3])
def test_a_tone_goes_and_the_image_in_its_disc_stays(tone, most, level):
    image = field()
    cleaned, left = without_tones((image + level * tone())[None].astype(np.float32), told())
    disc = Notch(FREQUENCY, RADIUS).mask(GRID)
    own = GRID.total(np.where(disc, np.abs(np.fft.rfft2(image)) ** 2, 0)) / GRID.size
    assert left is None and squared_error(cleaned[0], image) < most * own


@pytest.mark.parametrize("center", [(0.0, 0.5), (0.5, 0.5), (0.5, 0.13), (0.492, 0.5)])
def test_a_tone_at_the_end_of_the_spectrum_goes(center):
    image = field()
    damaged = (image + 0.3 * wave(SHAPE, center))[None].astype(np.float32)
    cleaned, left = without_tones(damaged, told(center))
    assert left is None and squared_error(cleaned[0], image) < 0.01 * squared_error(damaged[0], image)


def test_images_without_the_tone_hardly_change():
    images = [field(seed)[None].astype(np.float32) for seed in range(20)]
    cleaned = [without_tones(image, told())[0] for image in images]
    assert sum(np.array_equal(*pair) for pair in zip(cleaned, images, strict=True)) >= 16
    assert max(map(squared_error, cleaned, images)) < 1e-3 * squared_error(images[0], 0)


@pytest.mark.parametrize("center", [(0.03, 0.0), (0.06, 0.0), (0.12, 0.0), (0.0, 0.05), (0.0, 0.09)])
@pytest.mark.parametrize("tilt", [0.0, 0.02])
def test_a_horizon_and_a_wall_are_no_tone(center, tilt):
    y, x = places()
    image = (
        field(1) + 0.3 * np.tanh(60 * (y - tilt * x + 0.1)) + 0.3 * (x > 0.2 + tilt * y) + 0.8 * (x > 0.45)
    )
    noise = told(center, 0.02, 0.05)
    cleaned, _ = without_tones(image[None].astype(np.float32), noise, is_told=True)
    assert squared_error(cleaned[0], image) <= GRID.total(noise.power(GRID))


@pytest.mark.parametrize("center", [(0.06, 0.0), (0.0, 0.05)])
def test_a_tone_all_over_a_horizon_goes(center):
    image, tone = field(1) + 0.3 * np.tanh(60 * (places()[0] + 0.1)), 0.3 * wave(SHAPE, center)
    cleaned, left = without_tones((image + tone)[None].astype(np.float32), told(center, 0.02, 4.0))
    assert left is None and squared_error(cleaned[0], image) < 0.1 * squared_error(tone, 0)


def test_what_fills_a_disc_is_no_tone():
    disc = Notch(FREQUENCY, RADIUS).mask(GRID)
    damaged = (field() + gaussian_fields(1, SHAPE, 0.5**2 * disc, 1)[0, 0])[None].astype(np.float32)
    cleaned, left = without_tones(damaged, told())
    assert left == told() and np.array_equal(cleaned, damaged)


@pytest.mark.parametrize(
    "noise",
    [
        told(level=inf),
        told(level=0),
        NoiseSpectrum.of_band(Band((Notch(FREQUENCY, RADIUS), Notch((0.3, 0.2), RADIUS))), 0.2),
        NoiseSpectrum.parse("stripe:horizontal:level=0.1+0.5:0.8:level=0.1"),
        told((0.02, 0.03)),
        told((0.3, 0.3), 0.5),
    ],
)
def test_other_noise_is_left(noise):
    damaged = (field() + 0.3 * everywhere())[None].astype(np.float32)
    cleaned, left = without_tones(damaged, noise)
    assert left == noise and np.array_equal(cleaned, damaged)


def test_colours_have_their_own_amplitudes_and_a_scale_scales():
    image = np.stack([field(seed) for seed in range(3)])
    tones = np.array([0.5, 0.0, -0.2])[:, None, None] * everywhere()
    damaged = (image + tones).astype(np.float32)
    cleaned, _ = without_tones(damaged, told())
    assert squared_error(cleaned, image) < 0.01 * squared_error(damaged, image)
    np.testing.assert_allclose(without_tones(0.25 * damaged, told())[0], 0.25 * cleaned, rtol=0, atol=1e-5)


def test_tones_of_a_lattice_go_together():
    image, orders = field(), [(1, 0), (0, 1), (1, 1), (1, -1), (2, 1)]
    centers = [(0.11 * a - 0.03 * b, 0.03 * a + 0.11 * b) for a, b in orders]
    damaged = image + 0.1 * sum(wave(SHAPE, center) for center in centers)
    noise = NoiseSpectrum(tuple(part for center in centers for part in told(center, 0.03).parts))
    cleaned, left = without_tones(damaged[None].astype(np.float32), noise)
    assert left is None and squared_error(cleaned[0], image) < 0.02 * squared_error(damaged, image)


def test_a_told_disc_may_hold_two_tones_and_one_that_was_found_spares_what_else_is_in_it():
    image = field()
    two = [0.4 * wave(SHAPE, FREQUENCY), 0.2 * wave(SHAPE, (FREQUENCY[0] + 0.02, FREQUENCY[1] - 0.02))]
    damaged = (image + sum(two))[None].astype(np.float32)
    both, one = (without_tones(damaged, told(), is_told)[0][0] for is_told in (True, False))
    assert squared_error(both, image) < 0.1 * squared_error(two[1], 0)
    assert squared_error(one, image + two[1]) < 0.05 * squared_error(two[1], 0)
