"""What a denoiser does at each frequency: against float64 arithmetic, and against the statistics of Gaussian fields."""

from math import inf, pi

import numpy as np
import pytest
import torch
from support.gaussian_fields import (
    POWER,
    SHAPE,
    SPECTRA,
    Whisper,
    as_power,
    convolution,
    fields,
    natural,
    silent,
    spectra,
    spectrum,
    within,
)

from sagd_cli.denoising.preconditioning import INPUTS, Coefficients, clipped_noise, denoised
from sagd_cli.spectral.grid import FrequencyGrid

KINDS = list(SPECTRA)


def damaged(noise, count=4, power=POWER, shape=SHAPE, channels=1):
    """Fields of power S = `power`, and the same with noise of the power `noise`; 7 stands for what is lost."""
    x = fields(count, power, shape=shape, channels=channels)
    return x, x + fields(count, np.where(noise == inf, 49.0, noise), 1, shape, channels)


def exact(noise, power=POWER):
    """S / (S + N) and S N / (S + N) in float64; the limits where N is infinite."""
    gain = np.where(noise == inf, 0, power / (power + np.where(noise == inf, 0, noise)))
    return gain, power * (1 - gain)


@pytest.mark.parametrize("shape", [(16, 16), (24, 21), (9, 40)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_a_silent_network_is_the_wiener_filter(kind, shape):
    """Within 1e-5 of the exact estimate of Gaussian data, in every pixel; the mean of each image stays."""
    grid = FrequencyGrid(shape)
    noise, power = spectra(grid)[kind], natural(grid)
    _, y = damaged(noise, power=power, shape=shape)
    gain = exact(noise, power)[0]
    gain[0, 0] = 1
    wanted = np.fft.irfft2(gain * np.fft.rfft2(y.double()), s=shape)
    found = denoised(silent, y, as_power(noise), as_power(power), None)
    assert np.abs(found.estimate.numpy() - wanted).max() < 1e-5
    assert not found.correction.any()


@pytest.mark.parametrize("kind", ["ring", "strip", "discs", "ring lost"])
def test_frequencies_without_noise_come_back_whatever_the_network_says(kind):
    noise = SPECTRA[kind]
    _, y = damaged(noise)
    found = denoised(Whisper(), y, as_power(noise), as_power(POWER), None)
    change = (spectrum(found.estimate) - spectrum(y))[..., torch.as_tensor(noise == 0)]
    assert float(change.abs().max()) <= 1e-6 * float(spectrum(y).abs().max())
    assert float(found.correction.abs().max()) > 0.1


def test_what_is_lost_counts_for_nothing_and_comes_back_as_zero_with_its_mean():
    """Two images that differ in the lost ring alone have one estimate, which is 0 there."""
    noise = SPECTRA["ring lost"]
    lost = torch.as_tensor(noise == inf)
    x, y = damaged(noise)
    first, second = (denoised(silent, z, as_power(noise), as_power(POWER), None).estimate for z in (x, y))
    torch.testing.assert_close(first, second, rtol=0, atol=1e-5)
    assert float(spectrum(second)[..., lost].abs().max()) < 1e-5
    spoken = [denoised(convolution(4), z, as_power(noise), as_power(POWER), None).estimate for z in (x, y)]
    torch.testing.assert_close(*spoken, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_mean_of_an_image_is_never_lost_and_a_silent_network_keeps_it(kind):
    noise = SPECTRA[kind].copy()
    noise[0, 0] = inf
    _, y = damaged(SPECTRA[kind])
    found = denoised(Whisper(), y, as_power(noise), as_power(POWER), None).estimate
    torch.testing.assert_close(found.mean((-2, -1)), y.mean((-2, -1)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_network_sees_white_fields_of_unit_power(kind):
    """The first input has the power 1 at each frequency, the second S / (S + N), the third the mean square 1.

    So the second tells where the noise is. The marks are last, as they were given.
    """
    noise, whisper = SPECTRA[kind], Whisper()
    _, y = damaged(noise, 2000)
    marks = torch.ones_like(y)
    denoised(whisper, y, as_power(noise), as_power(POWER), marks)
    white, known, unit, given = whisper.seen[0].unbind(1)
    there = torch.as_tensor(noise < inf)
    there[0, 0] = False
    gain = torch.as_tensor(exact(noise)[0])
    assert within(spectrum(white).abs().square()[:, there], 1.0)
    assert within(spectrum(known).abs().square()[:, there], gain[there])
    torch.testing.assert_close(unit.square().mean((-2, -1)), torch.ones(2000))
    assert torch.equal(given, marks[:, 0])
    assert float(spectrum(white)[:, ~there].abs().max()) < 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_the_output_enters_as_the_error_that_the_wiener_filter_is_expected_to_have(kind):
    """White noise of variance 1 from the network has the power S N / (S + N) in the estimate, and S where N is lost."""
    noise = SPECTRA[kind]
    x, y = damaged(noise, 2000)
    found = denoised(Whisper(), y, as_power(noise), as_power(POWER), None)
    expected = torch.as_tensor(exact(noise)[1])
    assert within(spectrum(found.correction).abs().square()[:, 0], expected)
    # It is the power of the real error, too; the mean, which the filter leaves alone, keeps its noise.
    left = spectrum(found.linear - x).abs().square()[:, 0]
    there = torch.ones(expected.shape, dtype=torch.bool)
    there[0, 0] = False
    assert within(left[:, there], expected[there])
    assert float(found.error[0]) == pytest.approx(FrequencyGrid(SHAPE).mean(expected.numpy()), rel=1e-5)


def test_every_image_has_its_own_noise_and_every_plane_its_own_spectrum():
    noises = torch.cat([as_power(SPECTRA[kind]) for kind in ("ring", "sum", "ring lost")])
    images = torch.cat([as_power(POWER), as_power(3 * POWER)], dim=1).expand(3, -1, -1, -1)
    y = fields(3, channels=2)
    network = convolution(2 * INPUTS)
    together = denoised(network, y, noises, images, None).estimate
    alone = [denoised(network, y[i : i + 1], noises[i : i + 1], images[:1], None).estimate for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone))
    linear = denoised(silent, y, noises, images, None).estimate
    for p in range(2):
        plane = denoised(silent, y[:, p : p + 1], noises, images[:, p : p + 1], None).estimate
        torch.testing.assert_close(linear[:, p : p + 1], plane)


@pytest.mark.parametrize(("factor", "offset"), [(0.01, 0.3), (-3.0, 2.0), (250.0, -80.0)])
def test_brightness_and_contrast_change_the_estimate_as_they_change_the_image(factor, offset):
    """D(a x + b) = a D(x) + b with a^2 N and a^2 S; an odd network where a is negative."""
    noise, image = as_power(SPECTRA["ring and white"]), as_power(POWER)
    _, y = damaged(SPECTRA["ring and white"])
    network = convolution(INPUTS)
    plain = denoised(network, y, noise, image, None).estimate
    scaled = denoised(network, factor * y + offset, factor**2 * noise, factor**2 * image, None).estimate
    torch.testing.assert_close((scaled - offset) / factor, plain, rtol=0, atol=2e-4)


def test_the_coefficients_have_their_limits_without_noise_and_with_nothing_but_noise():
    noise = torch.tensor([0.0, inf, 1e-30, 1e30, 4.0])
    found = Coefficients.of(torch.tensor(4.0), noise)
    wanted = {
        "skip": [1, 0, 1, 0, 0.5],
        "inputs": [0.5, 0, 0.5, 0, 8**-0.5],
        "error": [0, 2, 0, 2, 2**0.5],
        "white": [0.5, 0, 0.5, 0, 0.25],
    }
    for name, values in wanted.items():
        torch.testing.assert_close(
            getattr(found, name), torch.tensor(values, dtype=torch.float32), rtol=1e-5, atol=1e-14
        )


@pytest.mark.parametrize("side", [1, 2, 3, 15])
def test_the_smallest_images_have_estimates(side):
    y = fields(2, 1.0 + 0 * FrequencyGrid((side, side)).radius, shape=(side, side)) + 3
    noise = torch.full((1, 1, side, side // 2 + 1), 0.04)
    found = denoised(silent, y, noise, torch.full_like(noise, 0.36), None).estimate
    mean = y.mean((-2, -1), keepdim=True)
    torch.testing.assert_close(found, mean + 0.9 * (y - mean))


@pytest.mark.parametrize("deviation", [0.05, 0.5])
def test_noise_on_a_black_image_that_was_clipped_has_the_power_that_is_predicted(deviation):
    """Of white noise s^2 half the pixels are cut: (1/2 - 1/(2 pi)) s^2 is left, white again; within 20 %."""
    shape = (64, 64)
    grid = FrequencyGrid(shape)
    noise = torch.full((1, 1, *grid.half_shape), deviation**2)
    y = deviation * fields(40, 1 + 0 * grid.radius, shape=shape) - 1
    predicted = clipped_noise(noise, (y <= -1).float().mean((1, 2, 3)), grid)
    measured = spectrum(y.clamp(-1, 1)).abs().square().mean((0, 1))
    measured[0, 0] = (0.5 - 0.5 / pi) * deviation**2
    assert float(measured.mean()) == pytest.approx((0.5 - 0.5 / pi) * deviation**2, rel=0.02)
    assert float(predicted.mean()) == pytest.approx(float(measured.mean()), rel=0.2)
    assert float(predicted.std()) < 0.05 * float(predicted.mean())


def test_noise_of_images_that_were_not_clipped_stays_and_what_is_lost_stays_lost():
    """Also where every pixel of an image is black or white."""
    noise, lost = as_power(SPECTRA["sum"]), as_power(SPECTRA["ring lost"])
    untouched, whole = torch.zeros(2), torch.ones(1)
    grid = FrequencyGrid(SHAPE)
    assert torch.equal(clipped_noise(noise, untouched, grid), noise.expand(2, -1, -1, -1))
    for share in (untouched, whole, whole / 2):
        assert torch.equal(
            clipped_noise(lost, share, grid) == inf, (lost == inf).expand(len(share), -1, -1, -1)
        )
    spread = clipped_noise(noise, whole, grid)
    assert float(spread.min()) == float(spread.max()) > 0
