"""The noise that corruption adds: what it is a function of, and where in the spectrum it lies."""

import numpy as np
import pytest

from sagd_cli.damage.corruption import Corruption
from sagd_cli.errors import ConfigError, UsageError
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.spectrum import power_spectrum

MID = Band.parse("mid")


def test_the_noise_is_a_function_of_the_seed_and_the_key():
    noise = Corruption(MID, 0.5, seed=1).noise((3, 16, 20), "a.png")
    np.testing.assert_array_equal(
        noise, Corruption(MID, 0.5, seed=1).noise((3, 16, 20), "a.png"), strict=True
    )
    assert noise.dtype == np.float32
    for other in (
        Corruption(MID, 0.5, 2).noise(noise.shape, "a.png"),
        Corruption(MID, 0.5, 1).noise(noise.shape, 0),
    ):
        assert not np.array_equal(noise, other)


def test_the_noise_has_its_strength_in_its_band_and_nothing_outside():
    grid = FrequencyGrid((32, 24))
    noise = np.stack([Corruption(MID, 0.5).noise((1, 32, 24), key) for key in range(400)])
    power = power_spectrum(noise[:, 0], grid)
    inside = MID.mask(grid)
    assert np.mean(power[inside]) == pytest.approx(0.25, rel=0.02) and power[~inside].max() < 1e-10
    double = Corruption(MID, 1.0).noise((1, 32, 24), 0)
    np.testing.assert_allclose(double, 2 * noise[0], rtol=1e-6)


@pytest.mark.parametrize("strength", [0.0, -1.0, float("inf"), float("nan")])
def test_a_strength_that_is_none_is_refused(strength):
    with pytest.raises(UsageError, match="must be positive and at most"):
        Corruption(MID, strength)


def test_a_band_without_frequencies_is_refused():
    with pytest.raises(ConfigError, match="no frequency"):
        Corruption(Band.parse("0.01:0.02"), 1.0).noise((1, 8, 8), 0)
