"""Lattices: their generators come back from their peaks, also wrapped and blurred ones, and chance has none."""

import numpy as np
import pytest
from support.synthetic import natural

from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.lattice import find_lattice
from sagd_cli.spectral.peaks import find_peaks
from sagd_cli.spectral.spectrum import power_spectrum

SHAPE = (215, 180)
SCREEN = np.array([[0.1253, 0.0627], [-0.0605, 0.1222]])


def peaks_of(generators, random, count=14):
    """Frequencies of the lowest orders, wrapped around the spectrum and off by up to a bin."""
    orders = np.array([(m, n) for m in range(-3, 4) for n in range(-3, 4) if (m, n) > (0, 0)])
    lowest = orders[np.argsort(np.sum(orders**2, axis=1), kind="stable")[:count]]
    off = lowest @ generators + random.uniform(-1, 1, (count, 2)) / SHAPE
    return off - np.round(off)


@pytest.mark.parametrize("seed", range(3))
def test_the_generators_are_found_from_blurred_wrapped_peaks(seed):
    random = np.random.default_rng(seed)
    lattice = find_lattice(peaks_of(SCREEN, random), SHAPE)
    assert abs(np.linalg.det(lattice.generators)) == pytest.approx(abs(np.linalg.det(SCREEN)), rel=0.03)
    assert lattice.holds(SCREEN).all() and lattice.holds(3 * SCREEN - np.round(3 * SCREEN)).all()
    assert np.linalg.norm(lattice.generators[0]) == pytest.approx(np.linalg.norm(SCREEN[1]), abs=1.5 / 180)
    assert not lattice.holds(SCREEN / 2).any()


def test_a_turned_picture_has_the_turned_lattice():
    peaks = peaks_of(SCREEN, np.random.default_rng(5))
    upright, turned = find_lattice(peaks, SHAPE), find_lattice(peaks[:, ::-1] * (1, -1), SHAPE[::-1])
    assert np.allclose(np.linalg.det(upright.generators), np.linalg.det(turned.generators))
    assert turned.holds(upright.generators[:, ::-1] * (1, -1)).all()


@pytest.mark.parametrize("seed", range(3))
def test_peaks_at_random_places_have_no_lattice(seed):
    assert find_lattice(np.random.default_rng(seed).uniform(-0.5, 0.5, (12, 2)), SHAPE) is None


def test_two_peaks_have_a_lattice_if_they_are_a_square_s():
    assert find_lattice(SCREEN, SHAPE).holds(SCREEN).all()
    assert find_lattice(np.add(SCREEN, [[0, 0], [0, 0.02]]), SHAPE) is None
    assert find_lattice(SCREEN[:1], SHAPE) is find_lattice(np.zeros((0, 2)), SHAPE) is None


def test_the_points_of_a_lattice_are_all_of_half_the_spectrum():
    points = find_lattice(SCREEN, SHAPE).points
    assert len(points) == pytest.approx(1 / np.linalg.det(SCREEN) / 2, rel=0.1)
    both = np.concatenate([points, -points])
    assert np.abs(both).max() <= 0.5 and len(np.unique(np.round(both, 9), axis=0)) == len(both)
    orders = both @ np.linalg.inv(SCREEN)
    assert np.allclose(orders, np.round(orders))


def test_all_harmonics_of_a_pattern_are_listed_however_many():
    rows, columns = np.mgrid[:256, :256]
    generators = np.array([[0.125, 0.03125], [-0.03125, 0.125]])
    phases = [np.cos(2 * np.pi * (g[0] * rows + g[1] * columns)) for g in generators]
    dots = np.exp(3 * (phases[0] + phases[1]) - 6)
    field = natural((256, 256), 0, 1, 2.0)[0] + 4 * dots
    grid = FrequencyGrid(field.shape)
    peaks, lattice = find_peaks(power_spectrum((field - field.mean())[None], grid, hann=True), grid, 1)
    orders = np.array([(m, n) for m in range(-3, 4) for n in range(-3, 4) if 0 < m * m + n * n <= 9])
    expected = orders @ generators
    found = np.array([peak.center for peak in peaks])
    off = np.abs(expected[:, None] - np.concatenate([found, -found]))
    assert np.max(np.abs(off - np.round(off)), axis=2).min(axis=1).max() < 1.5 / 256
    assert len(found) > 20 and lattice.holds(found).all()
