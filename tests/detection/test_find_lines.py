"""Offsets of whole lines that nobody describes, and what is the image's own."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from sagd_cli.damage.lines import without_lines
from sagd_cli.detection.find_lines import find_line


def offsets(deviation, seed, rows):
    return deviation * np.random.default_rng(seed).standard_normal((rows, 1)).astype(np.float32)


def grain(rows):
    return 0.01 * np.random.default_rng(0).standard_normal((1, rows, 160)).astype(np.float32)


def test_every_other_row_brighter_is_damage_but_in_a_mosaic_of_colours():
    image = grain(192)
    image[:, ::2] += 0.1
    assert find_line([image]) is not None
    assert np.diff(without_lines(image, 0).mean(axis=2)).std() < 0.05 * 0.1
    image[:, :, ::2] += 0.1
    assert find_line([image]) is None


@pytest.mark.parametrize("period", [3, 4, 5])
def test_a_regular_pattern_of_rows_is_the_images_own_unless_told(period):
    image = grain(192)
    image[:, ::period] += 0.1
    assert find_line([image]) is None and find_line([image, image[:, :, :61]]) is None
    assert without_lines(image, 0) is not None


def test_random_offsets_of_few_rows_are_no_regular_pattern():
    assert all(find_line([grain(96) + offsets(0.05, seed, 96)]) for seed in range(5))


def objects(rows=256, columns=192, seed=0):
    """A smooth image with bright and dark objects, and grain."""
    y, x = np.mgrid[:rows, :columns]
    image = 0.2 * np.sin(y / 70) * np.cos(x / 50) + 0.01 * np.random.default_rng(seed).standard_normal(
        (rows, columns)
    )
    for top, left in ((30, 20), (120, 90), (200, 40)):
        image += 0.4 * (np.hypot(y - top, x - left) < 18)
    return image.astype(np.float32)[None]


def soft(rows, seed):
    stripes = gaussian_filter1d(np.random.default_rng(seed).standard_normal(rows), 2.0)
    return (0.05 * stripes / stripes.std()).astype(np.float32)[:, None]


@pytest.mark.parametrize("seed", range(3))
def test_soft_stripes_that_are_many_rows_wide_are_found_and_taken(seed):
    image = objects(448, 400)
    damaged = image + soft(448, seed)
    assert find_line([image]) is None and find_line([damaged]) is not None
    left = np.diff(without_lines(damaged, 0) - image, axis=1)
    assert left.std() < 0.75 * np.diff(damaged - image, axis=1).std()


def test_planes_of_one_image_are_one_witness():
    damaged = objects(448, 400) + soft(448, 0)
    grey, colour = find_line([damaged]), find_line([damaged.repeat(3, axis=0)])
    assert colour.half_width == grey.half_width
    assert colour.deviation.low == pytest.approx(grey.deviation.low, rel=0.01)


def test_broken_rows_are_mended_whatever_they_show():
    """They are brighter in one half and darker in the other, as those of sinograms are."""
    image = objects()
    damaged = image.copy()
    damaged[:, 77] += np.where(np.arange(192) < 90, 0.2, -0.15)
    damaged[:, 150] = -0.9
    assert find_line([damaged]).half_width == 0
    mended = without_lines(damaged, 0)
    assert np.abs(mended - image)[:, [77, 150]].mean() < 0.03
    kept = np.delete(np.arange(256), [77, 150])
    np.testing.assert_allclose(mended[:, kept], damaged[:, kept], atol=1e-3)


def test_lines_that_a_lens_drew_stay():
    image = objects()
    drawn = np.zeros((256, 1))
    drawn[[77, 150]] = 0.5
    assert find_line([image + gaussian_filter1d(drawn, 0.8, axis=0).astype(np.float32)]) is None


def test_rows_of_strong_white_noise_are_no_lines_but_offsets_in_it_are():
    for deviation in (0.5, 100.0):
        noise = deviation * np.random.default_rng(0).standard_normal((1, 128, 192)).astype(np.float32)
        assert find_line([noise]) is None and find_line([noise.swapaxes(1, 2)]) is None
        found = find_line([noise + offsets(0.2 * deviation, 1, 128)])
        assert found.deviation.value == pytest.approx(0.2 * deviation, rel=0.35)
