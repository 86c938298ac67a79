"""Offsets of whole lines that nobody describes, and what is the image's own."""

import numpy as np
import pytest

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
