"""What is kept of the noise of images."""

import numpy as np
import pytest

from sagd_cli.config.noise_spectrum import NoiseSpectrum
from sagd_cli.errors import ConfigError
from sagd_cli.restoration.prepared import check_frequencies, noisy_bins
from sagd_cli.spectral.grid import FrequencyGrid


@pytest.mark.parametrize("shape", [(16, 16), (9, 31), (12, 18)])
def test_noisy_bins_are_those_with_power(shape):
    noise = NoiseSpectrum.parse("0.3:0.6:level=0.5+stripe:horizontal,0,0:level=0.1")
    found, expected = noisy_bins(noise, shape), noise.power(FrequencyGrid(shape)) > 0
    assert found.dtype == bool and 0 < expected.mean() < 1
    np.testing.assert_array_equal(found, expected)


def test_noise_without_a_frequency_is_refused():
    noise = NoiseSpectrum.parse("0.31:0.32:level=1")
    check_frequencies(noise, (64, 64))
    with pytest.raises(ConfigError):
        check_frequencies(noise, (4, 4))
