"""The benchmark of the restorer: its noise has the power that the methods are told, and its file loses nothing."""

import numpy as np
import pytest

from benchmarks.restorer import CASES, Results, check_peers, notch, run, summary
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.spectrum import power_spectrum

GRID = FrequencyGrid((64, 64))
DRAWS = 64
IMAGES = {"a": np.zeros(GRID.shape), "b": np.zeros(GRID.shape)}


def drawn(case):
    return np.stack([CASES[case].noise(GRID, str(index)) for index in range(DRAWS)])


@pytest.mark.parametrize("case", CASES)
def test_noise_has_the_power_that_methods_are_told(case):
    noise, power = drawn(case), CASES[case].power(GRID)
    found = power_spectrum(noise[:, None], GRID)
    assert power[0, 0] == 0
    assert np.allclose(found[power == 0], 0, atol=1e-12)
    # A mean of exponential variates: 6 standard deviations.
    inside = power > 0
    assert np.all(np.abs(found[inside] / power[inside] - 1) < 6 * np.sqrt(2 / DRAWS))
    assert np.mean(found[inside] / power[inside]) == pytest.approx(1, abs=0.15)


def test_strengths_are_in_grey_levels_or_amplitudes():
    deviation = {name: np.sqrt(GRID.mean(case.power(GRID))) * 127.5 for name, case in CASES.items()}
    for name in ("white-25", "pink-25", "blue-25"):
        assert deviation[name] == pytest.approx(25)
    assert deviation["rows-8"] == pytest.approx(8 * np.sqrt(63 / 64))
    assert deviation["white-10+rows-8+tones-10"] ** 2 == pytest.approx(100 + 63 + 2 * 50)
    assert set(np.unique(CASES["mid-0.5"].power(GRID))) == {0, 0.25}


def test_row_offsets_are_the_same_along_a_row():
    assert np.ptp(drawn("rows-16"), axis=2).max() < 1e-12


def test_notch_keeps_what_has_no_noise():
    y = np.random.default_rng(0).standard_normal(GRID.shape)
    power = CASES["high-0.5"].power(GRID)
    left = np.fft.rfft2(notch(y, power))
    assert np.allclose(left, np.fft.rfft2(y) * (power == 0))


def test_summary_counts_what_became_worse():
    found = summary({"a": 30.0, "b": 25.0, "c": 28.0}, {"a": 20.0, "b": 27.0, "c": 28.0, "d": 1.0})
    assert found == {"median": 28.0, "worst_gain": -2.0, "below": 1, "photographs": 3}


@pytest.fixture
def counted():
    """A peer that counts its images."""
    calls = []
    return calls, {"bm3d": lambda y, noise: calls.append(1) or y}


def test_a_peer_is_measured_once_for_the_same_damage(tmp_path, counted):
    calls, methods = counted
    path = tmp_path / "results.json"
    for _ in range(2):
        run("rows-8", IMAGES, methods, Results.of(path))
    kept = Results.of(path)
    assert len(calls) == len(IMAGES)
    assert kept.cases["rows-8"]["bm3d"] == kept.cases["rows-8"]["damaged"]
    kept.cases["rows-8"]["damaged"]["b"] += 0.1
    run("rows-8", IMAGES, methods, kept)
    assert len(calls) == len(IMAGES) + 1


def test_figures_are_of_one_network():
    results = Results(None, {"rows-8": {"damaged": {"a": 1.0}, "restorer": {"a": 2.0}}}, {"weights": "old"})
    results.set_weights("old")
    assert results.figures("rows-8", "restorer") == {"a": 2.0}
    results.set_weights("new")
    assert results.figures("rows-8", "restorer") == {}


def test_absent_peers_are_named(monkeypatch):
    monkeypatch.setattr("benchmarks.restorer.PEER_MODULES", ("json", "not_there"))
    with pytest.raises(SystemExit, match=r"pip install not-there$"):
        check_peers()
