"""Short lines of one direction: found at their angle where they are alike all over an image, and else let alone."""

import numpy as np
import pytest
from PIL import Image
from support.synthetic import gaussian_fields

from sagd_cli.detection.short_lines import are_parallel, find_short_lines
from sagd_cli.spectral.band import Stripe
from sagd_cli.spectral.grid import FrequencyGrid

SHAPE = (448, 480)
GRID = FrequencyGrid(SHAPE)
LAW = 2.4e-4 * (GRID.radius + 0.005) ** -2.9


def curtains(angle, length=40, width=3):
    """The power spectrum, of variance 1, of soft lines of a length and width in pixels."""
    f_y, f_x = GRID.axes
    sine, cosine = np.sin(np.radians(angle)), np.cos(np.radians(angle))
    along, across = f_x * cosine - f_y * sine, f_x * sine + f_y * cosine
    power = np.exp(-(((along * length) ** 2 + (across * width) ** 2) * 6.3))
    return power / GRID.mean(power)


def damaged(angle, seed=0, level=0.1):
    clean, noise = (gaussian_fields(1, SHAPE, p, seed + k)[0] for k, p in enumerate((LAW, curtains(angle))))
    return (clean / 2 + level * noise).astype(np.float32)


def found(image):
    return find_short_lines([image])


@pytest.mark.parametrize("angle", [20, 90, 117, 179])
def test_short_lines_are_found_at_their_angle(angle):
    (lines,) = found(damaged(angle))
    assert (lines.angle - angle + 90) % 180 - 90 == pytest.approx(0, abs=2)
    assert lines.deviation == pytest.approx(0.1, rel=0.2)


def test_lines_of_two_directions_are_found_beside_each_other():
    image = damaged(100) + 0.1 * gaussian_fields(1, SHAPE, curtains(40), 7)[0]
    assert sorted(lines.angle for lines in found(image.astype(np.float32))) == pytest.approx([40, 100], abs=2)


def test_a_turned_or_mirrored_picture_has_lines_that_are_turned_or_mirrored():
    image = damaged(30)
    angles = [found(view)[0].angle for view in (image, image.swapaxes(1, 2)[:, ::-1], image[:, ::-1])]
    assert [angle % 180 for angle in angles] == pytest.approx([30, 120, 150], abs=3)


def test_lines_that_multiply_an_image_are_found_however_dark_some_of_it_is():
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    light = np.exp(-((rows - 220) ** 2 + (columns - 240) ** 2) / 200**2)  # beside a scene, a black border
    clean, lines = (gaussian_fields(1, SHAPE, p, k)[0] for k, p in enumerate((LAW, curtains(110))))
    image = light * (1 + clean / 4) * (1 + 0.2 * lines) - 1
    (lines,) = found(image.astype(np.float32))
    assert are_parallel(lines.stripe, Stripe("110"))
    assert found((light * (1 + clean / 4) - 1).astype(np.float32)) == []


def test_clean_fields_and_lines_in_a_part_of_an_image_are_let_alone():
    clean = (gaussian_fields(1, SHAPE, LAW, 5)[0] / 2).astype(np.float32)
    fence = (0.3 * gaussian_fields(1, SHAPE, curtains(70), 6)[0]).astype(np.float32)
    fence[:, :160] = 0
    assert found(clean) == found(clean + fence) == []
    assert found(clean[:, :100]) == []


def test_lines_behind_texture_are_found_where_the_image_has_none():
    """As in a photograph with a clear sky: most blocks drown the lines, and the others all have them."""
    texture = 0.3 * gaussian_fields(1, SHAPE, np.ones(GRID.half_shape), 8)[0].astype(np.float32)
    texture[:, :150] = 0
    (lines,) = found(damaged(90) + texture)
    assert lines.angle == pytest.approx(90, abs=2)
    assert lines.deviation == pytest.approx(0.1, rel=0.25)
    assert found(damaged(90, level=0) + texture) == []


def test_houses_and_fences_of_photographs_are_let_alone(data_root):
    for name in ("kodim01", "kodim08", "kodim21"):
        levels = np.asarray(Image.open(data_root / "kodak" / f"{name}.png").convert("L"), np.float32)
        assert found(levels[None] / 127.5 - 1) == [], name
