"""The kernel distance: unbiased, torch-fidelity's own figure, and read a subset at a time."""

import numpy as np
import pytest
import torch

from sagd_cli.features.rows import RowsWriter
from sagd_cli.metrics.kernel import SUBSETS, kernel_distance, subset_size


def take(features):
    return lambda places: features[places]


def features(count, seed, shift=0.0):
    return np.random.default_rng(seed).standard_normal((count, 16)).astype(np.float32) + np.float32(shift)


def test_it_is_unbiased_on_equal_distributions():
    """The mean over independent pairs is 0 within 3 standard errors; the biased estimate would be far above."""
    found = [
        kernel_distance(take(features(200, 2 * k)), 200, take(features(200, 2 * k + 1)), 200)[0]
        for k in range(20)
    ]
    assert abs(np.mean(found)) <= 3 * np.std(found) / np.sqrt(len(found))
    assert kernel_distance(take(features(200, 1)), 200, take(features(200, 2, 0.5)), 200)[0] > 10 * np.std(
        found
    )


def test_one_estimate_is_within_three_of_its_own_deviations():
    mean, deviation = kernel_distance(take(features(900, 0)), 900, take(features(900, 1)), 900)
    assert abs(mean) <= 3 * deviation


def test_it_is_the_figure_of_torch_fidelity():
    from torch_fidelity.metric_kid import kid_features_to_metric

    one, two = features(300, 0), features(250, 1, 0.1)
    theirs = kid_features_to_metric(
        torch.from_numpy(one).double(), torch.from_numpy(two).double(), kid_subset_size=125, verbose=False
    )
    mean, deviation = kernel_distance(take(one), 300, take(two), 250)
    # Both are means of terms (x.y / D + 1)^3 in double precision, summed in some order; KID itself may be next to 0.
    terms = [(x.astype(float) @ y.T.astype(float) / 16 + 1) ** 3 for x in (one, two) for y in (one, two)]
    rounding = 1000 * np.finfo(float).eps * max(np.abs(term).max() for term in terms)
    assert mean == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-12, abs=rounding)
    assert deviation == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-12, abs=rounding)


def test_subsets_hold_at_most_half_of_a_set():
    assert [subset_size(*counts) for counts in ((50_000, 50_000), (2000, 1999), (5, 900), (3, 3))] == [
        1000,
        999,
        2,
        2,
    ]
    asked = []

    def note(places):
        asked.append(places)
        return features(40, 0)[places]

    kernel_distance(note, 40, note, 40)
    assert len(asked) == 2 * SUBSETS
    assert all(len(places) == len({*places.tolist()}) == 20 for places in asked)


def test_rows_come_back_from_disk_in_parts(tmp_path):
    values = torch.from_numpy(features(10, 3))
    writer = RowsWriter(tmp_path / "rows.npy", 10, 16)
    writer.add(values[:7].numpy())
    writer.add(values[7:].double().numpy())
    rows = writer.close()
    assert torch.equal(rows.all(), values)
    assert [part.all().tolist() for part in rows.parts(3)] == [
        values[3 * k : 3 * k + 3].tolist() for k in range(3)
    ]
    np.testing.assert_array_equal(rows.parts(3)[1].take(np.array([2, 0])), values[[5, 3]])
    np.testing.assert_array_equal(np.load(tmp_path / "rows.npy"), values)
