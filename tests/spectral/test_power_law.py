"""The fitted exponent: unbiased on fields that are power laws, with standard errors that say how far it is off."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagd_cli.errors import DataError
from sagd_cli.spectral.annuli import Annuli
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.power_law import fit_power_law
from sagd_cli.spectral.spectrum import Spectrum, SpectrumAverage, hann_taper

laws = settings(deadline=None, derandomize=True, max_examples=25)


def power_law(beta, grid):
    """r^-beta on the half spectrum, 0 at DC."""
    radius = np.where(grid.radius > 0, grid.radius, 1.0)
    return np.where(grid.radius > 0, radius**-beta, 0.0)


def gaussian_fields(beta, shape, count, seed):
    """Periodic Gaussian fields (count, 1, *shape) whose power is r^-beta."""
    grid = FrequencyGrid(shape)
    axes = tuple(range(-len(shape), 0))
    xi = np.fft.rfftn(np.random.default_rng(seed).standard_normal((count, 1, *shape)), axes=axes)
    return np.fft.irfftn(xi * np.sqrt(power_law(beta, grid)), s=shape, axes=axes)


def measured(fields, tile, hann, **options):
    average = SpectrumAverage(tile, hann, **options)
    for field in fields:
        average.add(field)
    return average.result()


def exact(power, grid, hann=False):
    """The spectrum of infinitely many fields."""
    return Spectrum(grid, power, 2, 10**12, hann, Annuli(grid).mean(np.stack([power, power])))


def convolved(power, grid):
    """`power` circularly convolved with the Hann taper's power kernel, through autocovariances."""
    axes = tuple(range(grid.ndim))
    taper = np.ones(())
    for n in grid.shape:
        taper = np.multiply.outer(taper, hann_taper(n))
    kernel = np.abs(np.fft.rfftn(taper)) ** 2 / np.sum(taper**2)
    covariances = [np.fft.irfftn(s, s=grid.shape, axes=axes) for s in (power, kernel)]
    return np.fft.rfftn(covariances[0] * covariances[1], axes=axes).real


shapes = st.one_of(
    st.tuples(st.integers(24, 90)),
    st.tuples(st.integers(12, 40), st.integers(12, 40)),
    st.tuples(st.integers(10, 14), st.integers(10, 14), st.integers(10, 14)),
)


@given(shapes, st.floats(-2, 5), st.floats(-20, 20))
@laws
def test_an_exact_power_law_is_fitted_exactly(shape, beta, log_c):
    grid = FrequencyGrid(shape)
    power = np.exp(log_c) * power_law(beta, grid)
    for spectrum in (exact(power, grid), exact(convolved(power, grid), grid, hann=True)):
        fit = fit_power_law(spectrum)
        assert fit.beta == pytest.approx(beta, abs=1e-5)
        assert fit.log_c == pytest.approx(log_c, abs=1e-5)
        assert fit.beta_se == 0, "every replicate is the same"


@pytest.mark.slow
@pytest.mark.parametrize("beta", [0.5, 3])
@pytest.mark.parametrize("hann", [False, True])
def test_the_fit_is_within_two_standard_errors_and_unbiased(beta, hann):
    z = []
    for seed in range(100):
        fields = gaussian_fields(beta, (32, 32), 24, seed)
        fit = fit_power_law(measured(fields, (32, 32), hann, seed=seed))
        z.append((fit.beta - beta) / fit.beta_se)
    assert np.sum(np.abs(z) < 2) >= 90
    assert abs(np.mean(z)) < 3 / np.sqrt(100)
    assert 0.8 < np.std(z) < 1.25


@pytest.mark.parametrize("beta", [0.5, 2])
@pytest.mark.parametrize("hann", [False, True])
def test_the_level_is_unbiased_with_a_single_field(beta, hann):
    fits = [
        fit_power_law(measured(gaussian_fields(beta, (32, 32), 1, seed), (32, 32), hann))
        for seed in range(200)
    ]
    for name, true in (("beta", beta), ("log_c", 0.0)):
        values = np.array([getattr(fit, name) for fit in fits])
        assert abs(values.mean() - true) < 3 * values.std() / np.sqrt(200), name


@pytest.mark.parametrize("beta", [1, 2])
def test_tapered_tiles_of_large_fields_give_the_exponent_of_the_whole(beta):
    fields = gaussian_fields(beta, (150, 190), 12, 0)
    fit = fit_power_law(measured(fields, (32, 32), hann=True))
    assert abs(fit.beta - beta) < 3 * fit.beta_se
    assert fit.beta_se < 0.03


@given(st.floats(1e-6, 1e6), st.booleans())
@laws
def test_contrast_moves_the_level_only(contrast, hann):
    fields = gaussian_fields(2, (16, 16), 6, 0)
    one, other = (fit_power_law(measured(f, (16, 16), hann)) for f in (fields, contrast * fields))
    assert other.beta == pytest.approx(one.beta, abs=1e-6)
    assert other.beta_se == pytest.approx(one.beta_se, rel=1e-5)
    assert other.log_c - one.log_c == pytest.approx(2 * np.log(contrast), abs=1e-5)


def test_the_range_leaves_out_dc_the_corners_and_the_lobe_of_the_taper():
    fields = gaussian_fields(1, (32, 32), 2, 0)
    plain, tapered = (fit_power_law(measured(fields, (32, 32), hann)) for hann in (False, True))
    step = np.sqrt(2) / 32  # one bin in rho
    assert plain.low_rho == pytest.approx(step)
    assert tapered.low_rho == pytest.approx(2 * step)
    assert 0.6 < plain.high_rho == tapered.high_rho <= 0.5 * np.sqrt(2)
    grid = FrequencyGrid((32, 32))
    spoilt = np.where(grid.radius > 0.55, 1e3, power_law(1.5, grid))
    assert fit_power_law(exact(spoilt, grid)).beta == pytest.approx(1.5, abs=1e-5)


def test_one_image_has_no_standard_error_however_many_tiles_it_has():
    fit = fit_power_law(measured(gaussian_fields(1, (64, 64), 1, 0), (16, 16), hann=True))
    assert fit.beta_se is None
    assert abs(fit.beta - 1) < 0.3


@pytest.mark.parametrize("hann", [False, True])
@pytest.mark.parametrize("keep_mean", [False, True])
def test_constant_images_have_no_exponent(hann, keep_mean):
    fields = np.full((3, 1, 21, 17), 0.1)
    with pytest.raises(DataError, match="constant"):
        fit_power_law(measured(fields, (21, 17), hann, keep_mean=keep_mean))


def test_images_without_power_in_part_of_the_range_have_no_exponent():
    grid = FrequencyGrid((16, 16))
    with pytest.raises(DataError, match="no power at rho"):
        fit_power_law(exact(np.where(grid.radius > 0.3, 0.0, power_law(1, grid)), grid))


@pytest.mark.parametrize(("shape", "hann"), [((1, 1), False), ((3, 3), False), ((5, 5), True), ((6,), True)])
def test_a_field_with_fewer_than_three_annuli_is_too_small(shape, hann):
    with pytest.raises(DataError, match="too small"):
        fit_power_law(measured(np.random.default_rng(0).random((3, 1, *shape)), shape, hann))
