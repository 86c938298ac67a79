"""Signal-to-noise ratios of filters, against sums over the full spectrum."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagd_cli.config.filter import FilterConfig
from sagd_cli.spectral.filter import SpectralFilter
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.snr import band_snr, largest_snr

laws = settings(deadline=None, derandomize=True, max_examples=60)
shapes = st.one_of(
    st.tuples(st.integers(6, 60)),
    st.tuples(st.integers(5, 14), st.integers(5, 14)),
    st.tuples(*3 * [st.integers(4, 7)]),
)


def spectra(shape, seed):
    """Weight and power, symmetric at random, on the full spectrum, and rho there."""
    rng = np.random.default_rng(seed)
    axes = tuple(range(len(shape)))
    weight, power = (np.abs(np.fft.fftn(rng.standard_normal(shape), axes=axes)) for _ in range(2))
    squares = sum(f**2 for f in np.ix_(*map(np.fft.fftfreq, shape)))
    # 12 digits, so that an edge is not missed by rounding.
    return weight, power**2, np.round(np.sqrt(squares) / (np.sqrt(len(shape)) / 2), 12)


def halved(full):
    return full[..., : full.shape[-1] // 2 + 1]


def masks(rho):
    edges = {"low": (0, 0.25), "mid": (0.25, 0.5), "high": (0.5, 1.01), "all": (0, 1.01)}
    return {name: (rho >= low) & (rho < high) for name, (low, high) in edges.items()}


@given(shapes, st.integers(0, 99), st.floats(1e-6, 1e4))
@laws
def test_ratios_are_sums_over_the_full_spectrum(shape, seed, level):
    weight, power, rho = spectra(shape, seed)
    weight = np.where((rho > 0.3) & (rho < 0.4), 0.0, weight)
    built = SpectralFilter.from_weight(FrequencyGrid(shape), halved(weight))
    sums, largest = band_snr(built, halved(power), level), largest_snr(built, halved(power), level)
    assert list(sums) == ["low", "mid", "high", "all"] and list(largest) == ["low", "mid", "high"]
    for name, mask in masks(rho).items():
        noise = np.sum(weight[mask] ** 2)
        if noise == 0:
            assert sums[name] is None
        else:
            assert sums[name] == pytest.approx(level * np.sum(power[mask]) / noise, rel=1e-9)
        if name != "all":
            used = mask & (weight > 0)
            expected = np.max(level * power[used] / weight[used] ** 2, initial=0.0)
            assert largest[name] == pytest.approx(expected, rel=1e-9)


@given(shapes, st.integers(0, 99))
@laws
def test_noise_in_the_shape_of_the_signal_has_one_ratio_at_every_frequency(shape, seed):
    _, power, _ = spectra(shape, seed)
    half = halved(power)
    built = SpectralFilter.from_weight(FrequencyGrid(shape), np.sqrt(half), "power")
    level = 0.01
    expected = level * np.mean(power)
    for ratio in band_snr(built, half, level).values():
        assert ratio is None or ratio == pytest.approx(expected, rel=1e-9)
    for ratio in largest_snr(built, half, level).values():
        assert ratio == 0 or ratio == pytest.approx(expected, rel=1e-9)


def test_a_band_without_noise_has_no_ratio_and_no_largest():
    built = FilterConfig(type="bandpass", options={"low": 0.25, "high": 0.5}).weights((16, 16))
    ratios = band_snr(built, np.ones((16, 9)), 3.0)
    assert ratios["low"] is None and ratios["high"] is None
    assert ratios["mid"] == pytest.approx(3.0 * built.rank / 256, rel=1e-9)
    largest = largest_snr(built, np.ones((16, 9)), 3.0)
    assert largest == {"low": 0.0, "mid": pytest.approx(ratios["mid"], rel=1e-9), "high": 0.0}


def test_bands_are_in_rho_whatever_the_unit_of_the_filter():
    power = FrequencyGrid((16, 16)).rho + 0.1
    ratios = [
        band_snr(FilterConfig(type="white", units=units).weights((16, 16)), power, 1.0)
        for units in ("rho", "nyquist", "cycles")
    ]
    assert ratios[0] == ratios[1] == ratios[2]


def test_the_figures_of_the_mathematics():
    """docs/theory.md, section 4.5: 1/f^2 data on [-1, 1], the DDPM table: DC stands out the more the larger alpha."""
    grid = FrequencyGrid((64, 64))
    power = np.maximum(grid.radius, 1 / 64) ** -2.0
    power = 0.25 * power / grid.mean(power)
    largest = [
        largest_snr(
            FilterConfig(type="powerlaw", options={"alpha": alpha}).weights((64, 64)), power, 4.036e-5
        )["low"]
        for alpha in (0, 0.5, 1)
    ]
    assert largest[0] < 0.01 < largest[1] < 0.1 < 1 < largest[2] < 10
