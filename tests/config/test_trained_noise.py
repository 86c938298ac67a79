"""Noise that a run is trained for: a BAND counts once where its pieces overlap, a NOISE is a sum."""

import numpy as np
import pytest

from sagd_cli.config.noise_spectrum import NoiseSpectrum
from sagd_cli.config.trained_noise import trained_noise
from sagd_cli.errors import ConfigError
from sagd_cli.spectral.grid import FrequencyGrid

GRID = FrequencyGrid((16, 16))


class Flat:
    """Measured noise of power 3."""

    def power(self, grid):
        return np.full(grid.half_shape, 3.0)

    def __str__(self):
        return "from:flat.tif"


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("mid", "mid:level=1"),
        ("0.2:0.6+0.5:0.9", "0.2:0.9:level=1"),
        ("0.2:0.6+0.5:0.9:level=2", "0.2:0.6:level=1+0.5:0.9:level=2"),
        ("white", "white:level=1"),
        ("(0.2:0.6+0.5:0.9)+white:level=0.5", "0.2:0.9:level=1+white:level=0.5"),
    ],
)
def test_what_has_no_level_has_level_1(text, same):
    assert np.array_equal(trained_noise(text).power(GRID), NoiseSpectrum.parse(same).power(GRID))


def test_measured_noise_is_named_and_found_where_it_was_measured():
    text = "white:level=0.5+from:flat.tif:level=2"
    named = trained_noise(text)
    assert (str(named), named.levels) == (text, [0.5, 2])
    with pytest.raises(ConfigError, match="was not measured"):
        named.power(GRID)
    np.testing.assert_allclose(trained_noise(text, {"flat.tif": Flat()}).power(GRID), 12.25)
    with pytest.raises(ConfigError, match="unknown noise 'wite'"):
        trained_noise("wite:level=1")
