"""Training to tell noise in a band from images: the bands, the scales, and what the loss is of known networks."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.gaussian_band import GRID, POWER, SCHEDULE, SHAPE, ExactNetwork, fields

from sagd_cli.diffusion.band_denoiser import Scales, padded
from sagd_cli.diffusion.band_loss import BandChoice, BandLoss
from sagd_cli.errors import ConfigError
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.noise import BatchStream, multiply_spectrum, random_stream


def drawing(count, seed=0):
    stream = torch.Generator().manual_seed(seed)
    return lambda: torch.rand(count, generator=stream)


def silent(x, timestep):
    return torch.zeros_like(x)


def loss_of(bands, levels, window=None):
    return BandLoss(SCHEDULE, BandChoice(bands, GRID, "cpu"), levels, POWER, window)


def objectives(loss, network, x0, seed=0):
    """The objective of each image, (B,)."""
    return loss.errors(network, x0, random_stream("cpu", seed)).output.square().mean(dim=(1, 2, 3))


def assert_mean_is(values, expected):
    """Within 5 standard errors."""
    assert abs(float(values.mean()) - expected) < 5 * float(values.std()) / len(values) ** 0.5


def test_the_bands_are_those_of_the_command_line_each_as_often():
    names = ["low", "0.6:0.8", "notch:0.25,0.125,0.1", "stripe:horizontal,0.1"]
    masks = BandChoice(names, GRID, "cpu").masks(drawing(4000))
    for name in names:
        wanted = torch.as_tensor(Band.parse(name).mask(GRID)).float()
        count = int((masks == wanted).all(-1).all(-1).sum())
        assert abs(count - 1000) < 5 * 750**0.5


@given(st.tuples(st.integers(2, 24), st.integers(2, 24)), st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_rings_are_whole_rings_and_never_empty(shape, seed):
    """All bins between two radii: on small grids too, where many a ring lies between two neighbouring radii."""
    radius = torch.as_tensor(FrequencyGrid(shape).rho, dtype=torch.float32)
    for mask in BandChoice(["rings"], FrequencyGrid(shape), "cpu").masks(drawing(200, seed))[:, 0] > 0:
        low, high = radius[mask].min(), radius[mask].max()
        assert torch.equal(mask, (radius >= low) & (radius <= high))


def test_rings_begin_and_end_everywhere():
    rings = BandChoice(["rings"], GRID, "cpu").masks(drawing(2000))[:, 0] > 0
    assert rings[:, 0, 0].any() and rings[:, 8, 8].any()  # DC and the corner
    share = rings.float().mean(0)
    assert float(share.min()) > 0.05 and float(share.max()) < 0.8


def test_rings_and_bands_take_turns():
    masks = BandChoice(["rings", "low"], GRID, "cpu").masks(drawing(4000))
    low = torch.as_tensor(Band.parse("low").mask(GRID)).float()
    count = int((masks == low).all(-1).all(-1).sum())
    assert abs(count - 2000) < 5 * 1000**0.5 + 20  # a ring may be that very band


def test_bands_that_are_none_are_refused():
    with pytest.raises(ConfigError, match="no band to train for"):
        BandChoice([], GRID, "cpu")
    with pytest.raises(ConfigError, match="holds no frequency"):
        BandChoice(["0.01:0.02"], GRID, "cpu")


@pytest.mark.parametrize("level", [0.05, 0.5, 5.0])
def test_scales_are_the_deviations_that_are_measured(level):
    """c_in takes the band to unit variance, c_skip leaves no correlation, c_out is the deviation of what remains."""
    mask = torch.as_tensor(Band.parse("mid").mask(GRID)).float()
    share = GRID.mean(mask.numpy())
    power = GRID.mean(mask.numpy() * POWER) / share
    scales = Scales(torch.tensor(power), torch.tensor(share), torch.tensor(level))
    x = multiply_spectrum(fields(4000), mask, SHAPE)
    z = x + level * multiply_spectrum(fields(4000, np.ones(GRID.half_shape), seed=1), mask, SHAPE)
    means = dict.fromkeys(("input", "error", "correlation"))
    means["input"] = (scales.inputs * z).square()
    means["error"] = ((scales.kept * z - x) / scales.error).square()
    means["correlation"] = (scales.kept * z - x) / scales.error * (scales.inputs * z)
    for name, values in means.items():
        assert_mean_is(values.mean(dim=(1, 2, 3)), 0 if name == "correlation" else 1)


@pytest.mark.parametrize("window", [None, 8])
@pytest.mark.parametrize("bands", [["low"], ["mid"], ["high"], ["stripe:vertical,0.1"], ["rings"]], ids=str)
@pytest.mark.parametrize("levels", [(0.05, 0.05), (0.01, 20.0)], ids=str)
def test_a_silent_network_has_the_objective_1(bands, levels, window):
    assert_mean_is(objectives(loss_of(bands, levels, window), silent, fields(2000)), 1)


@pytest.mark.parametrize("band", ["low", "mid", "high"])
@pytest.mark.parametrize("level", [0.2, 2.0])
def test_the_exact_network_has_the_objective_of_the_wiener_filter(band, level):
    """The mean of S l^2 / (S + l^2) over the band, in units of the same with the mean of S."""
    network = ExactNetwork(band)
    mask = network.noise.support
    wiener = GRID.total(mask * POWER * level**2 / (POWER + level**2)) / GRID.total(mask)
    linear = network.mean_power * level**2 / (network.mean_power + level**2)
    with torch.no_grad():
        values = objectives(loss_of([band], (level, level)), network, fields(2000))
    assert wiener / linear < 1
    assert_mean_is(values, wiener / linear)


@pytest.mark.parametrize("window", [None, 8])
def test_images_have_the_same_tasks_however_the_batch_is_divided(window):
    loss, x0 = loss_of(["rings", "low"], (0.05, 1.0), window), fields(40)

    def errors(places):
        stream = BatchStream("cpu", places, 0, "loss", 7)
        return loss.errors(lambda x, t: x + t.view(-1, 1, 1, 1), x0[places.start : places.stop], stream)

    whole = errors(range(40))
    parts = [errors(range(*ends)) for ends in pairwise((0, 16, 23, 40))]
    for name in ("output", "eps", "snr"):
        divided = torch.cat([getattr(part, name) for part in parts])
        torch.testing.assert_close(
            divided, getattr(whole, name), rtol=1e-5, atol=1e-5 * float(whole.eps.std())
        )


def test_the_network_sees_the_image_outside_and_unit_noise_inside():
    """Its input in the band has variance 1 whatever the band and level; outside it is the image itself."""
    seen = []

    def spy(x, timestep):
        seen.append(x)
        return torch.zeros_like(x)

    x0 = fields(2000)
    loss_of(["mid"], (0.01, 20.0)).errors(spy, x0, random_stream("cpu", 0))
    outside, inside = seen[0].chunk(2, dim=1)
    mask = torch.as_tensor(Band.parse("mid").mask(GRID)).float()
    torch.testing.assert_close(outside, x0 - multiply_spectrum(x0, mask, SHAPE), rtol=0, atol=1e-5)
    assert_mean_is(inside.square().mean(dim=(1, 2, 3)), 1)


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
    sides = (side + -side % multiple for side in (height, width))
    assert np.array_equal(
        given,
        np.pad(
            x,
            [(0, 0), (0, 0), *((0, n - s) for n, s in zip(sides, (height, width), strict=True))],
            mode="reflect",
        ),
    )
