"""The strength of in-band noise, against noise of known strength."""

import math

import numpy as np
import pytest
from sklearn.datasets import load_digits
from support.synthetic import gaussian_fields

from sagd_cli.damage.fields import make_fields
from sagd_cli.damage.groups import Groups
from sagd_cli.damage.likelihood import Reference, strength_from_power_law, strength_from_reference
from sagd_cli.damage.strength import Strength
from sagd_cli.errors import DataError
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.spectrum import crop_spectrum, power_spectrum

SHAPE = (24, 31)
GRID = FrequencyGrid(SHAPE)
LAW = 0.02 * np.maximum(GRID.radius, 1e-2) ** -2
DIGITS = load_digits().images[:, None] / 8 - 1
DIGITS_GRID = FrequencyGrid((8, 8))


def groups_of(band, grid=GRID):
    return Groups(grid, Band.parse(band).mask(grid).astype(float))


def reference_of(groups, images):
    return Reference(groups.powers(images), len(images))


def together(powers, groups, reference):
    return strength_from_reference(powers.mean(axis=0), len(powers), groups, reference)


def alone(power, groups, reference):
    """As a Gauge does: an image whose band is attenuated has no noise."""
    try:
        return strength_from_reference(power, 1, groups, reference)
    except DataError:
        return Strength(0.0, 0.0, 0.0)


def covers(strength, gamma):
    return strength.low <= gamma <= strength.high


def test_power_spectrum_of_white_noise_is_its_variance_at_every_frequency():
    grid = FrequencyGrid((9, 12))
    fields = 3 * np.random.default_rng(0).standard_normal((4000, 9, 12))
    for hann in (False, True):
        power = power_spectrum(fields, grid, hann)
        # A self-conjugate bin is chi-squared with one degree of freedom: deviation sqrt(2) 9 / sqrt(count).
        assert np.all(np.abs(power - 9) < 5 * np.sqrt(2) * 9 / np.sqrt(4000))


@pytest.mark.parametrize("band", ["high", "mid", "0.3:0.6", "stripe:horizontal"])
@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 2.0])
def test_both_intervals_cover_the_truth_on_power_law_data(band, gamma):
    """Nominally 95 %: at least 15 of 20 (a binomial deviate of more than 4 deviations)."""
    groups = groups_of(band)
    covered = {"reference": 0, "law": 0}
    for seed in range(20):
        clean = reference_of(groups, gaussian_fields(40, SHAPE, LAW, 1000 + seed))
        damaged = groups.powers(gaussian_fields(30, SHAPE, LAW + gamma**2 * groups.band, seed))
        reference = together(damaged, groups, clean)
        fitted = strength_from_power_law(damaged.mean(axis=0), 30, groups)
        covered["reference"] += covers(reference, gamma)
        covered["law"] += covers(fitted, gamma)
        if gamma >= 0.5:
            tolerance = 0.25 if band.startswith("stripe") else 0.1
            assert reference.value == pytest.approx(gamma, rel=tolerance)
            assert fitted.value == pytest.approx(gamma, rel=tolerance)
    assert covered["law"] >= 15 and covered["reference"] >= 15


@pytest.mark.parametrize("band", ["high", "mid", "low", "0.3:0.6"])
def test_intervals_cover_the_truth_on_digits_of_other_writers(band):
    """At least 90 %: fewer than 18 of 24 would be 2.5 deviations below that."""
    groups = groups_of(band, DIGITS_GRID)
    reference = reference_of(groups, DIGITS[:1500])
    random = np.random.default_rng(0)
    for gamma in (0.0, 0.2, 0.5, 1.0, 2.0):
        found = []
        for seed in range(24):
            images = DIGITS[random.choice(np.arange(1500, 1797), 100, replace=False)]
            noise = gaussian_fields(100, (8, 8), groups.band, [seed, 1])
            found.append(together(groups.powers(images + gamma * noise), groups, reference))
        assert sum(covers(strength, gamma) for strength in found) >= 18
        if gamma == 0:
            assert sum(strength.found for strength in found) <= 5
        half_width = np.median([strength.high - strength.low for strength in found]) / 2
        if gamma >= 1:
            assert half_width < (0.5 if band == "low" else 0.1) * gamma


@pytest.mark.parametrize("gamma", [0.0, 0.2, 1.0])
def test_each_image_has_an_interval_that_covers(gamma):
    for groups, clean, damaged in [
        (
            groups_of("high", DIGITS_GRID),
            DIGITS[:1500],
            DIGITS[1500:] + gamma * gaussian_fields(297, (8, 8), groups_of("high", DIGITS_GRID).band, 0),
        ),
        (
            groups_of("mid"),
            gaussian_fields(300, SHAPE, LAW, 1),
            gaussian_fields(300, SHAPE, LAW + gamma**2 * groups_of("mid").band, 2),
        ),
    ]:
        reference = reference_of(groups, clean)
        found = [alone(power, groups, reference) for power in groups.powers(damaged)]
        # Independent trials, 90 % asked for: 82 % is more than 4 deviations below.
        assert np.mean([covers(strength, gamma) for strength in found]) > 0.82
        if gamma == 0:
            assert np.mean([strength.found for strength in found]) < 0.1
        if gamma == 1:
            assert np.median([strength.value for strength in found]) == pytest.approx(1, rel=0.1)
    law = [strength_from_power_law(power, 1, groups) for power in groups.powers(damaged)]
    assert np.mean([covers(strength, gamma) for strength in law]) > 0.82


