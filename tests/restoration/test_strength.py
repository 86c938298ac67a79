"""The strength of in-band noise, against noise of known strength."""

import numpy as np
import pytest

from sagd_cli.errors import DataError
from sagd_cli.restoration.fields import make_fields
from sagd_cli.restoration.strength import strength_from_power_law, strength_from_reference
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.spectrum import power_spectrum


def gaussian_fields(count, shape, power, seed):
    """Gaussian fields whose power spectrum is `power` (half spectrum)."""
    white = np.random.default_rng(seed).standard_normal((count, *shape))
    axes = (-2, -1)
    return np.fft.irfftn(np.fft.rfftn(white, axes=axes) * np.sqrt(power), s=shape, axes=axes)


def test_power_spectrum_of_white_noise_is_its_variance_at_every_frequency():
    grid = FrequencyGrid((9, 12))
    fields = 3 * np.random.default_rng(0).standard_normal((4000, 9, 12))
    for hann in (False, True):
        power = power_spectrum(fields, grid, hann)
        # A self-conjugate bin is chi-squared with one degree of freedom: deviation sqrt(2) 9 / sqrt(count).
        assert np.all(np.abs(power - 9) < 5 * np.sqrt(2) * 9 / np.sqrt(4000))


@pytest.mark.parametrize("band", ["high", "mid", "0.3:0.6"])
@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 2.0])
def test_both_intervals_cover_the_truth_on_power_law_data(band, gamma):
    """Nominally 95 %: at least 15 of 20 (a binomial deviate of more than 4 deviations)."""
    grid = FrequencyGrid((24, 31))
    mask = Band.parse(band).mask(grid)
    law = 0.02 * np.maximum(grid.radius, 1e-2) ** -2
    covered = {"reference": 0, "law": 0}
    for seed in range(20):
        clean = power_spectrum(gaussian_fields(40, grid.shape, law, 1000 + seed), grid)
        power = power_spectrum(gaussian_fields(30, grid.shape, law + gamma**2 * mask, seed), grid)
        reference = strength_from_reference(power, 30, clean, 40, grid, mask.astype(float))
        fitted = strength_from_power_law(power, 30, grid, mask.astype(float))
        covered["reference"] += reference.low <= gamma <= reference.high
        covered["law"] += fitted.low <= gamma <= fitted.high
        if gamma >= 0.5:
            assert reference.value == pytest.approx(gamma, rel=0.1)
            assert fitted.value == pytest.approx(gamma, rel=0.1)
    assert covered["law"] >= 15 and covered["reference"] >= 15


def test_a_band_that_leaves_nothing_to_fit_is_said_so():
    grid = FrequencyGrid((16, 16))
    with pytest.raises(DataError, match="too few frequencies"):
        strength_from_power_law(np.ones(grid.half_shape), 5, grid, np.ones(grid.half_shape))


@pytest.mark.parametrize("gamma", [0.3, 0.7])
def test_crops_of_large_fields_give_the_strength_too(gamma):
    """The taper smears the band over its neighbours; the law of what it smears is known."""
    shape = (192, 192)
    grid = FrequencyGrid(shape)
    band = Band.parse("mid")
    law = 0.02 * np.maximum(grid.radius, 1e-2) ** -2
    covered = 0
    for seed in range(12):
        image = gaussian_fields(1, shape, law + gamma**2 * band.mask(grid), seed).astype(np.float32)
        fields = make_fields([image])
        small = FrequencyGrid(fields.shape)
        found = strength_from_power_law(
            fields.spectrum(), fields.independent, small, fields.noise_spectrum(band), fields.lowest
        )
        assert found.value == pytest.approx(gamma, rel=0.15)
        covered += found.low <= gamma <= found.high
    assert covered >= 9
