"""Annuli: they partition the spectrum by radius, and their means are those of the full spectrum."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagd_cli.spectral.annuli import RATIO, Annuli
from sagd_cli.spectral.grid import FrequencyGrid

laws = settings(deadline=None, derandomize=True, max_examples=60)
shapes = st.lists(st.integers(1, 12), min_size=1, max_size=3).map(tuple)


def full_mean(annuli, full):
    """The mean of a symmetric full spectrum over each annulus, found by radius on the full spectrum."""
    shape = annuli.grid.shape
    radius = np.sqrt(sum(f**2 for f in np.meshgrid(*map(np.fft.fftfreq, shape), indexing="ij")))
    first = [annuli.grid.radius[annuli.index == k].min() for k in range(len(annuli.count))]
    index = np.searchsorted(np.array(first) * (1 - 1e-9), radius, side="right") - 1
    return np.array([full[index == k].mean() for k in range(len(first))])


@given(shapes)
@laws
def test_annuli_partition_the_spectrum(shape):
    annuli = Annuli(FrequencyGrid(shape))
    assert annuli.index.shape == annuli.grid.half_shape
    np.testing.assert_array_equal(np.unique(annuli.index), np.arange(len(annuli.count)))
    assert annuli.count.sum() == annuli.grid.size
    np.testing.assert_array_equal(annuli.index == 0, annuli.grid.radius == 0)


@given(shapes)
@laws
def test_an_annulus_spans_at_most_the_ratio_and_the_next_begins_beyond_it(shape):
    annuli = Annuli(FrequencyGrid(shape))
    radii = [annuli.grid.radius[annuli.index == k] for k in range(1, len(annuli.count))]
    for ring in radii:
        assert ring.max() <= ring.min() * RATIO * (1 + 1e-8)
    for ring, beyond in pairwise(radii):
        assert beyond.min() > ring.min() * RATIO
        assert beyond.min() > ring.max()


@given(shapes)
@laws
def test_rho_is_the_geometric_mean_radius(shape):
    annuli = Annuli(FrequencyGrid(shape))
    assert annuli.rho[0] == 0
    assert np.all(np.diff(annuli.rho) > 0)
    rho, weight = annuli.grid.rho, annuli.grid.multiplicity
    for k in range(1, len(annuli.count)):
        ring = annuli.index == k
        mean = np.prod(rho[ring] ** (weight[ring] / weight[ring].sum()))
        assert annuli.rho[k] == pytest.approx(mean, rel=1e-12)


@given(shapes, st.integers(0, 99))
@laws
def test_mean_is_that_of_the_full_spectrum(shape, seed):
    annuli = Annuli(FrequencyGrid(shape))
    power = np.abs(
        np.fft.fftn(np.random.default_rng(seed).random((2, 3, *shape)), axes=range(2, 2 + len(shape)))
    )
    means = annuli.mean(power[..., : shape[-1] // 2 + 1])
    assert means.shape == (2, 3, len(annuli.count))
    for i, j in np.ndindex(2, 3):
        np.testing.assert_allclose(means[i, j], full_mean(annuli, power[i, j]), rtol=1e-12)
        whole = annuli.grid.mean(power[i, j][..., : shape[-1] // 2 + 1])
        assert means[i, j] @ annuli.count / annuli.grid.size == pytest.approx(whole, rel=1e-12)
    np.testing.assert_allclose(
        annuli.mean(np.full(annuli.grid.half_shape, 0.7)), 0.7, rtol=annuli.grid.size * 3e-16
    )


def test_the_lowest_frequencies_of_a_square_have_an_annulus_each():
    annuli = Annuli(FrequencyGrid((64, 64)))
    bins_squared = (annuli.rho[1:7] * np.sqrt(0.5) * 64) ** 2
    np.testing.assert_allclose(bins_squared, [1, 2, 4, 5, np.sqrt(8 * 9), 10], rtol=1e-12)
    np.testing.assert_array_equal(annuli.count[:7], [1, 4, 4, 4, 8, 4 + 4, 8])


def test_one_sample_has_dc_only():
    annuli = Annuli(FrequencyGrid((1, 1)))
    np.testing.assert_array_equal(annuli.rho, [0.0])
    np.testing.assert_array_equal(annuli.count, [1.0])
    np.testing.assert_array_equal(annuli.mean(np.full((1, 1), 3.0)), [3.0])


def test_large_grids_have_fewer_than_a_hundred():
    assert 60 < len(Annuli(FrequencyGrid((1000, 1500))).count) < 100
    assert 30 < len(Annuli(FrequencyGrid((48, 48, 48))).count) < 100
