"""Regions: radial bands partition the spectrum, discs live on the torus, strips lie where stripes have their power."""

from fractions import Fraction
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagd_cli.errors import ConfigError
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.region import PRESETS, disc, indicator, strip

laws = settings(deadline=None, derandomize=True, max_examples=60)
shapes = st.lists(st.integers(1, 12), min_size=1, max_size=3).map(tuple)
units = st.sampled_from(["rho", "nyquist", "cycles"])
frequency = st.one_of(
    st.integers(-500, 500).map(lambda k: k / 1000), st.integers(-32, 32).map(lambda k: k / 64)
)
radii = st.integers(1, 500).map(lambda k: k / 1000)
transitions = st.one_of(st.just(0), st.integers(1, 500).map(lambda k: k / 1000))


@st.composite
def shapes_and_centers(draw):
    shape = draw(shapes)
    return shape, draw(st.lists(frequency, min_size=len(shape), max_size=len(shape)))


def distance_to_any_copy(center, shape):
    """Distance on the full spectrum to the nearest of `center`, its mirror and their copies a period away."""
    places = np.stack(np.meshgrid(*map(np.fft.fftfreq, shape), indexing="ij"), axis=-1)
    copies = [
        sign * np.array(center) + period
        for sign in (1, -1)
        for period in product((-1, 0, 1), repeat=len(center))
    ]
    return np.min([np.linalg.norm(places - copy, axis=-1) for copy in copies], axis=0)


def share_of_power(image, weight):
    """Share of the power of `image` without DC where `weight` is 1."""
    grid = FrequencyGrid(image.shape)
    power = np.abs(np.fft.rfftn(image)) ** 2
    power.flat[0] = 0
    return grid.total(power * weight) / grid.total(power)


# -- radial bands ---------------------------------------------------------------------------------------


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


# -- discs ----------------------------------------------------------------------------------------------


@given(shapes_and_centers(), radii)
@laws
def test_a_disc_holds_what_lies_within_its_radius_on_the_torus_and_at_least_the_nearest(case, radius):
    shape, center = case
    grid = FrequencyGrid(shape)
    distance = distance_to_any_copy(center, shape)
    expected = distance <= max(radius, distance.min()) + 1e-9
    drawn = disc(center, radius, grid)
    np.testing.assert_array_equal(grid.full(drawn), expected)
    assert grid.total(drawn) >= 1


@given(shapes_and_centers(), radii, transitions)
@laws
def test_a_disc_is_symmetric_and_the_same_about_the_mirror_and_about_a_copy_a_period_away(
    case, radius, transition
):
    shape, center = case
    grid = FrequencyGrid(shape)
    drawn = disc(center, radius, grid, transition)
    assert grid.is_symmetric(drawn)
    np.testing.assert_allclose(disc(np.negative(center), radius, grid, transition), drawn, atol=1e-12)
    wrapped = [-f if abs(f) == 0.5 else f for f in center]
    np.testing.assert_allclose(disc(wrapped, radius, grid, transition), drawn, atol=1e-12)


@given(shapes_and_centers(), radii, st.integers(1, 500).map(lambda k: k / 1000))
@laws
def test_the_edge_of_a_disc_falls_from_1_to_0_over_its_width(case, radius, transition):
    shape, center = case
    grid = FrequencyGrid(shape)
    distance = distance_to_any_copy(center, shape)
    drawn = grid.full(disc(center, radius, grid, transition))
    edge = max(radius, distance.min())
    np.testing.assert_allclose(drawn[distance <= edge - transition / 2], 1, atol=1e-12)
    np.testing.assert_allclose(drawn[distance >= edge + transition / 2], 0, atol=1e-12)
    order = np.argsort(distance, axis=None, kind="stable")
    assert np.all(np.diff(drawn.ravel()[order]) <= 1e-12)


@given(st.lists(st.integers(1, 6).map(lambda k: 2 * k), min_size=1, max_size=3).map(tuple), radii)
@laws
def test_a_disc_about_the_corner_holds_as_many_bins_as_one_about_dc(shape, radius):
    grid = FrequencyGrid(shape)
    corner, origin = ([f] * len(shape) for f in (0.5, 0.0))
    assert grid.total(disc(corner, radius, grid)) == grid.total(disc(origin, radius, grid))


def test_the_weight_at_the_radius_of_a_soft_disc_is_one_half():
    """Bins of a line of 64 are 1/64 apart: the disc about bin 16 of radius 4/64 and edge 4/64."""
    drawn = disc([0.25], 4 / 64, FrequencyGrid((64,)), 4 / 64)
    assert drawn[[10, 11, 12, 13, 14, 16]] == pytest.approx(
        [0, 0.5 - 0.25 * np.sqrt(2), 0.5, 0.5 + 0.25 * np.sqrt(2), 1, 1]
    )


