"""The strength in each part of a band, against planted noise."""

import numpy as np
import pytest
from support.synthetic import gaussian_fields

from sagd_cli.damage import thin
from sagd_cli.damage.thin import kind_strengths, part_strengths
from sagd_cli.errors import DataError
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.spectrum import power_spectrum

GRID = FrequencyGrid((192, 256))
LAW = 0.002 * np.maximum(GRID.radius, 1 / 256) ** -2
BAND = Band.parse("notch:0.125,0.3125,0.03+notch:-0.3,0.2,0.03+stripe:vertical,0.03+0.85:0.9")


def test_parts_have_strengths_of_their_own():
    """Nominally 95 %; fewer than 40 of 48 is 4 deviations below."""
    truth = np.array([0.2, 2.0, 0.5, 0.1])
    masks = [part.mask(GRID) for part in BAND.parts]
    assert not (masks[0] & masks[1]).any()
    added = np.max([g**2 * mask for g, mask in zip(truth, masks, strict=True)], axis=0)
    covered, values = 0, []
    for seed in range(12):
        field = gaussian_fields(1, GRID.shape, LAW + added, seed)
        found = part_strengths(power_spectrum(field, GRID, hann=True), 1, GRID, BAND)
        covered += sum(s.low <= g <= s.high for s, g in zip(found, truth, strict=True))
        values.append([s.value for s in found])
    assert covered >= 40
    assert np.mean(values, axis=0) == pytest.approx(truth, rel=0.15)


def test_no_noise_is_no_strength():
    field = gaussian_fields(1, GRID.shape, LAW, 0)
    found = part_strengths(power_spectrum(field, GRID, hann=True), 1, GRID, BAND)
    assert not any(strength.found for strength in found)


def test_constant_images_and_bands_without_surroundings_are_said_to_be_so():
    with pytest.raises(DataError, match="constant"):
        part_strengths(np.zeros(GRID.half_shape), 1, GRID, BAND)
    with pytest.raises(DataError, match="too few frequencies"):
        part_strengths(np.ones(GRID.half_shape), 1, GRID, Band.parse("0:1"))


def test_a_kind_that_nothing_is_around_does_not_hide_the_others():
    tone, wide = (Band.parse(text).mask(GRID).astype(float) for text in ("notch:0.125,0.3125,0.03", "0:0.2"))
    inner = np.where(GRID.rho < 0.05, wide, 0.0)
    power = power_spectrum(gaussian_fields(1, GRID.shape, LAW + 4 * tone, 3), GRID, hann=True)
    found = kind_strengths(power, 1, GRID, [wide, inner, tone])
    assert found[1].value == 0
    assert found[2].certain and found[2].value == pytest.approx(2, rel=0.3)


@pytest.mark.parametrize("shape", [(33,), (20, 31), (9, 10, 11)], ids=str)
@pytest.mark.parametrize("share", [0, 0.01, 0.2, 1])
def test_near_bins_are_those_within_the_reach_also_across_the_edges(shape, share):
    grid = FrequencyGrid(shape)
    mask = np.random.default_rng(0).random(grid.half_shape) < share
    places = np.argwhere(grid.full(mask))
    bins = np.argwhere(np.ones(grid.half_shape))
    apart = np.abs(bins[:, None] - places)
    distances = np.minimum(apart, np.array(shape) - apart)
    nearest = np.sqrt((distances**2).sum(-1)).min(axis=1, initial=np.inf)
    assert np.array_equal(thin._near(mask, grid, 3).ravel(), nearest <= 3)
