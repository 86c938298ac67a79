"""Frequencies: the half spectrum stands for the full one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagd_cli.errors import ConfigError
from sagd_cli.spectral.grid import FrequencyGrid

laws = settings(deadline=None, derandomize=True, max_examples=60)
shapes = st.lists(st.integers(1, 12), min_size=1, max_size=3).map(tuple)


def full_radius(shape):
    """r(f) in cycles/sample on the full spectrum, as docs/theory.md, section 1, writes it."""
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


@pytest.mark.parametrize("shape", [(), (0,), (4, 0), (2, 2, 2, 2)])
def test_a_shape_without_a_spectrum_is_refused(shape):
    with pytest.raises(ConfigError):
        FrequencyGrid(shape)


def test_an_unknown_unit_is_refused():
    with pytest.raises(ConfigError, match="unit"):
        FrequencyGrid((8,), "hertz")
