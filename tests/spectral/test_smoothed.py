"""Smoothed spectra: near the true one where a periodogram scatters, with lines and peaks as they are, on any grid."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagd_cli.spectral.filter import SpectralFilter
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.noise import SpectralNoise, random_stream
from sagd_cli.spectral.smoothed import smoothed_spectrum, spread_power
from sagd_cli.spectral.spectrum import power_spectrum

GRID = FrequencyGrid((128, 96))
PINK = (GRID.radius + 0.01) ** -2.0
ROWS = np.where(GRID.axes[1] == 0, 0.02 * GRID.shape[1], 0.01) * np.ones(GRID.half_shape)
PLACE = (20, 30)  # of a tone


def measured(power, count=1, seed=0):
    """The mean spectrum of drawn noise with `power`, about the means of the fields, and what is made of it."""
    noise = SpectralNoise(SpectralFilter.from_weight(GRID, np.sqrt(power)))
    fields = noise.draw((count, 1, *GRID.shape), random_stream("cpu", seed)).numpy()[:, 0].astype(float)
    found = power_spectrum(fields - fields.mean(axis=(1, 2), keepdims=True), GRID)
    return found, smoothed_spectrum(GRID.full(found), count)


def deviation(found, power):
    """Standard deviation of the logarithm, without DC."""
    return np.std(np.log(found.ravel()[1:] / power.ravel()[1:]))


@pytest.mark.parametrize("power", [np.full(GRID.half_shape, 0.01), PINK, ROWS], ids=["white", "pink", "rows"])
def test_the_scatter_of_one_image_goes_and_the_level_stays(power):
    found, smoothed = measured(power)
    assert deviation(found, power) > 1
    ratio = smoothed.power(GRID).ravel()[1:] / power.ravel()[1:]
    assert np.std(np.log(ratio)) < 0.2 and np.median(ratio) == pytest.approx(1, abs=0.08)


def test_more_images_leave_less_scatter():
    assert deviation(measured(PINK, 16)[1].power(GRID), PINK) < 0.06


def test_the_edge_of_a_ring_stays_sharp():
    power = (GRID.rho >= 0.5).astype(float)
    smoothed = measured(power, 8)[1].power(GRID)
    assert smoothed[power == 0].max() < 1e-5
    assert np.quantile(smoothed[power == 1], [0.02, 0.98]) == pytest.approx([1, 1], abs=0.3)


def test_a_tone_keeps_its_place_and_height():
    power = np.full(GRID.half_shape, 0.01)
    power[PLACE] = 50.0
    found, smoothed = measured(power)
    shown = smoothed.power(GRID)
    assert shown[PLACE] == pytest.approx(found[PLACE]) and len(smoothed.peaks[0]) == 2
    shown[PLACE] = 0.01
    assert shown[GRID.radius > 0.05].max() < 0.02


@pytest.mark.parametrize("shape", [(128, 192), (256, 48), (90, 70)])
def test_row_offsets_measured_on_other_columns_have_their_deviation(shape):
    """N = W s^2 on the axis f_x = 0 alone, W the columns of the image that the noise is in."""
    grid, deviation = FrequencyGrid(shape), 0.02**0.5
    shown = measured(ROWS, 16)[1].power(grid)
    axis, others = shown[1:, 0], shown[:, 1:]
    assert np.mean(axis) == pytest.approx(shape[1] * deviation**2, rel=0.1)
    assert np.mean(others) == pytest.approx(0.01, rel=0.05) and others.max() < 0.03


@pytest.mark.parametrize("shape", [(256, 192), (64, 48), (100, 70)])
def test_a_tone_on_another_grid_has_its_variance_and_place(shape):
    power = np.full(GRID.half_shape, 1e-4)
    power[PLACE] = 50.0
    grid = FrequencyGrid(shape)
    smoothed = measured(power)[1]
    shown = smoothed.power(grid)
    assert grid.mean(shown) == pytest.approx(GRID.mean(smoothed.power(GRID)), rel=1e-3)
    at = np.unravel_index(np.argmax(shown), shown.shape)
    found, true = (
        [f.flat[i] for f, i in zip(g.axes, p, strict=True)] for g, p in ((grid, at), (GRID, PLACE))
    )
    assert np.all(np.abs(np.subtract(found, true)) <= 0.5 / np.array(shape) + 1e-12)


@settings(deadline=None, max_examples=30)
@given(*[st.tuples(st.integers(1, 24), st.integers(1, 24)).filter(lambda shape: np.prod(shape) > 1)] * 2)
def test_any_grid_has_a_spectrum_of_real_noise_and_the_same_variance(old, new):
    first, second = FrequencyGrid(old), FrequencyGrid(new)
    fields = np.random.default_rng(sum(old)).normal(size=(1, *old))
    smoothed = smoothed_spectrum(first.full(power_spectrum(fields - fields.mean(), first)), 1)
    for grid in (first, second):
        shown = smoothed.power(grid)
        assert np.all(shown >= 0) and grid.is_symmetric(shown) and shown[0, 0] == 0
    # What the width of DC covers is left out.
    assert second.mean(smoothed.power(second)) <= first.mean(smoothed.power(first)) * (1 + 1e-9)


@pytest.mark.parametrize(
    ("old", "new"),
    [((96, 128), (32, 32)), ((96, 128), (31, 50)), ((20,), (7,)), ((12, 9, 8), (4, 4, 5))],
    ids=str,
)
def test_a_spectrum_is_spread_over_the_wider_frequencies_of_a_crop(old, new):
    """The variance stays, each frequency has the mean power over its width, and on its own grid it is itself."""
    grid, other = FrequencyGrid(old), FrequencyGrid(new)
    power = np.random.default_rng(0).exponential(size=grid.half_shape)
    power = (power + grid.mirrored(power)) / 2
    spread = spread_power(power, grid, other)
    assert other.mean(spread) == pytest.approx(grid.mean(power), rel=1e-12)
    assert other.is_symmetric(spread)
    assert np.array_equal(spread_power(power, grid, grid), power)
    flat = spread_power(np.ones(grid.half_shape), grid, other)
    np.testing.assert_allclose(flat, 1, rtol=1e-12)
    line = np.where(np.arange(grid.half_shape[-1]) == 0, 1.0, 0.0) * np.ones(grid.half_shape)
    seen = spread_power(line, grid, other)
    np.testing.assert_allclose(seen[..., 0], new[-1] / old[-1], rtol=1e-12)
    assert not seen[..., 1:].any()
