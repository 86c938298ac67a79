"""The loss of a denoiser: every spectrum weighs alike, and images have the same tasks however a batch is divided."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from support.gaussian_fields import SHAPE, Whisper, convolution, fields, silent
from support.noise_kinds import kinds_of

from sagd_cli.denoising.planes import from_planes
from sagd_cli.denoising.preconditioning import INPUTS
from sagd_cli.denoising.random_spectra import RandomSpectra
from sagd_cli.denoising.restoration_loss import BYTE_STEP, LEAST_CONTRAST, RestorationLoss, Variety
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.noise import BatchStream, multiply_spectrum, random_stream

CPU = torch.device("cpu")
BANDS = [["low"], ["mid"], ["high"], ["stripe:vertical,0.1"], ["rings"], ["any"]]


def loss_of(bands, levels=(0.1, 1.0), variety=None, damage=None, shape=SHAPE, multiple=4):
    return RestorationLoss(RandomSpectra(kinds_of(bands), levels), shape, CPU, variety, damage, multiple)


def law(shape):
    """The power of fields that follow the law that is fitted to images."""
    return 0.02 * ((FrequencyGrid(shape).radius + 0.005) / 0.105) ** -2.9


def objectives(loss, network, x0, seed=0):
    """The objective of each image, (B,)."""
    return loss.errors(network, x0, random_stream("cpu", seed)).output.square().mean(dim=(1, 2, 3)).sqrt()


@pytest.mark.parametrize("bands", BANDS, ids=str)
def test_a_silent_network_has_the_objective_one(bands):
    """About: of fields that follow the law, whose spectrum is found through the noise of any level.

    Noise in few frequencies makes the root smaller on average: by 0.05 at 32x32 for `any`, by 0.02 at 96x96.
    """
    shape = (64, 64)
    found = objectives(loss_of(bands, shape=shape), silent, fields(300, law(shape), shape=shape))
    assert float(found.mean()) == pytest.approx(1, abs=0.05)
    assert (
        float(found.max()) < 2**0.5 + 1e-5
    )  # it is measured against half of itself and half of its expectation


@pytest.mark.parametrize("bands", BANDS, ids=str)
def test_a_network_that_says_noise_of_unit_variance_doubles_the_mean_square_error(bands):
    """Such an output is as wrong as the Wiener filter, at each frequency."""
    shape, loss = (64, 64), loss_of(bands, shape=(64, 64))
    x0 = fields(300, law(shape), shape=shape)
    squares = [objectives(loss, network, x0).square().mean() for network in (silent, Whisper())]
    assert float(squares[1] / squares[0]) == pytest.approx(2, rel=0.1)


def test_the_objective_is_the_mean_of_the_root_mean_squares():
    loss, x0 = loss_of(["rings"]), fields(50)
    errors = loss.errors(convolution(INPUTS), x0, random_stream("cpu", 1))
    expected = errors.output.square().mean((1, 2, 3)).sqrt().mean()
    torch.testing.assert_close(loss.objective(errors), expected)
    torch.testing.assert_close(objectives(loss, convolution(INPUTS), x0, 1).mean(), expected)


def test_the_task_of_a_band_is_to_remove_noise_from_it_alone():
    """What the network sees minus what it would see of the clean image is in the band; the answer can be exact."""
    x0, band = fields(20), torch.as_tensor(Band.parse("mid").mask(FrequencyGrid(SHAPE)))
    errors = loss_of(["mid"], (0.5, 0.5)).errors(silent, x0, random_stream("cpu", 0))
    outside = torch.fft.rfft2(errors.output)[..., ~band]
    assert float(outside.abs().max()) < 1e-3 * float(torch.fft.rfft2(errors.output).abs().max())
    assert errors.eps.shape == errors.output.shape


@pytest.mark.parametrize("variety", [None, Variety(0.5, 0.5, 0.5, 0.5)], ids=["plain", "varied"])
def test_images_have_the_same_tasks_however_the_batch_is_divided(variety):
    loss, x0 = loss_of(["rings", "low", "any"], variety=variety), fields(40, channels=3).clamp(-1, 1)

    def errors(places):
        stream = BatchStream("cpu", places, 0, "loss", 7)
        return loss.errors(convolution(3 * INPUTS), x0[places.start : places.stop], stream)

    whole = errors(range(40))
    parts = [errors(range(*ends)) for ends in pairwise((0, 16, 23, 40))]
    for name in ("output", "eps", "snr"):
        divided = torch.cat([getattr(part, name) for part in parts])
        torch.testing.assert_close(divided, getattr(whole, name), rtol=1e-3, atol=1e-3)


def test_errors_are_recorded_at_the_size_of_the_smallest_images():
    loss = loss_of(["rings"], shape=(16, 16))
    errors = loss.errors(silent, fields(2, law((24, 20)), shape=(24, 20)), random_stream("cpu", 0))
    assert errors.output.shape == (2, 1, 24, 20)
    assert torch.equal(errors.eps, errors.output[..., :16, :16])


def test_a_network_is_given_sides_that_its_multiple_divides():
    whisper = Whisper()
    loss_of(["rings"], multiple=16).errors(
        whisper, fields(2, law((24, 20)), shape=(24, 20)), random_stream("cpu", 0)
    )
    assert whisper.seen[0].shape == (2, INPUTS, 32, 32)


@pytest.mark.parametrize("high", [0.0, 0.3])
def test_images_that_are_damaged_already_are_known_to_be(high):
    """Noise of level 0.3 belongs to what is to be found; the silent network has the objective 1.

    In a band, and in two of different strength.
    """
    shape = (32, 32)
    grid = FrequencyGrid(shape)
    mid, top = (Band.parse(name).mask(grid).astype(float) for name in ("mid", "high"))
    amplitude = torch.as_tensor(mid + high * top).float()
    kinds = [lambda grid: mid + high**2 * top]
    own = multiply_spectrum(fields(300, 0 * law(shape) + 1, 1, shape), 0.3 * amplitude, shape)
    x0 = fields(300, law(shape), shape=shape) + own
    found = objectives(loss_of(kinds, (0.5, 0.5), damage=0.3, shape=shape), silent, x0)
    assert float(found.mean()) == pytest.approx(1, abs=0.03)
    assert float(objectives(loss_of(kinds, (0.5, 0.5), shape=shape), silent, x0).mean()) > 1.05


def varied(x0, seed=0, **shares):
    """The planes (x, y, marks) and shares of clipped pixels of images with noise of amplitude 1, as they are varied."""
    stream = random_stream("cpu", seed)
    added = torch.randn(x0.shape, generator=stream)
    loss = loss_of(["0:1"], variety=Variety(**shares))
    return loss._damaged(x0, added, lambda: torch.rand(len(x0), generator=stream))


def test_a_share_of_the_images_is_inverted():
    x0 = fields(1000).clamp(-1, 1)
    x, _, marks, _ = varied(x0, inverted=0.5)
    is_same, is_inverse = ((x - sign * x0).abs().amax((1, 2, 3)) == 0 for sign in (1, -1))
    assert bool((is_same ^ is_inverse).all()) and not marks.any()
    assert abs(int(is_inverse.sum()) - 500) < 5 * 250**0.5


def test_paler_images_stay_on_the_range_at_contrasts_down_to_a_tenth():
    x0 = fields(1000).clamp(-1, 1)
    x = varied(x0, paler=0.5)[0]
    contrast = x.std((1, 2, 3)) / x0.std((1, 2, 3))
    is_pale = contrast < 0.999
    assert float(x.abs().max()) <= 1 + 1e-6 and float(contrast.min()) >= LEAST_CONTRAST - 1e-6
    assert abs(int(is_pale.sum()) - 500) < 5 * 250**0.5
    # Log-uniform: the middle is the geometric mean.
    assert abs(float((contrast[is_pale] < LEAST_CONTRAST**0.5).float().mean()) - 0.5) < 5 * 0.5 / 500**0.5


def test_grey_images_are_means_of_colours_and_have_noise_in_their_brightness_alone():
    x0 = fields(1000, channels=3).clamp(-1, 1)
    x, y, *_ = varied(x0, grey=0.5)
    grey = x[:, 1:].abs().amax((1, 2, 3)) == 0
    assert abs(int(grey.sum()) - 500) < 5 * 250**0.5
    assert torch.equal(y[grey][:, 1:], torch.zeros_like(y[grey][:, 1:]))
    mean = x0.mean(1)
    torch.testing.assert_close(x[grey][:, 0].abs(), mean[grey].abs())
    assert float((y - x)[grey][:, 0].square().mean()) == pytest.approx(1, rel=0.02)
    # The others are in colour, with the noise that they were given in all planes.
    assert float((y - x)[~grey].square().mean()) == pytest.approx(1, rel=0.02)
    colours = from_planes(x[~grey])
    assert float((colours.abs() - x0[~grey].abs()).abs().max()) < 1e-5


@pytest.mark.parametrize("channels", [1, 3])
def test_clipped_images_have_the_values_of_8_bits_and_marks_where_they_are_black_or_white(channels):
    x0 = fields(400, channels=channels).clamp(-1, 1)
    _, y, marks, share = varied(x0, clipped=0.5)
    if channels == 3:
        y, marks = from_planes(y), from_planes(marks)
    torch.testing.assert_close(share, marks.abs().mean((1, 2, 3)))
    clipped = marks.abs().amax((1, 2, 3)) > 0
    assert abs(int(clipped.sum()) - 200) < 5 * 100**0.5
    levels = (y[clipped] + 1) / BYTE_STEP
    assert float((levels - levels.round()).abs().max()) < 1e-3 and float(y[clipped].abs().max()) <= 1 + 1e-5
    torch.testing.assert_close(
        marks[clipped].round(), (y[clipped] > 1 - 1e-4).float() - (y[clipped] < 1e-4 - 1).float()
    )
    assert float(y[~clipped].abs().max()) > 2 and not marks[~clipped].any()


def test_a_grey_image_is_clipped_as_a_grey_image():
    """Its missing planes are neither black nor white."""
    _, y, marks, share = varied(fields(200, channels=3).clamp(-1, 1), grey=1, clipped=1)
    assert not y[:, 1:].any() and not marks[:, 1:].any()
    assert np.isin(marks[:, 0].numpy(), (-1, 0, 1)).all() and bool((y[:, 0].abs() <= 1).all())
    torch.testing.assert_close(share, marks[:, 0].abs().mean((1, 2)))
    assert share.mean() > 0.2