def erased(images, band, grid=DIGITS_GRID):
    mask = Band.parse(band).mask(grid)
    return np.fft.irfft2(np.fft.rfft2(images) * ~mask, s=grid.shape)


@pytest.mark.parametrize("band", ["high", "mid", "low"])
def test_an_erased_band_is_lost(band):
    groups = groups_of(band, DIGITS_GRID)
    reference = reference_of(groups, DIGITS[:1500])
    powers = groups.powers(np.round(erased(DIGITS[1500:], band) * 127.5) / 127.5)
    found = together(powers, groups, reference)
    assert found.lost and math.isinf(found.value) and math.isinf(found.level)
    assert all(alone(power, groups, reference).lost for power in powers)


@pytest.mark.parametrize(("gamma", "lost"), [(2.0, False), (30.0, True)])
def test_a_drowned_band_is_lost_and_its_strength_still_known(gamma, lost):
    groups = groups_of("high", DIGITS_GRID)
    noise = gaussian_fields(297, (8, 8), groups.band, 0)
    damaged = groups.powers(DIGITS[1500:] + gamma * noise)
    found = together(damaged, groups, reference_of(groups, DIGITS[:1500]))
    assert found.lost == lost and covers(found, gamma)
    assert found.level == (math.inf if lost else found.value)


def test_an_attenuated_band_is_neither_noise_nor_lost():
    groups = groups_of("mid", DIGITS_GRID)
    damaged = 0.7 * erased(DIGITS[1500:], "mid") + 0.3 * DIGITS[1500:]
    with pytest.raises(DataError, match="attenuated"):
        together(groups.powers(damaged), groups, reference_of(groups, DIGITS[:1500]))


def test_constant_images_are_said_to_be_so():
    groups = groups_of("high", DIGITS_GRID)
    constant = groups.powers(np.full((3, 1, 8, 8), 0.3))
    with pytest.raises(DataError, match="constant"):
        together(constant, groups, reference_of(groups, DIGITS[:1500]))
    with pytest.raises(DataError, match="constant"):
        strength_from_power_law(constant.mean(axis=0), 3, groups)


def test_noise_on_constant_references_is_all_that_there_is():
    groups = groups_of("high", DIGITS_GRID)
    noise = groups.powers(0.5 * gaussian_fields(50, (8, 8), groups.band, 0))
    found = together(noise, groups, reference_of(groups, np.full((20, 1, 8, 8), 0.3)))
    assert covers(found, 0.5) and found.value == pytest.approx(0.5, rel=0.1)


def test_a_band_that_leaves_nothing_to_fit_is_said_so():
    grid = FrequencyGrid((16, 16))
    groups = Groups(grid, np.ones(grid.half_shape))
    with pytest.raises(DataError, match="too few frequencies"):
        strength_from_power_law(np.ones(len(groups.noise)), 5, groups)


@pytest.mark.parametrize("band", ["mid", "stripe:horizontal", "notch:0.2,0.1,0.02"])
def test_crops_see_the_spectrum_that_is_computed_for_them(band):
    """Within 5 standard errors at every frequency."""
    whole, crop = FrequencyGrid((60, 75)), FrequencyGrid((12, 15))
    mask = Band.parse(band).mask(whole).astype(float)
    crops = gaussian_fields(2000, whole.shape, mask, 0)[:, :, 20:32, 20:35]
    seen, expected = power_spectrum(crops, crop, hann=True), crop_spectrum(mask, whole, crop)
    # A self-conjugate bin is chi-squared with one degree of freedom.
    assert np.all(np.abs(seen - expected) < 5 * np.sqrt(2 / 2000) * expected + 1e-6)


@pytest.mark.parametrize(("band", "gamma"), [("mid", 0.3), ("mid", 0.7), ("stripe:horizontal", 0.7)])
def test_crops_of_large_fields_give_the_strength_too(band, gamma):
    """The taper smears the band over its neighbours; what it smears is known."""
    grid, crop = FrequencyGrid((384, 384)), FrequencyGrid((128, 128))
    mask = Band.parse(band).mask(grid).astype(float)
    law = 0.02 * np.maximum(grid.radius, 1e-2) ** -2
    groups = Groups(crop, crop_spectrum(mask, grid, crop), hann=True, lowest=6 / 128)
    covered = 0
    for seed in range(20):
        (image,) = gaussian_fields(1, grid.shape, law + gamma**2 * mask, seed).astype(np.float32)
        fields = make_fields([image])
        powers = groups.powers(fields.values)
        found = strength_from_power_law(powers.mean(axis=0), fields.independent, groups)
        assert found.value == pytest.approx(gamma, rel=0.15 if band == "mid" else 0.5)
        covered += covers(found, gamma)
    assert covered >= 16
