"""Plots on the terminal: heights follow the profile, gaps are empty, lines fit."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagd_cli.design.plot import BLOCKS, MARGIN, profile_plot

laws = settings(deadline=None, derandomize=True, max_examples=100)
weights = st.lists(st.one_of(st.just(0.0), st.floats(1e-6, 1e6)), min_size=1, max_size=40)


def spread(values):
    """Pairs at even steps of rho from 0 to 1."""
    return [(i / max(1, len(values) - 1), w) for i, w in enumerate(values)]


def heights(text, width=64, height=8):
    """Height of every column in eighths; each column is full below its top."""
    rows = [line[MARGIN:].ljust(width) for line in text.splitlines()[:height]]
    columns = ["".join(rows[row][column] for row in reversed(range(height))) for column in range(width)]
    for column in columns:
        assert list(column) == sorted(column, key=BLOCKS.index, reverse=True)
        assert sum(0 < BLOCKS.index(cell) < 8 for cell in column) <= 1
    return [sum(BLOCKS.index(cell) for cell in column) for column in columns]


@given(weights, st.sampled_from([(24, 2), (64, 8), (66, 5)]), st.booleans())
@laws
def test_every_line_fits_a_terminal_and_none_ends_in_blanks(values, size, log):
    text = profile_plot(spread(values), *size, log=log)
    lines = text.splitlines()
    assert len(lines) == size[1] + 2
    assert max(map(len, lines)) <= 80
    assert all(line == line.rstrip() for line in lines)


@given(weights)
@laws
def test_the_tallest_column_is_where_w_is_largest_and_is_as_tall_as_its_share(values):
    pairs = [(column / 63, values[column % len(values)]) for column in range(64)]
    found, top = heights(profile_plot(pairs)), max(values)
    for level, (_, w) in zip(found, pairs, strict=True):
        assert level == (0 if w == 0 else max(1, round(64 * w / top)))
    if top > 0:
        assert found[values.index(top)] == 64


@given(st.lists(st.floats(0.01, 100), min_size=2, max_size=30).map(sorted), st.booleans())
@laws
def test_a_monotone_profile_has_monotone_heights(values, log):
    rising = heights(profile_plot(spread(values), log=log))
    assert rising == sorted(rising)
    falling = heights(profile_plot(spread(values[::-1]), log=log))
    assert falling == sorted(falling, reverse=True)


@pytest.mark.parametrize("log", [False, True])
def test_columns_are_empty_in_gaps_and_nowhere_else(log):
    # One zero among the 33 points spans half a step to either side of itself.
    pairs = spread([1.0] * 10 + [0.0] + [1e-3] * 12 + [0.0] * 5 + [2.0] * 5)
    found = heights(profile_plot(pairs, log=log))
    for column, level in enumerate(found):
        nearest = min(pairs, key=lambda pair: abs(pair[0] - column / 63))
        assert (level == 0) == (nearest[1] == 0), column


def test_between_points_the_profile_is_linear_and_beyond_them_held():
    found = heights(profile_plot([(0.25, 1.0), (0.75, 2.0)]))
    for column, level in enumerate(found):
        rho = min(max(column / 63, 0.25), 0.75)
        assert level == round(64 * (1 + (rho - 0.25) / 0.5) / 2)


def test_decades_are_evenly_spaced_with_log():
    pairs = [(column / 63, 10 ** (3 - 4 * column / 63)) for column in range(64)]
    found = heights(profile_plot(pairs, log=True))
    assert found == [max(1, round(64 * (1 - column / 63))) for column in range(64)]


def test_axes_say_top_bottom_and_rho():
    lines = profile_plot([(0, 1.23456), (1, 0.5)]).splitlines()
    assert lines[0].startswith("    1.23 ┤")
    assert lines[8].startswith("       0 └")
    for tick in ("0", "0.25", "0.5", "0.75", "1"):
        mark = MARGIN + round(float(tick) * 63)
        assert lines[8][mark] == "┬"
        assert lines[9][mark - len(tick) // 2 :].split()[0] == tick
    assert lines[9].split() == ["0", "0.25", "0.5", "0.75", "1", "rho"]
    spectrum = profile_plot([(0, 4.5678e7), (1, 0.012345)], log=True).splitlines()
    assert spectrum[0].startswith("4.57e+07 ┤")
    assert spectrum[8].startswith("  0.0123 └")
