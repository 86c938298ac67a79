"""Frequencies and bands: the half spectrum stands for the full one, and bands partition it."""

from fractions import Fraction
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagd_cli.errors import ConfigError
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.region import PRESETS, indicator

laws = settings(deadline=None, derandomize=True, max_examples=60)
shapes = st.lists(st.integers(1, 12), min_size=1, max_size=3).map(tuple)
units = st.sampled_from(["rho", "nyquist", "cycles"])


def full_radius(shape):
    """r(f) in cycles/sample on the full spectrum, as MATH 1 writes it."""
    return np.sqrt(sum(f**2 for f in np.meshgrid(*map(np.fft.fftfreq, shape), indexing="ij")))


def half(full):
    """The bins of a full spectrum that rfftn stores."""
    return full[..., : full.shape[-1] // 2 + 1]


def full_mirror(full):
    """A full spectrum at -f."""
    return full[np.ix_(*[-np.arange(n) % n for n in full.shape])]


def symmetric(shape, seed):
    """A random spectrum on the full grid with S(f) = S(-f)."""
    s = np.random.default_rng(seed).random(shape)
    return s + full_mirror(s)


@given(shapes)
@laws
def test_radius_is_that_of_the_full_spectrum_and_rho_is_its_share_of_the_corner(shape):
    grid = FrequencyGrid(shape)
    r = half(full_radius(shape))
    np.testing.assert_allclose(grid.radius, r, rtol=1e-14, atol=0)
    np.testing.assert_allclose(grid.rho, r / (np.sqrt(len(shape)) / 2), rtol=1e-14, atol=0)
    assert grid.rho.min() == grid.rho.flat[0] == 0
    assert grid.rho.max() <= 1
    if all(n % 2 == 0 for n in shape):
        assert grid.rho[tuple(n // 2 for n in shape)] == pytest.approx(1, abs=1e-15)


@given(shapes, st.integers(0, 99))
@laws
def test_half_spectrum_stands_for_the_full_one(shape, seed):
    grid = FrequencyGrid(shape)
    assert set(np.unique(grid.multiplicity)) <= {1.0, 2.0}
    assert grid.total(np.ones(grid.half_shape)) == grid.multiplicity.sum() == grid.size == np.prod(shape)
    s = symmetric(shape, seed)
    assert grid.total(half(s)) == pytest.approx(s.sum(), rel=1e-13)
    assert grid.mean(half(s)) == pytest.approx(s.mean(), rel=1e-13)
    x = np.random.default_rng(seed).standard_normal(shape)
    assert grid.mean(np.abs(np.fft.rfftn(x)) ** 2) == pytest.approx(np.sum(x**2), rel=1e-12), "Parseval"


@given(shapes, st.integers(0, 99))
@laws
def test_mirrored_is_an_involution_and_the_mirror_of_the_full_spectrum(shape, seed):
    grid = FrequencyGrid(shape)
    full = np.random.default_rng(seed).random(shape)
    np.testing.assert_array_equal(grid.mirrored(grid.mirrored(half(full))), half(full))
    own = grid.multiplicity[(0,) * grid.ndim] == grid.multiplicity  # the bins whose mirror is stored too
    np.testing.assert_array_equal(grid.mirrored(half(full))[own], half(full_mirror(full))[own])
    s = half(symmetric(shape, seed))
    np.testing.assert_array_equal(grid.mirrored(s)[own], s[own])


@given(shapes)
@laws
def test_units_agree_by_their_conversion(shape):
    rho, nyquist, cycles = (FrequencyGrid(shape, unit) for unit in ("rho", "nyquist", "cycles"))
    corner = np.sqrt(len(shape))
    np.testing.assert_allclose(nyquist.radial, rho.radial * corner, rtol=1e-14)
    np.testing.assert_allclose(cycles.radial, rho.radial * corner / 2, rtol=1e-14)
    assert (rho.radial_max, nyquist.radial_max, cycles.radial_max) == (1, corner, corner / 2)


@given(shapes, units, st.lists(st.floats(0.001, 0.999), max_size=9, unique=True))
@laws
def test_bands_partition_the_spectrum(shape, unit, cuts):
    grid = FrequencyGrid(shape, unit)
    edges = grid.radial_max * np.array([0, *sorted(cuts), 1])
    inside = [indicator(a, b, grid) for a, b in pairwise(edges)]
    np.testing.assert_array_equal(np.sum(inside, axis=0), 1)
    last = indicator(edges[-2], edges[-1], grid)
    assert np.all(last[grid.radial >= edges[-2]]), "the corner belongs to the band that ends there"


@given(shapes, units, st.data())
@laws
def test_bands_cut_at_the_radii_of_bins_partition_the_spectrum_and_are_half_open(shape, unit, data):
    grid = FrequencyGrid(shape, unit)
    inner = np.unique(grid.radial[(grid.radial > 0) & (grid.rho < 1 - 1e-6)].round(9))
    if len(inner) == 0:
        return
    cut = data.draw(st.sampled_from(inner.tolist()))
    below, above = indicator(0, cut, grid), indicator(cut, grid.radial_max, grid)
    np.testing.assert_array_equal(below ^ above, True)
    on_the_edge = np.abs(grid.radial - cut) < 1e-12
    assert np.all(above[on_the_edge])
    assert not np.any(below[on_the_edge])


@pytest.mark.parametrize(
    "shape", [(64,), (20,), (32, 32), (20, 20), (30, 16), (8, 8, 8), (12, 12, 12), (31, 17)]
)
@pytest.mark.parametrize("parts", [8, 10])
def test_equal_bands_hold_the_bins_that_exact_arithmetic_puts_there(shape, parts):
    grid = FrequencyGrid(shape)
    squares = [[Fraction(min(i, n - i), n) ** 2 for i in range(n)] for n in shape]
    squares[-1] = squares[-1][: shape[-1] // 2 + 1]
    rho_squared = np.empty(grid.half_shape, dtype=object)
    for index in product(*map(range, grid.half_shape)):
        rho_squared[index] = 4 * sum(s[i] for s, i in zip(squares, index, strict=True)) / len(shape)
    for k in range(parts):
        exact = rho_squared >= Fraction(k, parts) ** 2
        if k < parts - 1:
            exact &= rho_squared < Fraction(k + 1, parts) ** 2
        np.testing.assert_array_equal(
            indicator(k / parts, (k + 1) / parts, grid), exact, f"band {k} of {parts}"
        )


@given(shapes)
@laws
def test_presets_partition_the_spectrum(shape):
    grid = FrequencyGrid(shape)
    np.testing.assert_array_equal(np.sum([indicator(*b, grid) for b in PRESETS.values()], axis=0), 1)
    np.testing.assert_array_equal(Band.parse("low+mid+high").mask(grid), True)


@given(shapes, st.sampled_from(["nyquist", "cycles"]))
@laws
def test_a_named_band_is_in_rho_whatever_the_units_of_the_grid(shape, unit):
    low = Band.parse("low")
    np.testing.assert_array_equal(low.mask(FrequencyGrid(shape, unit)), low.mask(FrequencyGrid(shape)))


@pytest.mark.parametrize("text", ["low", "0.125:0.25", "low+high", "0:0.1+0.7:1"])
def test_a_band_reads_back_as_it_is_written(text):
    assert Band.parse(str(Band.parse(text))) == Band.parse(text)


@pytest.mark.parametrize(
    "text", ["", "lo", "0.5", "0.5:0.5", "0.7:0.2", "-0.1:0.5", "0.5:1.1", "a:b", "nan:1", "low+"]
)
def test_a_band_that_is_not_one_is_refused(text):
    with pytest.raises(ConfigError):
        Band.parse(text)


def test_a_band_without_frequencies_is_refused():
    with pytest.raises(ConfigError, match="no frequency"):
        Band.parse("0.01:0.02").mask(FrequencyGrid((8, 8)))


@pytest.mark.parametrize("shape", [(), (0,), (4, 0), (2, 2, 2, 2)])
def test_a_shape_without_a_spectrum_is_refused(shape):
    with pytest.raises(ConfigError):
        FrequencyGrid(shape)


def test_an_unknown_unit_is_refused():
    with pytest.raises(ConfigError, match="unit"):
        FrequencyGrid((8,), "hertz")
