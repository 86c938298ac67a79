"""The benchmark of preparing: both of its ways write the same pictures."""

import numpy as np

from benchmarks.prepare import make_pictures, one_by_one, prepared


def test_both_ways_write_the_same_pictures(tmp_path):
    make_pictures(tmp_path / "pictures", 10)
    for name, write in (("a.npy", prepared), ("b.npy", one_by_one)):
        write(tmp_path / "pictures", tmp_path / name, 32)
    one, other = (np.load(tmp_path / name).astype(float) for name in ("a.npy", "b.npy"))
    assert one.shape == other.shape == (10, 3, 32, 32)
    assert np.abs(one - other).mean() < 3
