"""The spectrum of an image, found through noise: it is recovered as well as the data allow, in any unit."""

from math import inf

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.gaussian_fields import as_power, fields, spectra

from sagd_cli.denoising.image_law import (
    MIDDLE,
    MOST_FITTED,
    RAISED,
    ImageLaw,
    fitted_law,
    image_power,
)
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.power_law import OFFSET, SLOPE, SLOPE_DEVIATION

SHAPE = (48, 40)
GRID = FrequencyGrid(SHAPE)


def law(level, slope, grid=GRID):
    return level * ((grid.radius + OFFSET) / (MIDDLE + OFFSET)) ** -slope


def information(power, noise, grid=GRID):
    """Of log level and slope, in the frequencies (each half a squared normal variable), as a matrix."""
    place = np.log((grid.radius + OFFSET) / (MIDDLE + OFFSET))
    weight = grid.multiplicity / 2 * (power / (power + noise)) ** 2
    weight[0, 0] = 0
    rows = np.stack([np.ones_like(place), -place])
    return np.einsum("iyx,jyx,yx->ij", rows, rows, weight)


@pytest.mark.parametrize("kind", [None, "white", "ring", "ring lost", "strip", "ring and white"])
@pytest.mark.parametrize("slope", [2.0, 3.2])
def test_level_and_slope_are_recovered_through_known_noise(kind, slope):
    """The mean of 200 fits is right within 5 standard errors, and they scatter as the information of one allows.

    But for the prior, which pulls: its score times the covariance, to first order.
    """
    level, count = 0.05, 200
    power = law(level, slope)
    noise = np.zeros(GRID.half_shape) if kind is None else spectra(GRID)[kind]
    y = fields(count, np.where(noise == inf, 30.0, power + noise), shape=SHAPE)
    found = fitted_law(y, as_power(noise), GRID)
    known = information(power, np.where(noise == inf, 1e9, noise))
    covariance = np.linalg.inv(known + np.diag([0, SLOPE_DEVIATION**-2]))
    pull = covariance @ [RAISED, (SLOPE - slope) / SLOPE_DEVIATION**2]
    deviation = np.sqrt(np.diag(covariance @ known @ covariance))
    errors = torch.stack([found.level.log() - np.log(level), found.slope - slope])[..., 0].numpy()
    assert np.all(np.abs(errors.mean(1) - pull) < 5 * deviation / count**0.5 + 0.1 * np.abs(pull))
    assert np.all(np.abs(errors.std(1) / deviation - 1) < 0.2)


def test_the_law_is_the_power_at_each_frequency():
    found = ImageLaw(torch.tensor([[0.5, 2.0]]), torch.tensor([[2.0, 3.0]])).power(GRID)
    for plane, (level, slope) in enumerate([(0.5, 2.0), (2.0, 3.0)]):
        np.testing.assert_allclose(found[0, plane], law(level, slope), rtol=1e-5)


def test_the_law_of_an_image_depends_on_neither_its_batch_nor_its_mean():
    y = fields(4, law(0.1, 2.5), shape=SHAPE, channels=3)
    noise = as_power(spectra(GRID)["ring"])
    together, moved = fitted_law(y, noise, GRID), fitted_law(y + 5, noise, GRID)
    for i in range(4):
        alone = fitted_law(y[i : i + 1], noise, GRID)
        torch.testing.assert_close(together.level[i : i + 1], alone.level)
        torch.testing.assert_close(together.slope[i : i + 1], alone.slope)
    torch.testing.assert_close(moved.level, together.level, rtol=1e-3, atol=0)


@given(st.integers(-20, 20), st.sampled_from(["white", "ring lost", "discs"]))
@settings(max_examples=20, deadline=None)
def test_the_unit_of_an_image_changes_its_power_by_its_square_and_nothing_else(exponent, kind):
    """By a power of two, which float32 multiplies without rounding, the results are equal bit for bit."""
    y, noise = fields(2, law(0.02, 2.9), shape=SHAPE), as_power(spectra(GRID)[kind])
    factor = 2.0**exponent
    plain, scaled = (fitted_law(a * y, a**2 * noise, GRID) for a in (1, factor))
    assert torch.equal(scaled.slope, plain.slope)
    assert torch.equal(scaled.level, factor**2 * plain.level)


