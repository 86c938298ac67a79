"""The strength of noise from blocks: noise is alike all over an image, and images are not."""

import numpy as np
import pytest
from support.synthetic import gaussian_fields

from sagd_cli.config.noise_spectrum import NoiseSpectrum
from sagd_cli.damage.blocks import surer
from sagd_cli.damage.fields import make_fields
from sagd_cli.damage.strength import Strength
from sagd_cli.spectral.grid import FrequencyGrid

SHAPE = (192, 256)
GRID = FrequencyGrid(SHAPE)
UNKNOWN = Strength(0.1, 0.0, 2.0)


def image(seed):
    """A field of a power law whose contrast differs by orders of magnitude from place to place."""
    law, smooth = 2.4e-4 * (GRID.radius + 0.005) ** -2.9, np.exp(-((GRID.radius / 0.01) ** 2))
    contrast = gaussian_fields(1, SHAPE, smooth * GRID.size / GRID.total(smooth), [seed, 1])[0]
    return gaussian_fields(1, SHAPE, law, seed)[0] * np.exp(1.5 * contrast - 1)


@pytest.mark.parametrize("kind", ["low", "powerlaw:alpha=-1"])
def test_noise_that_looks_like_images_is_found_where_it_is_and_not_where_it_is_not(kind):
    (unit,) = NoiseSpectrum.parse(kind).units(GRID)
    level = 0.2 / np.sqrt(GRID.mean(unit)) / (1 if kind != "low" else 2)
    found, clean = [], []
    for seed in range(3):
        noise = gaussian_fields(1, SHAPE, level**2 * unit, [seed, 2])[0]
        noisy, plain = (make_fields([x.astype(np.float32)]) for x in (image(seed) + noise, image(seed)))
        found.append(surer(UNKNOWN, noisy, unit))
        clean.append(surer(UNKNOWN, plain, unit))
    assert sum(s.low <= level <= s.high for s in found) >= 2
    assert [s.value for s in found] == pytest.approx([level] * 3, rel=0.25)
    assert max(s.cautious for s in clean) < 0.1 * level


def test_what_is_certain_and_fields_without_blocks_are_left_as_they_are():
    unit = np.ones(GRID.half_shape)
    fields = make_fields([image(0).astype(np.float32)])
    certain = Strength(0.3, 0.25, 0.35)
    assert surer(certain, fields, unit) == certain
    small = make_fields([np.ones((1, 28, 28), np.float32) * np.linspace(0, 1, 28, dtype=np.float32)] * 60)
    assert surer(UNKNOWN, small, np.ones((28, 15))) == UNKNOWN
    constant = make_fields([np.zeros((1, *SHAPE), np.float32)])
    assert surer(UNKNOWN, constant, unit) == UNKNOWN


def test_a_texture_that_is_alike_all_over_is_no_noise_where_the_spectrum_contradicts():
    law = 2.4e-4 * (GRID.radius + 0.005) ** -2.9
    fields = make_fields([gaussian_fields(1, SHAPE, law, 1)[0].astype(np.float32)])
    spectrum = Strength(0.005, 0.0, 0.015)
    assert surer(spectrum, fields, np.ones(GRID.half_shape)).value <= spectrum.high
