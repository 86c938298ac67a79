"""What a network sees of the images: whole ones or squares, and of a network that restores four planes of each."""

import pytest

from sagd_cli.config.layers import resolve
from sagd_cli.errors import ConfigError
from sagd_cli.model.network import seen_shape, side_multiple


def config(**values):
    return resolve({key.replace("__", "."): value for key, value in values.items()})


@pytest.mark.parametrize(
    ("settings", "shape", "seen"),
    [
        ({}, (3, 20, 24), (3, 20, 24)),
        ({"training__crops": [16]}, (3, 20, 24), (3, 16, 16)),
        ({"restoration__bands": ["mid"]}, (1, 28, 30), (4, 28, 32)),
        ({"restoration__bands": ["any"], "training__crops": [16, 32]}, (3, 40, 50), (12, 32, 32)),
    ],
)
def test_a_network_is_built_for_what_it_sees(settings, shape, seen):
    assert seen_shape(config(**settings), shape) == seen


def test_a_network_that_sees_squares_is_given_sides_that_it_can_halve_often():
    assert side_multiple(config(restoration__bands=["mid"], training__crops=[32])) == 16
    assert side_multiple(config(restoration__bands=["mid"])) == 4


@pytest.mark.parametrize("shape", [(1, 28, 40), (1, 40, 28), (1, 64)])
def test_squares_that_the_images_do_not_hold_are_refused(shape):
    with pytest.raises(ConfigError, match="squares of 32 pixels cannot be cut from images of"):
        seen_shape(config(training__crops=[16, 32]), shape)


@pytest.mark.parametrize("crops", [[8], [40], [0], [-16], ["a"]])
def test_the_sides_of_squares_are_multiples_of_16(crops):
    with pytest.raises(ConfigError, match=r"training\.crops"):
        config(training__crops=crops)
