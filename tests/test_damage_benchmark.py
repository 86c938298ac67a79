"""The benchmark of damage: what its figures say of lines and patterns, and that it keeps what it has measured."""

import importlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
SHAPE = (128, 192)


@pytest.fixture
def bench(monkeypatch):
    """A module of the folder, whose modules import each other as scripts do."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


def field(seed=0):
    return np.random.default_rng(seed).standard_normal(SHAPE)


def test_white_noise_has_no_energy_of_lines(bench):
    line_energy = bench("damage_spectrum").line_energy
    for angle in (0, 20, 90, 110):
        assert abs(line_energy(field(), angle)) < 4


@pytest.mark.parametrize("angle", [0, 20, 90, 110])
def test_lines_have_energy_at_the_angle_at_which_they_are_seen(bench, angle):
    line_energy = bench("damage_spectrum").line_energy
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    across = columns * np.sin(np.radians(angle)) + rows * np.cos(np.radians(angle))
    profile = np.random.default_rng(1).standard_normal(400)
    lines = field() + 2 * np.interp(across, np.arange(-100, 300), profile)
    assert line_energy(lines, angle) > 15
    assert line_energy(lines, angle + 45) < 3


def test_a_tone_has_the_energy_of_a_pattern_where_its_peak_is(bench):
    spectrum = bench("damage_spectrum")
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    noise = field()
    y = noise + np.cos(2 * np.pi * (0.25 * rows + 0.125 * columns))
    places = spectrum.peaks(np.abs(spectrum.transformed(y)), 8, 0.05)
    assert places[32, 24]
    assert 9 <= np.count_nonzero(places) <= 100
    assert spectrum.pattern_energy(y, places) > 15
    assert spectrum.pattern_energy(noise, places) < 6


def test_what_was_measured_is_kept_unless_it_is_asked_for_again_or_the_damage_is_another(bench, monkeypatch):
    damage = bench("damage")
    monkeypatch.setattr(damage, "program", lambda planes, *others: planes)
    images = {"a": np.clip(field() / 4, -1, 1)}
    case, kept = (
        damage.Case(lambda image, random: image + 0.1 * random.standard_normal(SHAPE), (), ("blur",)),
        {},
    )
    assert [*damage.measure(case, images, kept, set())] == ["damaged", "sagd", "blur"]
    assert kept["sagd"] == kept["damaged"]
    assert kept["blur-best"]["a"]["psnr"] >= kept["blur"]["a"]["psnr"]
    assert [*damage.measure(case, images, kept, set())] == []
    assert [*damage.measure(case, images, kept, {"sagd"})] == ["sagd"]
    other = replace(case, damaged=lambda image, random: image + 0.2 * random.standard_normal(SHAPE))
    assert [*damage.measure(other, images, kept, set())] == ["damaged", "sagd", "blur"]