@given(shapes_and_centers())
@laws
def test_a_plane_wave_has_all_its_power_in_the_disc_about_its_frequency(case):
    shape, center = case
    on_grid = [round(f * n) / n for f, n in zip(center, shape, strict=True)]
    phase = sum(f * x for f, x in zip(on_grid, np.indices(shape), strict=True))
    image = np.cos(2 * np.pi * phase)
    if np.ptp(image) > 1e-6:
        assert share_of_power(image, disc(on_grid, 1e-6, FrequencyGrid(shape))) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(
    ("center", "shape", "message"),
    [
        ([0.1, 0.1], (64,), "more axes"),
        ([0.1, 0.1, 0.1], (8, 8), "more axes"),
        ([0.1, 0.51], (8, 8), "outside the spectrum"),
        ([], (8, 8), "1 to 3 frequencies"),
        ([0, 0, 0, 0], (8, 8, 8), "1 to 3 frequencies"),
    ],
)
def test_a_disc_outside_the_spectrum_is_refused(center, shape, message):
    with pytest.raises(ConfigError, match=message):
        disc(center, 0.1, FrequencyGrid(shape))


# -- strips ---------------------------------------------------------------------------------------------


@given(shapes, units, st.integers(0, 1000), st.integers(0, 63), transitions, st.data())
@laws
def test_a_strip_is_symmetric_and_the_same_from_either_end_of_the_axes(
    shape, unit, width, guard, transition, data
):
    grid = FrequencyGrid(shape, unit)
    axis = data.draw(st.integers(0, len(shape) - 1))
    across, spared = width / 1000, guard / 64 * grid.radial_max
    drawn = strip(axis, across, spared, grid, transition)
    assert grid.is_symmetric(drawn)
    assert np.all((drawn >= 0) & (drawn <= 1))
    np.testing.assert_array_equal(strip(axis - len(shape), across, spared, grid, transition), drawn)


@given(shapes, st.integers(0, 1000), st.integers(0, 63), st.data())
@laws
def test_a_strip_holds_what_is_narrow_across_its_axis_and_beyond_its_guard(shape, width, guard, data):
    """In exact arithmetic: |f_k| <= width / 2 for every other axis k, and rho >= guard."""
    grid = FrequencyGrid(shape)
    axis = data.draw(st.integers(0, len(shape) - 1))
    lines = [[Fraction(min(i, n - i), n) for i in range(n)] for n in shape]
    expected = np.empty(shape)
    for index in np.ndindex(shape):
        f = [line[i] for line, i in zip(lines, index, strict=True)]
        narrow = all(2 * g <= Fraction(width, 1000) for k, g in enumerate(f) if k != axis)
        rho_squared = 4 * sum(g**2 for g in f) / len(shape)
        expected[index] = narrow and rho_squared >= Fraction(guard, 64) ** 2
    np.testing.assert_array_equal(grid.full(strip(axis, width / 1000, guard / 64, grid)), expected)


@given(st.integers(2, 12), st.integers(2, 12), st.integers(0, 1000), transitions)
@laws
def test_turning_the_field_turns_the_strip(rows, columns, width, transition):
    upright, turned = FrequencyGrid((rows, columns)), FrequencyGrid((columns, rows))
    np.testing.assert_array_equal(
        upright.full(strip(0, width / 1000, 0.1, upright, transition)),
        turned.full(strip(1, width / 1000, 0.1, turned, transition)).T,
    )


@pytest.mark.parametrize("shape", [(64, 48), (63, 65)])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("width", [0.0, 0.01])
def test_offsets_of_rows_or_columns_have_their_power_on_the_strip(shape, axis, width):
    rng = np.random.default_rng(5)
    lines = [1 if k != axis else n for k, n in enumerate(shape)]
    image = rng.standard_normal(lines) + 0.05 * rng.standard_normal(shape)
    grid = FrequencyGrid(shape)
    assert share_of_power(image, strip(axis, width, 0, grid)) > 0.99
    assert share_of_power(image, strip(1 - axis, width, 0, grid)) < 0.01


def test_a_strip_on_a_line_is_all_that_lies_beyond_the_guard():
    assert np.flatnonzero(strip(0, 0, 0.25, FrequencyGrid((64,)))).tolist() == list(range(8, 33))


@pytest.mark.parametrize(("axis", "shape"), [(1, (64,)), (-2, (64,)), (2, (8, 8)), (-3, (8, 8))])
def test_a_strip_along_an_axis_the_field_has_not_is_refused(axis, shape):
    with pytest.raises(ConfigError, match=f"has no axis {axis}"):
        strip(axis, 0.01, 0, FrequencyGrid(shape))


@pytest.mark.parametrize(("guard", "unit"), [(1.0, "rho"), (1.5, "nyquist"), (0.75, "cycles")])
def test_a_guard_that_spares_everything_is_refused(guard, unit):
    with pytest.raises(ConfigError, match=f"guard {guard:g} spares the whole spectrum"):
        strip(0, 0.01, guard, FrequencyGrid((8, 8), unit))
