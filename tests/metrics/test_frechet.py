"""The Fréchet distance against closed forms, moments of streams, and how much of a distance is chance."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sagd_cli.features.moments import Gaussian, Moments
from sagd_cli.metrics.frechet import frechet_distance, frechet_floor


def gaussian(mean, covariance, count=None):
    return Gaussian(torch.as_tensor(mean).double(), torch.as_tensor(covariance).double(), count)


def rotation(size, seed):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))[0]


@given(st.integers(1, 40), st.integers(0, 2**31), st.floats(0.1, 10))
def test_distance_of_gaussians_with_common_axes(size, seed, scale):
    """||mu_1 - mu_2||^2 + sum (s_1 - s_2)^2, whatever the axes are turned to."""
    random = np.random.default_rng(seed)
    one, two = random.uniform(0.1, 3, (2, size)) * [[1], [scale]]
    means = random.standard_normal((2, size))
    turn = rotation(size, seed)
    sides = [gaussian(m, turn @ np.diag(s**2) @ turn.T) for m, s in zip(means, (one, two), strict=True)]
    exact = np.sum((means[0] - means[1]) ** 2) + np.sum((one - two) ** 2)
    # An eigenvalue of S_1 S_2 is rounded to 2e-16 of the largest, (9 scale)^2, and its root, at least 0.01, by half of
    # that over the root.
    rounding = size * 2e-16 * max(1, size) * (9 * max(scale, 1)) ** 2 / 2 / (0.01 * min(scale, 1))
    assert frechet_distance(*sides) == pytest.approx(exact, rel=1e-12, abs=rounding)


@pytest.mark.parametrize("size", [1, 3, 40, 200])
def test_a_distance_is_never_below_0(size):
    """Rounding leaves a difference of either sign between equal Gaussians; that of few images is singular too."""
    for seed in range(5):
        rows = np.random.default_rng(seed).standard_normal((50, size)) @ rotation(size, seed)
        one = gaussian(rows.mean(axis=0), np.cov(rows, rowvar=False).reshape(size, size))
        assert 0 <= frechet_distance(one, one) <= 1e-5


def test_a_distance_that_is_not_a_number_stays_so():
    assert np.isnan(frechet_distance(gaussian([float("nan")], [[1.0]]), gaussian([0.0], [[1.0]])))


def test_distance_of_gaussians_whose_axes_differ():
    """In two dimensions tr (S_1 S_2)^(1/2) = (tr S_1 S_2 + 2 (det S_1 S_2)^(1/2))^(1/2)."""
    one, two = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([[1.0, -0.7], [-0.7, 3.0]])
    cross = np.sqrt(np.trace(one @ two) + 2 * np.sqrt(np.linalg.det(one) * np.linalg.det(two)))
    exact = 1 + np.trace(one) + np.trace(two) - 2 * cross
    assert frechet_distance(gaussian([0, 0], one), gaussian([1, 0], two)) == pytest.approx(exact, rel=1e-12)


def test_distance_of_singular_gaussians():
    """As many features as lie in a plane: the others count with the trace of the side that has them."""
    one, two = np.diag([4.0, 1.0, 0.0, 0.0]), np.diag([1.0, 0.0, 9.0, 0.0])
    assert frechet_distance(gaussian(np.zeros(4), one), gaussian(np.zeros(4), two)) == pytest.approx(
        1 + 1 + 9
    )


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.floats(-1e4, 1e4))
def test_moments_of_a_stream_are_those_of_the_whole(sizes, offset):
    random = np.random.default_rng(sum(sizes))
    whole = random.standard_normal((sum(sizes) + 2, 3)) @ rotation(3, 0) + offset
    moments = Moments()
    for part in np.split(whole, np.cumsum(sizes)):
        moments.add(torch.from_numpy(part))
    found = moments.result()
    assert found.count == len(whole)
    np.testing.assert_allclose(found.mean, whole.mean(axis=0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.covariance, np.cov(whole, rowvar=False), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(
    ("generated", "reference", "within"), [(400, 300, 0.1), (2000, None, 0.03), (100, 100, 0.2)]
)
def test_the_floor_is_what_equal_gaussians_show(generated, reference, within):
    """The mean distance of many pairs of samples of one Gaussian of 20 features, whose variances span a decade."""
    random = np.random.default_rng(0)
    deviations = np.geomspace(0.3, 3, 20)
    truth = gaussian(np.zeros(20), np.diag(deviations**2), None)

    def sample(count):
        if count is None:
            return truth
        moments = Moments()
        moments.add(torch.from_numpy(random.standard_normal((count, 20)) * deviations))
        return moments.result()

    found = np.mean([frechet_distance(sample(generated), sample(reference)) for _ in range(100)])
    known = gaussian(np.zeros(20), np.diag(deviations**2), reference)
    assert frechet_floor(known, generated) == pytest.approx(found, rel=within)


def test_singular_covariances_have_no_floor():
    assert frechet_floor(gaussian(np.zeros(5), np.eye(5), 1000), 5) is None
    assert frechet_floor(gaussian(np.zeros(5), np.eye(5), 5), 1000) is None
