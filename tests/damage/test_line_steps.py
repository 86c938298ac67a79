"""What lines have more than the ones before them."""

import numpy as np
import pytest

from sagd_cli.damage.line_steps import gain_ceiling, gains_fit_better, line_steps, line_windows, step_strength


def steps_of(plane, length=None, is_gain=False):
    plane = np.asarray(plane, np.float32)
    return line_steps(
        plane, np.ones_like(plane), line_windows(plane.shape[1], length or plane.shape[1]), is_gain
    )


def test_windows_add_up_to_one():
    for width, length in ((100, 100), (128, 64), (97, 31)):
        windows = line_windows(width, length)
        np.testing.assert_allclose(windows.sum(axis=0), 1, atol=1e-6)
        assert (len(windows) == 1) == (length == width)


def test_objects_that_cross_part_of_a_line_do_not_move_its_step():
    rows = np.linspace(-0.5, 0.5, 60)[:, None] ** 3 + np.zeros(200)
    objects = rows.copy()
    objects[20:40, 30:90] += 0.4
    objects[10:50:3, 100:140] -= 0.3
    np.testing.assert_allclose(steps_of(objects).values, np.diff(rows[:, :1], axis=0), atol=2e-3)


def test_errors_have_the_variance_that_is_told():
    noise = np.random.default_rng(0).standard_normal((200, 300))
    steps = steps_of(noise)
    # The efficiency of the Student law on normal noise: within a tenth of what the mean would have.
    assert np.var(steps.values) == pytest.approx(2 / 300, rel=0.25)
    assert np.median(steps.variances) == pytest.approx(np.var(steps.values), rel=0.4)


def test_a_gain_is_a_step_of_the_logarithm():
    ramp = np.linspace(0.2, 1.8, 300)[None] * np.array([[1.0], [1.1], [1.0]]) - 1
    np.testing.assert_allclose(
        steps_of(ramp, is_gain=True).values[:, 0], [np.log(1.1), -np.log(1.1)], rtol=0.01
    )


def test_strength_is_that_of_independent_effects_and_not_of_trends():
    random = np.random.default_rng(1)
    texture = 0.02 * random.standard_normal((400, 300))
    trend = 0.02 * np.cumsum(random.standard_normal((400, 1)), axis=0)
    effects = 0.1 * random.standard_normal((400, 1))
    found = step_strength([steps_of(texture + trend + effects)], [0])
    assert found.certain and found.value == pytest.approx(0.1, rel=0.15)
    assert not step_strength([steps_of(texture + trend)], [0]).certain


def dim(deviation=0.3):
    """A dim background with gains of rows, and where three bright objects lie on it; brightness above black."""
    y, x = np.mgrid[:96, :160]
    background = 0.15 + 0.1 * np.sin(x / 25) * np.cos(y / 30)
    objects = np.zeros_like(background)
    for row, column in ((20, 40), (47, 100), (70, 60)):
        objects[row - 4 : row + 5, column - 4 : column + 5] = 1.5
    return background, objects, np.exp(deviation * np.random.default_rng(0).standard_normal((96, 1)))


def test_gains_are_believed_up_to_the_brightness_at_which_pixels_agree_on_them():
    background, objects, gains = dim()
    inside = np.ones(background.shape, np.float32)
    tops = []
    for brightness in (background * gains + objects, (background + objects) * gains):
        plane = (brightness - 1).astype(np.float32)
        tops.append(gain_ceiling(plane, inside, steps_of(plane, is_gain=True)))
    assert 0.15 < tops[0] < 0.6 and tops[1] > 1.2
    assert gain_ceiling(plane, 0 * inside, steps_of(plane, is_gain=True)) == 0


def test_the_planes_of_an_image_are_damaged_alike():
    """One whose own rows do not tell follows the others; one below black tells of offsets."""
    background, objects, gains = dim()
    inside = np.ones(background.shape, np.float32)
    gained = ((background + objects) * gains - 1).astype(np.float32)
    offset = (background + objects + 0.02 * np.log(gains) - 0.9).astype(np.float32)
    below = np.where(objects > 0, -1.5, gained).astype(np.float32)
    for plane, is_gain in ((gained, True), (offset, False), (below, False)):
        assert gains_fit_better([(plane, inside)]) == is_gain
    assert gains_fit_better([(gained, inside), (offset, inside)])
    assert not gains_fit_better([(gained, inside), (below, inside)])
