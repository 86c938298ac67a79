"""Missing data: found, filled, and put back as they were."""

import numpy as np
import pytest

from sagd_cli.data.missing import refuse_missing, split_missing
from sagd_cli.errors import DataError

IMAGE = np.random.default_rng(0).normal(100, 5, (2, 24, 30)).astype(np.float32)
HOLE = np.zeros(IMAGE.shape, bool)
HOLE[0, 4:9, 20:] = HOLE[1, 3, 7] = True


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -9999, -32768, -3.4028235e38, 9.96921e36, 4e4])
def test_what_is_missing_is_filled_by_what_is_there_and_comes_back(value):
    damaged = np.where(HOLE, np.float32(value), IMAGE)
    filled, missing = split_missing(damaged)
    np.testing.assert_array_equal(missing.where, HOLE)
    np.testing.assert_array_equal(filled[~HOLE], IMAGE[~HOLE])
    for channel in range(2):
        assert np.isin(filled[channel][HOLE[channel]], IMAGE[channel][~HOLE[channel]]).all()
    np.testing.assert_array_equal(
        missing.put_back(filled + 1), np.where(HOLE, damaged, IMAGE + 1), strict=True
    )
    assert np.isnan(missing.put_back(filled.astype(float))[HOLE]).all()


def test_several_kinds_are_found_together():
    damaged = IMAGE.copy()
    damaged[0, 0, :3], damaged[0, 1, :2], damaged[1, 0, 0] = np.nan, -9999, 1e36
    _, missing = split_missing(damaged)
    assert missing.values.size == 6


def test_a_border_is_filled_by_reflection():
    plane = IMAGE[:1].copy()
    plane[:, :, 25:] = np.nan
    filled, _ = split_missing(plane)
    np.testing.assert_array_equal(filled[0, :, 25:], plane[0, :, 23:18:-1])


def test_what_a_file_states_is_missing_among_floats_always_and_among_integers_where_it_is_far_away():
    floats, whole = IMAGE.copy(), IMAGE.astype(np.int16)
    floats[0, 5, 5] = stated = 101.0
    assert split_missing(floats, stated)[1].values.tolist() == [101]
    assert split_missing(whole, float(whole.min()))[1] is None
    whole[0, 5, 5] = -1000
    filled, missing = split_missing(whole, -1000)
    assert missing.values.tolist() == [-1000] and filled.dtype == np.int16 and filled.min() > 0
    assert split_missing(whole)[1] is None


def test_nothing_is_missing_in_a_sound_image():
    filled, missing = split_missing(IMAGE)
    assert missing is None and filled is IMAGE


def test_a_channel_without_data_is_refused():
    with pytest.raises(DataError, match="nothing but missing data"):
        split_missing(np.full((1, 4, 4), np.nan, np.float32))


def test_arrays_with_missing_data_are_refused():
    with pytest.raises(DataError, match=r"a\.npy holds -9999 at 1 of its values"):
        refuse_missing(np.array([1.0, 2.0, -9999.0]), "a.npy")
