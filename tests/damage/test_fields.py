"""What a network that restores learns from: whole images or crops, and how they are split."""

import numpy as np
import pytest

from sagd_cli.damage.fields import make_fields, tiles_of
from sagd_cli.errors import DataError


def numbered(*shapes, channels=1):
    """Images that hold their own number."""
    return [np.full((channels, *shape), i, np.float32) for i, shape in enumerate(shapes)]


def test_small_images_of_one_size_are_taken_whole():
    fields = make_fields(numbered((20, 24), (20, 24), (20, 24)))
    assert fields.whole and fields.values.shape == (3, 1, 20, 24)
    assert fields.independent == 3 and np.array_equal(fields.sources, [0, 1, 2])


@pytest.mark.parametrize(
    ("shapes", "side"),
    [([(20, 24), (90, 300)], 16), ([(200, 150)], 128), ([(5, 7), (40, 40)], 4), ([(100, 70)], 64)],
)
def test_others_are_cut_into_squares_by_area_the_same_each_time(shapes, side):
    images = numbered(*shapes)
    fields = make_fields(images)
    assert not fields.whole and fields.shape == (side, side)
    areas = np.array([h * w for h, w in shapes])
    assert fields.independent == max(1, areas.sum() // side**2)
    assert fields.extent == shapes[areas.argmax()]
    assert np.all(fields.values == fields.sources[:, None, None, None])
    found = np.bincount(fields.sources, minlength=len(shapes)) / len(fields.sources)
    share = areas / areas.sum()
    assert np.all(np.abs(found - share) <= 5 * np.sqrt(share * (1 - share) / len(fields.sources)))
    assert np.array_equal(fields.values, make_fields(images).values)


def test_fields_suit_other_images_too():
    fields = make_fields(numbered((20, 20)), numbered((60, 16)))
    assert not fields.whole and fields.shape == (16, 16)
    with pytest.raises(DataError, match="7x3 pixels is too small"):
        make_fields(numbered((20, 20)), numbered((3, 7)))


@pytest.mark.parametrize("shape", [(20, 24), (90, 300)])
def test_of_grey_and_colour_images_each_colour_is_a_grey_image(shape):
    grey, colour = (
        numbered(shape),
        [np.arange(1, 4, dtype=np.float32)[:, None, None] * np.ones((1, *shape), "f")],
    )
    fields = make_fields([*grey, *colour])
    assert fields.values.shape[1] == 1 and set(np.unique(fields.values)) == {0, 1, 2, 3}
    np.testing.assert_array_equal(fields.values, fields.sources[:, None, None, None] + 0 * fields.values)
    assert make_fields(grey, colour).values.shape[1] == make_fields(colour, grey).values.shape[1] == 1


def test_tiles_share_no_pixel_and_are_of_the_image():
    like = make_fields(numbered((40, 40), (200, 90)))
    image = np.arange(2 * 90 * 130, dtype=np.float32).reshape(2, 90, 130)
    tiles = tiles_of(image, like)
    assert tiles.shape == (6, 2, 40, 40) and len(np.unique(tiles)) == tiles.size
    assert np.array_equal(tiles[4], image[:, 40:80, 40:80])
    assert len(tiles_of(image[:, :30], like)) == 0


def test_whole_images_are_held_out_and_fields_of_a_single_one():
    fields = make_fields(numbered(*[(70, 70)] * 20))
    learned, held_out = fields.split(0.1, seed=0)
    assert len(np.unique(fields.sources[held_out])) == 2
    assert not set(fields.sources[held_out]) & set(fields.sources[learned])
    assert len(learned) + len(held_out) == len(fields.values)
    alone = make_fields(numbered((900, 900)))
    learned, held_out = alone.split(0.1, seed=0)
    assert len(held_out) == len(alone.values) // 10 and not set(learned) & set(held_out)