@pytest.mark.parametrize(
    "y",
    [
        torch.zeros(1, 1, *SHAPE),
        torch.full((1, 1, *SHAPE), 0.7),
        fields(1, np.full(GRID.half_shape, 1e-12), shape=SHAPE),
        1e6 * fields(1, law(0.1, 2.9), shape=SHAPE),
        torch.eye(48)[None, None, :, :40],
    ],
    ids=["zero", "constant", "faint", "strong", "line"],
)
@pytest.mark.parametrize("kind", list(spectra(GRID)))
def test_every_image_has_a_spectrum(y, kind):
    """Also one that is drowned in noise, and one that has nothing but its mean."""
    power = image_power(y, as_power(spectra(GRID)[kind]))
    assert bool(((power > 0) & power.isfinite()).all())


@pytest.mark.parametrize("gamma", [3.0, 30.0])
def test_an_image_that_drowns_in_noise_is_not_taken_to_have_its_power(gamma):
    """Of the noise, the image is given at most a small part, whatever the noise looks like."""
    noise = np.full(GRID.half_shape, gamma**2)
    y = fields(20, law(1e-4, 2.9) + noise, shape=SHAPE)
    power = image_power(y, as_power(noise))
    shares = [GRID.mean(image[0].numpy() * (GRID.radius > 0)) / gamma**2 for image in power]
    assert max(shares) < 0.2


@pytest.mark.parametrize("side", range(1, 16))
def test_the_smallest_images_have_spectra(side):
    for shape in ((side, side), (side, 1), (1, side), (15, side)):
        grid = FrequencyGrid(shape)
        for power in (np.ones(grid.half_shape), np.zeros(grid.half_shape)):
            y = fields(3, power, shape=shape) + 0.5
            found = image_power(y, torch.full((1, 1, *grid.half_shape), 0.01))
            assert found.shape == (3, 1, *grid.half_shape)
            assert bool(((found > 0) & found.isfinite()).all())


def test_a_plane_without_content_has_a_small_part_of_the_power_of_the_others():
    """As the two colour differences of a grey image have."""
    y = fields(1, law(0.1, 2.9), shape=SHAPE, channels=3)
    y[:, 1:] = 0
    power = image_power(y, torch.zeros(1, 1, *GRID.half_shape)).mean((-2, -1))[0]
    assert 0 < float(power[1:].max()) < 1e-5 * float(power[0])


def test_what_the_images_have_besides_is_not_taken_for_theirs_but_belongs_to_them():
    """S is the fitted law plus the power of what they are known to have."""
    own, noise = spectra(GRID)["ring"], spectra(GRID)["white"]
    y = fields(200, law(0.02, 2.9) + own + noise, shape=SHAPE)
    found = image_power(y, as_power(noise), as_power(own)).mean((0, 1)).numpy()
    known = fitted_law(y, as_power(own + noise), GRID).power(GRID).mean((0, 1)).numpy()
    np.testing.assert_allclose(found - known, own, atol=1e-5 * found.max())


def test_large_images_are_fitted_by_some_of_their_frequencies():
    """The same law, within what so many frequencies allow."""
    shape = (720, 512)
    grid = FrequencyGrid(shape)
    assert np.prod(grid.half_shape) > 2 * MOST_FITTED
    power = law(0.02, 2.6, grid)
    found = fitted_law(fields(1, power, shape=shape), torch.zeros(1, 1, *grid.half_shape), grid)
    level, slope = np.sqrt(2 * np.diag(np.linalg.inv(information(power, 0 * power, grid))))
    assert abs(float(found.level.log()) - np.log(0.02)) < 5 * level
    assert abs(float(found.slope) - 2.6) < 5 * slope
