"""Offsets and gains of whole lines, taken away by robust statistics."""

import numpy as np
import pytest
from support.photographs import kodak_centres

from sagd_cli.config.noise_spectrum import NoiseSpectrum
from sagd_cli.damage.lines import line_strength, without_line_noise, without_lines
from sagd_cli.detection.find_lines import find_line

SHAPE = (96, 160)
ROWS = NoiseSpectrum.parse("stripe:horizontal,0,0:level=1")
COLUMNS = NoiseSpectrum.parse("stripe:vertical,0,0:level=1")


def edges():
    """A smooth image with a bright object, a dark one and a horizon."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] / 100
    image = 0.1 * np.sin(3 * y) + 0.1 * np.cos(2 * x)
    image[20:60, 30:70] += 0.5
    image[50:80, 100:130] -= 0.4
    image[70:] += 0.2
    return image.astype(np.float32)[None]


def offsets(deviation, seed=0, rows=SHAPE[0]):
    values = deviation * np.random.default_rng(seed).standard_normal((rows, 1)).astype(np.float32)
    return values - values.mean()


def error(restored, image):
    return np.sqrt(np.mean((restored - image) ** 2))


def test_offsets_leave_a_smooth_image_with_edges_and_a_horizon():
    image = edges()
    cleaned = without_lines(image + offsets(0.05), 0)
    assert error(cleaned, image) < 0.35 * 0.05
    # What is left is smooth: a trend that nobody can tell from the image's. The horizon keeps most of its height.
    left = np.diff(np.median((cleaned - image)[0], axis=1))
    assert abs(left[69]) < 0.4 * 0.2 and np.abs(np.delete(left, 69)).max() < 0.15 * 0.05


@pytest.mark.parametrize("seed", range(3))
def test_an_image_without_offsets_is_let_alone(seed):
    image = edges() + 0.01 * np.random.default_rng(seed).standard_normal(SHAPE).astype(np.float32)
    assert without_lines(image, 0) is None and find_line([image]) is None
    kept, left = without_line_noise(image, ROWS)
    assert np.array_equal(kept, image) and left == ROWS


def test_values_that_are_stretched_and_shifted_give_the_same():
    """Offsets: the darkest pixel lies below black, so that no gains are looked for."""
    image = edges() + offsets(0.05)
    image[0, 3:5, 3:9] = -1.5
    first = without_lines(image, 0)
    np.testing.assert_allclose(without_lines(0.5 * image - 0.3, 0), 0.5 * first - 0.3, rtol=0, atol=1e-5)


def test_columns_are_the_rows_of_the_transposed_image():
    image = edges() + offsets(0.05)
    noise = NoiseSpectrum.parse("stripe:horizontal,0,0:level=1+white:level=0.1")
    rows, left = without_line_noise(image, noise)
    columns, none = without_line_noise(image.swapaxes(1, 2), COLUMNS)
    np.testing.assert_array_equal(columns.swapaxes(1, 2), rows)
    assert str(left) == "white:level=0.1" and none is None


@pytest.mark.parametrize(
    ("angle", "direction"), [("0", "horizontal"), ("-180", "horizontal"), ("90", "vertical")]
)
def test_rows_and_columns_told_as_angles_are_the_same(angle, direction):
    image = edges() + offsets(0.05)
    image = image if direction == "horizontal" else image.swapaxes(1, 2)
    worded, none = without_line_noise(image, NoiseSpectrum.parse(f"stripe:{direction},0,0:level=1"))
    told, left = without_line_noise(image, NoiseSpectrum.parse(f"stripe:{angle},0,0:level=1"))
    assert none is None and left is None and not np.array_equal(told, image)
    np.testing.assert_array_equal(told, worded)


@pytest.mark.parametrize("stripe", ["30,0,0", "0:20,0,0", "horizontal,0,0.1", "horizontal,0,0,0.4"])
def test_stripes_at_an_angle_and_parts_of_an_axis_are_no_whole_lines(stripe):
    noise = NoiseSpectrum.parse(f"stripe:{stripe}:level=1")
    for image in (edges() + offsets(0.05), (edges() + offsets(0.05)).swapaxes(1, 2)):
        kept, left = without_line_noise(image, noise)
        assert np.array_equal(kept, image) and left == noise


def test_gains_are_told_from_offsets_where_an_image_has_dark_and_bright_parts():
    image = edges()
    damaged = (image + 1) * np.exp(offsets(0.06)) - 1
    cleaned = without_lines(damaged, 0)
    assert error(cleaned, image) < 0.35 * error(damaged, image)
    assert np.diff(cleaned - image, axis=1).std() < 0.1 * np.diff(damaged - image, axis=1).std()


@pytest.mark.parametrize("seed", range(2))
def test_a_gain_that_dim_pixels_show_does_not_divide_a_bright_object(seed):
    """As the red of a picture in false colours: nearly black rows, some of them twice as bright, and red objects."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    dim = 0.15 + 0.1 * np.sin(x / 25) * np.cos(y / 30)
    objects = np.zeros(SHAPE)
    for row, column in ((20, 40), (47, 100), (70, 60)):
        objects[row - 4 : row + 5, column - 4 : column + 5] = 1.5
    gains = np.exp(0.3 * np.random.default_rng(seed).standard_normal((SHAPE[0], 1)))
    image = (dim + objects - 1).astype(np.float32)[None]
    damaged = (dim * gains + objects - 1).astype(np.float32)[None]
    cleaned, there = without_lines(damaged, 0), objects[None] > 0
    assert error(cleaned[~there], image[~there]) < 0.35 * error(damaged[~there], image[~there])
    # An object changes by no more than dim pixels do; as gains it would by three times that.
    assert np.abs(cleaned - damaged)[there].max() < 0.4
    # Objects that have the gains themselves are restored with all else.
    gained = ((image + 1) * gains - 1).astype(np.float32)
    assert error(without_lines(gained, 0), image) < 0.35 * error(gained, image)


