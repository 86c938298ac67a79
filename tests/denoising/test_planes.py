"""The planes of an image: a rotation of its colours, so noise and errors keep their size."""

import torch
from support.gaussian_fields import fields

from sagd_cli.denoising.planes import from_planes, marked, to_planes


def test_planes_keep_sums_of_squares_and_give_the_image_back():
    x, other = fields(3, channels=3), fields(3, seed=1, channels=3)
    planes = to_planes(x)
    torch.testing.assert_close(from_planes(planes), x)
    torch.testing.assert_close((planes * to_planes(other)).sum((1, 2, 3)), (x * other).sum((1, 2, 3)))


def test_the_first_plane_is_brightness_and_grey_images_have_no_other():
    grey = fields(2).expand(-1, 3, -1, -1)
    planes = to_planes(grey)
    torch.testing.assert_close(planes[:, :1], 3**0.5 * grey[:, :1])
    assert float(planes[:, 1:].abs().max()) < 1e-5


def test_images_that_are_not_in_rgb_are_their_own_planes():
    for channels in (1, 2, 4):
        x = fields(2, channels=channels)
        assert torch.equal(to_planes(x), x) and torch.equal(from_planes(x), x)


def test_pixels_are_marked_where_they_are_black_or_white():
    y = torch.tensor([-1.5, -1, -0.999, 0, 0.999, 1, 2])
    assert marked(y).tolist() == [-1, -1, 0, 0, 0, 1, 1]
