"""What is kept of the noise of images."""

import numpy as np
import pytest
from support.synthetic import natural, wave

from sagd_cli.config.noise_spectrum import NoiseSpectrum
from sagd_cli.errors import ConfigError
from sagd_cli.restoration.options import Omission
from sagd_cli.restoration.prepared import Prepared, check_frequencies, noisy_bins
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.system.console import Output


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


@pytest.mark.parametrize("other", ["notch:0.3,0.4,0.05", "0.9:1"])
def test_nothing_is_left_to_a_model_where_a_tone_goes_and_the_other_noise_has_no_power(other):
    image, tone = 0.2 * natural((96, 96), 1, beta=2.5), 0.3 * wave((96, 96), (0.12, 0.18))
    noise = NoiseSpectrum.parse(f"notch:0.12,0.18,0.05+{other}").with_levels([1.0, 0.0])
    prepared = Prepared(Omission(noise="auto"), noise, None, Output(quiet=True))
    ready, left = prepared.without_waves((image + tone).astype(np.float32), noise)
    assert left is None and np.sum((ready - image) ** 2) < 0.01 * np.sum(tone**2)