def test_offsets_that_vary_along_the_row_are_taken_in_windows():
    waves = np.random.default_rng(1).standard_normal((2, 96, 1)) * 0.04
    along = 2 * np.pi * np.arange(256) / 256
    field = (waves[0] * np.cos(along) + waves[1] * np.sin(along)).astype(np.float32)
    image = np.pad(edges(), ((0, 0), (0, 0), (0, 96)), mode="edge")
    cleaned = without_lines(image + field + offsets(0.04), 2)
    assert error(cleaned, image) < 0.4 * error(image + field, image)


@pytest.mark.parametrize("is_gain", [False, True])
def test_white_and_black_areas_get_no_stripes(is_gain):
    """They were cut off after the offsets or gains came, or hold no data."""
    image = edges()
    image[:, :, :40], image[:, :30, 120:] = -1, 1
    changed = (image + 1) * np.exp(offsets(0.06)) - 1 if is_gain else image + offsets(0.05)
    damaged = np.where(np.abs(image) < 1, changed, image)
    cleaned = without_lines(damaged, 0)
    assert np.ptp(cleaned[:, :, :39]) == 0 and np.ptp(cleaned[:, :29, 121:]) == 0
    assert error(cleaned, image) < 0.35 * error(damaged, image)


def test_white_areas_get_no_stripes_in_windows_either():
    waves = np.random.default_rng(1).standard_normal((2, 96, 1)) * 0.04
    along = 2 * np.pi * np.arange(256) / 256
    field = (waves[0] * np.cos(along) + waves[1] * np.sin(along)).astype(np.float32) + offsets(0.04)
    image = np.pad(edges(), ((0, 0), (0, 0), (0, 96)), mode="edge")
    image[:, 20:60, 30:70] = 0.98  # goes beyond white where the line was darker
    image[:, :, 200:] = 1
    damaged = np.where(image < 1, np.minimum(image + field, 1), image)
    cleaned = without_lines(damaged, 2)
    assert np.ptp(cleaned[:, :, 201:]) == 0
    assert error(cleaned, image) < 0.5 * error(damaged, image)


@pytest.mark.parametrize("deviation", [8, 16])
def test_offsets_of_photographs_are_found_with_their_strength_and_taken(data_root, deviation):
    for index, image in enumerate(kodak_centres(data_root, 6)):
        values = offsets(deviation / 127.5, index, 256)
        damaged = image + values
        found = find_line([damaged])
        assert found is not None and found.half_width == 0
        assert found.deviation.value == pytest.approx(values.std(), rel=0.2)
        assert line_strength([damaged], 0).value == pytest.approx(found.deviation.value)
        assert error(without_lines(damaged, 0), image) < 0.6 * error(damaged, image)


def test_no_photograph_gets_worse_where_offsets_are_faint(data_root):
    for deviation in (0.5, 2):
        for index, image in enumerate(kodak_centres(data_root, 6)):
            damaged = image + offsets(deviation / 127.5, index, 256)
            cleaned = without_lines(damaged, 0)
            assert cleaned is None or error(cleaned, image) < error(damaged, image)
