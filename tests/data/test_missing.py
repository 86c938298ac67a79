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


def test_what_a_file_states_is_missing_however_near_the_others():
    for kind, stated in (("float32", 101.0), ("int16", 100.0), ("uint8", 0.0), ("uint16", 65535.0)):
        pixels = IMAGE.astype(kind)
        pixels[0, 5, 5:8] = stated
        filled, missing = split_missing(pixels, (-1.0, stated))
        np.testing.assert_array_equal(missing.where, pixels == stated)
        assert filled.dtype == kind and missing.where[0, 5, 5:8].all()
        np.testing.assert_array_equal(missing.put_back(filled), pixels)
    for no_value_of_the_type in (-1.0, 0.5, 256.0, np.nan, np.inf):
        assert split_missing(IMAGE.astype(np.uint8), [no_value_of_the_type])[1] is None
    whole = IMAGE.astype(np.int16)
    whole[0, 5, 5:8] = -1000
    assert split_missing(whole)[1] is None


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_values_beyond_all_physics_are_found_at_once_and_refused_where_they_are_the_image(kind):
    huge = (IMAGE * 1e30).astype(kind)
    few = np.where(HOLE, huge, IMAGE)
    np.testing.assert_array_equal(split_missing(few)[1].where, HOLE)
    with pytest.raises(DataError, match=r"holds values beyond 1e\+29 in most of its pixels"):
        split_missing(huge)
    most = np.where(np.arange(30) < 20, np.array(-3.4e38, kind), IMAGE)
    assert split_missing(most)[1].values.size == 2 * 24 * 20


def test_nothing_is_missing_in_a_sound_image():
    filled, missing = split_missing(IMAGE)
    assert missing is None and filled is IMAGE


def test_a_channel_without_data_is_empty():
    damaged = IMAGE.copy()
    damaged[1] = np.nan
    filled, missing = split_missing(damaged)
    assert missing.is_whole and not split_missing(np.where(HOLE, np.nan, IMAGE))[1].is_whole
    np.testing.assert_array_equal(filled, [IMAGE[0], np.zeros_like(IMAGE[1])])
    np.testing.assert_array_equal(missing.put_back(filled), damaged)


def test_arrays_with_missing_data_are_refused():
    with pytest.raises(DataError, match=r"a\.npy holds -9999 at 1 of its values"):
        refuse_missing(np.array([1.0, 2.0, -9999.0]), "a.npy")
