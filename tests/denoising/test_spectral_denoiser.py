"""The denoiser along the path of a sampler: noise of the power (sigma / 80)^2 N, from the image's own to none."""

import pytest
import torch
from support.gaussian_fields import (
    POWER,
    SHAPE,
    SPECTRA,
    as_power,
    convolution,
    fields,
    silent,
    spectrum,
    within,
)

from sagd_cli.denoising.preconditioning import INPUTS
from sagd_cli.denoising.spectral_denoiser import FIRST_SIGMA, LOST_FROM, PATH_REACH, SpectralDenoiser
from sagd_cli.spectral.noise import random_stream

KINDS = list(SPECTRA)
LOST = torch.as_tensor(SPECTRA["ring lost"] > 0)


def denoiser(kind, network=silent, power=POWER):
    return SpectralDenoiser(network, SHAPE, as_power(SPECTRA[kind]), as_power(power))


@pytest.mark.parametrize("kind", KINDS)
def test_at_the_first_level_it_is_the_denoiser_of_the_images(kind):
    network, y = convolution(INPUTS), fields(3)
    found = denoiser(kind, network)
    level = found.path(5, found.ends(1)[0])[0]
    assert float(level.sigma) == pytest.approx(FIRST_SIGMA, rel=1e-4)
    x0, eps = found(y, level.t)
    # Of what is lost, the first level lets a hundredth through.
    change = spectrum(x0 - found.mean(y)).abs().max() / spectrum(y).abs().max()
    assert float(change) < (0.02 if kind == "ring lost" else 1e-4)
    torch.testing.assert_close(x0 + level.sigma * eps, y, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "ring lost"])
@pytest.mark.parametrize("place", [1, 3])
def test_at_a_later_level_the_noise_is_less_by_the_square_of_sigma(kind, place):
    """A silent network gives S / (S + (sigma / 80)^2 N) at each frequency but DC."""
    found, x = denoiser(kind), fields(3)
    level = found.path(6, found.ends(1)[0])[place]
    share = (float(level.sigma) / FIRST_SIGMA) ** 2
    assert 0 < share < 1
    gain = torch.as_tensor(POWER / (POWER + share * SPECTRA[kind]))
    gain[0, 0] = 1
    wanted = torch.fft.irfft2(gain * torch.fft.rfft2(x.double()), s=SHAPE)
    torch.testing.assert_close(found(x, level.t)[0], wanted.float(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_noise_of_the_process_is_that_of_the_images(kind):
    """At sigma = 80; where a frequency is lost it has 100 times the amplitude of the image."""
    drawn = FIRST_SIGMA * denoiser(kind).process.noise.draw((2000, 1, *SHAPE), random_stream("cpu", 0))
    expected = torch.as_tensor(SPECTRA[kind]).clone()
    if kind == "ring lost":
        expected[LOST] = LOST_FROM**2 * torch.as_tensor(POWER)[LOST]
    measured, there = spectrum(drawn).abs().square()[:, 0], expected > 0
    assert within(measured[:, there], expected[there])
    assert float(measured.mean(0)[~there].sum()) < 1e-9 * float(expected.sum())


@pytest.mark.parametrize("kind", KINDS)
def test_the_path_falls_until_the_noise_is_small_beside_the_image_everywhere(kind):
    """A twentieth of its amplitude at most, and a twentieth of what it was; equal ratios between the levels."""
    found = denoiser(kind)
    levels = found.path(12, found.ends(1)[0])
    sigmas = torch.stack([level.sigma for level in levels]).double()
    assert len(levels) == 13 and float(sigmas[-1]) == 0
    ratios = sigmas[1:-1] / sigmas[:-2]
    torch.testing.assert_close(ratios, ratios[:1].expand(11), rtol=1e-2, atol=0)
    last = float(sigmas[-2]) / FIRST_SIGMA
    noise = torch.as_tensor(SPECTRA[kind])
    noise = torch.where(noise.isinf(), LOST_FROM**2 * torch.as_tensor(POWER), noise)
    assert last <= 1.01 / PATH_REACH
    assert float((last**2 * noise / torch.as_tensor(POWER)).max()) <= 1.02 / PATH_REACH**2


def test_a_sample_starts_with_noise_in_place_of_what_is_lost():
    """Each image from its own stream; images without lost frequencies start as they are."""
    y = fields(1).expand(2000, -1, -1, -1)
    streams = [random_stream("cpu", 0, i) for i in range(2000)]
    found = denoiser("ring lost")
    start = found.start(y, streams)
    measured = spectrum(start)[:, 0]
    assert within(measured.abs().square()[:, LOST] / 1e4, torch.as_tensor(POWER)[LOST])
    change = (measured - spectrum(y)[:, 0])[:, ~LOST]
    assert float(change.abs().max()) < 1e-3
    other = found.start(
        y + 5 * fields(1, LOST.numpy() * 1.0), [random_stream("cpu", 0, i) for i in range(2000)]
    )
    assert float((spectrum(other)[:, 0] - measured)[:, LOST].abs().max()) < 1e-2
    assert denoiser("sum").start(y, streams) is y


def test_noise_that_is_far_above_the_image_counts_as_lost():
    """From 100 times the amplitude on: then it is not followed down from where it is."""
    faint = as_power(1e-5 * POWER)
    strong = SpectralDenoiser(silent, SHAPE, as_power(SPECTRA["ring"]), faint)
    y = fields(2)
    assert not torch.equal(strong.start(y, random_stream("cpu", 0)), y)
    drawn = FIRST_SIGMA * strong.process.noise.draw((2000, 1, *SHAPE), random_stream("cpu", 0))
    ring = torch.as_tensor(SPECTRA["ring"] > 0)
    measured = spectrum(drawn).abs().square()[:, 0, ring]
    assert within(measured / torch.as_tensor(POWER)[ring], torch.tensor(LOST_FROM**2 * 1e-5).double())


def test_images_that_were_clipped_are_told_so_at_each_level():
    marks, seen = (fields(2) > 0).float(), []

    def spy(x, timestep):
        seen.append(x[:, -1:])
        return torch.zeros_like(x)

    found = SpectralDenoiser(spy, SHAPE, as_power(SPECTRA["white"]), as_power(POWER), marks)
    found.mean(fields(2))
    found(fields(2), found.path(3, found.ends(1)[0])[1].t)
    assert len(seen) == 2 and all(torch.equal(given, marks) for given in seen)


def test_the_noise_of_the_mean_is_never_infinite():
    noise = as_power(SPECTRA["ring lost"]).clone()
    noise[..., 0, 0] = torch.inf
    found = SpectralDenoiser(silent, SHAPE, noise, as_power(POWER))
    assert float(found.noise[0, 0, 0, 0]) == 0
