"""Networks on fields of any size and any number of planes."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.gaussian_fields import POWER, SPECTRA, as_power, convolution, fields

from sagd_cli.denoising.preconditioning import INPUTS, denoised
from sagd_cli.denoising.sizes import of_planes, padded


@given(st.integers(1, 20), st.integers(1, 20), st.sampled_from([4, 16]))
@settings(max_examples=50, deadline=None)
def test_padding_gives_every_size_its_own_shape_and_continues_it_by_reflection(height, width, multiple):
    x = torch.randn(2, 1, height, width, generator=torch.Generator().manual_seed(0))
    seen = []

    def identity(x, timestep):
        seen.append(x)
        return x

    assert torch.equal(padded(identity, multiple)(x, torch.zeros(2)), x)
    (given,) = seen
    sides = ((0, -side % multiple) for side in (height, width))
    assert np.array_equal(given, np.pad(x, [(0, 0), (0, 0), *sides], mode="reflect"))


def test_a_network_of_three_planes_sees_zeros_in_the_planes_that_a_grey_image_does_not_have():
    """Input k of plane p is at 3 k + p; the first of its answers counts."""
    seen = []

    def spy(x, timestep):
        seen.append(x)
        return torch.arange(12.0).view(1, 12, 1, 1) + 0 * x

    x = 1 + fields(2, channels=INPUTS).abs()
    said = of_planes(spy, 3)(x, torch.zeros(2))
    (given,) = seen
    assert given.shape == (2, 12, *x.shape[2:])
    for k in range(INPUTS):
        assert torch.equal(given[:, 3 * k], x[:, k])
        assert not given[:, 3 * k + 1 : 3 * k + 3].any()
    assert said.shape == (2, 1, *x.shape[2:]) and not said.any()


def test_a_network_of_its_own_planes_is_left_as_it_is():
    x, network = fields(2, channels=3 * INPUTS), convolution(3 * INPUTS)
    assert torch.equal(of_planes(network, 3)(x, torch.zeros(2)), network(x, torch.zeros(2))[:, :3])


def test_a_grey_image_is_restored_as_the_brightness_of_one_without_colours():
    """Its two other planes have no content and no noise; the brightness comes out the same."""
    y, noise = fields(3), as_power(SPECTRA["ring"])
    network = convolution(3 * INPUTS)
    grey = denoised(of_planes(network, 3), y, noise, as_power(POWER), None).estimate
    planes = torch.cat([y, torch.zeros(3, 2, *y.shape[2:])], dim=1)
    colours = denoised(network, planes, noise, as_power(POWER).expand(1, 3, -1, -1), None).estimate
    torch.testing.assert_close(grey, colours[:, :1])
