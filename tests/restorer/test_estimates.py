"""Estimates against closed forms: a silent network is exact for Gaussian data, frequency by frequency."""

from math import inf

import numpy as np
import pytest
import torch
from support.gaussian_fields import (
    GRID,
    POWER,
    SHAPE,
    SPECTRA,
    as_power,
    convolution,
    fields,
    silent,
    spectrum,
)

from sagd_cli.config.noise_spectrum import NoiseSpectrum
from sagd_cli.config.run import RestorationConfig, RunConfig
from sagd_cli.denoising.image_law import image_power
from sagd_cli.denoising.spectral_denoiser import SpectralDenoiser
from sagd_cli.errors import DataError
from sagd_cli.model.model import Model
from sagd_cli.restorer.estimates import (
    Drawing,
    mean_estimate,
    noisier_posterior_mean,
    ode_estimate,
    sample_estimate,
)
from sagd_cli.restorer.restorer import Restorer
from sagd_cli.restorer.restoring import Restoring
from sagd_cli.restorer.restoring_model import RestoringModel
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.noise import multiply_spectrum

S = torch.as_tensor(POWER)
STRIP = SPECTRA["strip"]
NOISE = {"ring": SPECTRA["ring"], "strip and white": STRIP + 0.02, "ring lost": SPECTRA["ring lost"]}


def exact_denoiser(noise, image=POWER):
    """The denoiser of noise of this power that is exact for Gaussian data of the power `image`."""
    return SpectralDenoiser(silent, SHAPE, as_power(noise), as_power(image))


def damaged(noise, count=6):
    """Fields of power S with noise; what is lost holds the number 7 times a random one."""
    return fields(count) + fields(count, np.where(noise == inf, 49.0, noise), 1)


def gain_of(noise):
    """S / (S + N)."""
    return torch.as_tensor(np.where(noise == inf, 0, POWER / (POWER + np.where(noise == inf, 0, noise))))


def assert_unchanged_without_noise(estimate, y, noise):
    change = (spectrum(estimate) - spectrum(y))[..., torch.as_tensor(noise == 0)]
    if change.numel():
        assert float(change.abs().max()) <= 1e-6 * float(spectrum(y).abs().max())


class Network(torch.nn.Module):
    """A network of `planes` planes that outputs zero, or random nonlinear functions of all that it sees."""

    def __init__(self, planes, speaks):
        super().__init__()
        self.said = convolution(4 * planes) if speaks else silent
        self.parameter = torch.nn.Parameter(torch.zeros(1))  # says where the network is

    def forward(self, x, timestep):
        return self.said(x, timestep)


def restorer(estimate="mean", draws=1, uncertain=False, *, channels=1, speaks=True, **settings):
    """A restorer of images with noise of any kind."""
    config = RunConfig(restoration=RestorationConfig(**{"bands": ("any",), **settings}))
    white, shape = config.filter.weights(SHAPE), (channels, *SHAPE)
    network = Network(channels, speaks)
    model = Model("random", config, network, 1, white, shape, np.dtype("uint8"), None, {"power": POWER})
    return Restorer(RestoringModel(model), Restoring(estimate, draws, uncertain, steps=6), floor=0.0)


def noise_of(text):
    return NoiseSpectrum.parse(text)


@pytest.mark.parametrize("kind", SPECTRA)
def test_the_mean_is_the_wiener_filter(kind):
    noise = SPECTRA[kind]
    y = damaged(noise)
    restored = mean_estimate(y, exact_denoiser(noise), Drawing(1, 0, "abcdef"))
    gain = gain_of(noise)
    gain[0, 0] = 1
    wanted = torch.fft.irfft2(gain * torch.fft.rfft2(y.double()), s=SHAPE)
    assert float((restored - wanted).abs().max()) < 1e-5
    assert_unchanged_without_noise(restored, y, noise)


@pytest.mark.parametrize("kind", NOISE)
def test_samples_have_the_mean_and_the_variance_of_the_posterior(kind):
    """2,000 draws for one y at 60 steps, each frequency but DC within 5 standard errors."""
    noise, count = NOISE[kind], 2000
    y = damaged(noise, 1).expand(count, -1, -1, -1)
    draws = sample_estimate(y, exact_denoiser(noise), Drawing(60, 0, [str(i) for i in range(count)]))
    assert_unchanged_without_noise(draws[:4], y[:4], noise)
    there = torch.as_tensor((noise > 0) & (GRID.radius > 0))
    found, kept = spectrum(draws)[:, 0, there], gain_of(noise)[there]
    mean, variance = kept * spectrum(y)[0, 0, there], (S * (1 - gain_of(noise)))[there]
    assert torch.all((found.mean(0) - mean).abs() < 5 * (variance / count).sqrt())
    # A bin that is its own mirror is real: chi-squared with one degree of freedom.
    measured = (found - mean).abs().square().mean(0)
    assert torch.all((measured - variance).abs() < 5 * variance * (2 / count) ** 0.5)


@pytest.mark.parametrize("kind", ["ring", "strip and white"])
def test_the_ode_turns_the_law_of_y_into_that_of_x(kind):
    """It multiplies each frequency by sqrt(S / (S + N)), within 2 % in 60 steps, and draws nothing."""
    noise = NOISE[kind]
    y, denoiser = damaged(noise), exact_denoiser(noise)
    mapped = ode_estimate(y, denoiser, Drawing(60, 0, "abcdef"))
    assert torch.equal(mapped, ode_estimate(y, denoiser, Drawing(60, 1, "uvwxyz")))
    assert_unchanged_without_noise(mapped, y, noise)
    there = torch.as_tensor((noise > 0) & (GRID.radius > 0))
    ratio = (spectrum(mapped) / spectrum(y))[..., there]
    torch.testing.assert_close(ratio.real, gain_of(noise)[there].sqrt().expand_as(ratio), rtol=0.02, atol=0)
    assert float(ratio.imag.abs().max()) < 1e-3


def test_the_ode_fills_what_is_lost_with_a_draw_of_the_images():
    """Whatever y holds there, the result is the same, and over many its power is S."""
    noise, count = NOISE["ring lost"], 1000
    lost = torch.as_tensor(noise == inf)
    names = [str(i) for i in range(count)]
    found = [
        ode_estimate(y, exact_denoiser(noise), Drawing(30, 0, names))
        for y in (fields(count), damaged(noise, count))
    ]
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0.02)
    power = spectrum(found[0])[:, 0, lost].abs().square().mean(0)
    assert torch.all((power / S[lost] - 1).abs() < 5 * (2 / count) ** 0.5 + 0.02)


@pytest.mark.parametrize("ratio", [1.0, 0.6])
def test_noisier_to_noise_tends_to_its_closed_form(ratio, monkeypatch):
    """With noise tau m added to gamma n, averaged over m, it is S / (S + gamma^2 + tau^2) of y's band.

    With the exact E[m | z] = tau^2 / (S + gamma^2 + tau^2) z, z - (1 + gamma^2/tau^2) E[m | z] is that very gain.
    """
    draws, tau, band = 400, 0.5, SPECTRA["ring"] > 0
    monkeypatch.setattr("sagd_cli.restorer.estimates.DRAWS", draws)
    gamma = ratio * tau
    y = damaged(gamma**2 * band)
    denoiser = exact_denoiser(tau**2 * band, POWER + gamma**2 * band)
    restored = noisier_posterior_mean(y, denoiser, ratio, Drawing(1, 0, "abcdef"))
    inside = torch.as_tensor(band)
    gain = S / (S + gamma**2 + tau**2)
    error = (spectrum(restored) - gain * spectrum(y))[..., inside]
    # What the draws leave, tau gain / sqrt(draws), at every bin; 5 deviations.
    assert torch.all(error.abs() < 5 * tau * gain[inside] / draws**0.5 + 1e-4)
    change = (spectrum(restored) - spectrum(y))[..., ~inside]
    assert float(change.abs().max()) <= 1e-5 * float(spectrum(y).abs().max())
    alone = noisier_posterior_mean(
        y[3:4], exact_denoiser(tau**2 * band, POWER + gamma**2 * band), ratio, Drawing(1, 0, "d")
    )
    torch.testing.assert_close(restored[3:4], alone)


def test_a_restorer_takes_the_spectrum_of_each_image_from_the_image():
    """A silent network leaves the Wiener filter of the law that is fitted."""
    noise = noise_of("mid:level=0.5+white:level=0.1")
    power = as_power(noise.power(GRID))
    y = damaged(noise.power(GRID)) * torch.tensor([1.0, 2, 3, 4, 5, 6]).view(-1, 1, 1, 1)
    restored = restorer(speaks=False).restore(y, [noise] * 6, list("abcdef")).estimate
    gain = 1 / (1 + power / image_power(y, power))
    wanted = multiply_spectrum(y - y.mean((-2, -1), keepdim=True), gain, SHAPE) + y.mean(
        (-2, -1), keepdim=True
    )
    torch.testing.assert_close(restored, wanted)


@pytest.mark.parametrize(("factor", "offset"), [(0.004, 0.5), (-2.0, 1.0), (60.0, -9.0)])
@pytest.mark.parametrize(
    "text", ["mid:level={}", "white:level={}", "high:level=inf", "stripe:horizontal,0.01:level={}"]
)
def test_brightness_and_contrast_change_the_result_as_they_change_the_image(text, factor, offset):
    """A dim 16-bit micrograph and a bright photograph look alike to the network, which is odd here."""
    y, names = damaged(SPECTRA["ring and white"], 2), ["a", "b"]
    plain = restorer().restore(y, [noise_of(text.format(0.3))] * 2, names).estimate
    noise = noise_of(text.format(0.3 * abs(factor)))
    scaled = restorer().restore(factor * y + offset, [noise] * 2, names).estimate
    torch.testing.assert_close((scaled - offset) / factor, plain, rtol=0, atol=2e-3)


def test_every_image_has_its_own_noise():
    noises = [
        noise_of(text) for text in ("mid:level=0.1", "white:level=0.3", "mid:level=0.1", "high:level=inf")
    ]
    y = damaged(SPECTRA["sum"], 4)
    together = restorer("sample", draws=2).restore(y, noises, list("abcd"))
    for i, name in enumerate("abcd"):
        alone = restorer("sample", draws=2).restore(y[i : i + 1], [noises[i]], [name])
        torch.testing.assert_close(together.estimate[i : i + 1], alone.estimate, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(together.draws[0][i : i + 1], alone.draws[0], rtol=1e-3, atol=1e-4)


def test_the_deviation_is_that_of_the_draws_and_the_mean_stays_the_mean():
    y, names, noises = damaged(SPECTRA["ring"], 2), ["a", "b"], [noise_of("mid:level=0.5")] * 2
    sampled = restorer("sample", draws=3, uncertain=True).restore(y, noises, names)
    stack = torch.stack([sampled.estimate, *sampled.draws])
    torch.testing.assert_close(sampled.deviation, stack.std(dim=0))
    mean = restorer(draws=3, uncertain=True).restore(y, noises, names)
    torch.testing.assert_close(mean.deviation, sampled.deviation)
    torch.testing.assert_close(mean.estimate, restorer().restore(y, noises, names).estimate)


def test_a_floor_is_added_to_deviations_in_quadrature():
    y, noises = damaged(SPECTRA["ring"], 1), [noise_of("mid:level=0.5")]
    plain = restorer(draws=2, uncertain=True)
    floored = Restorer(plain.model, plain.how, floor=0.3)
    deviations = [r.restore(y, noises, ["a"]).deviation for r in (plain, floored)]
    torch.testing.assert_close(deviations[1], (deviations[0].square() + 0.09).sqrt())


@pytest.mark.parametrize("estimate", ["mean", "sample", "ode"])
def test_an_image_without_noise_is_left_alone(estimate):
    y = damaged(SPECTRA["ring"], 2)
    noises = [None, noise_of("mid:level=0.5")]
    restored = restorer(estimate, uncertain=estimate == "sample", draws=2).restore(y, noises, ["a", "b"])
    assert torch.equal(restored.estimate[0], y[0]) and not torch.allclose(restored.estimate[1], y[1])
    assert restored.deviation is None or not restored.deviation[0].any()


def test_colours_are_images_of_their_own_for_a_model_of_grey_ones():
    y, noise = damaged(SPECTRA["ring"], 6).reshape(2, 3, *SHAPE), noise_of("mid:level=0.5")
    planes = restorer().restore(y.reshape(6, 1, *SHAPE), [noise] * 6, list("abcdef")).estimate
    torch.testing.assert_close(
        restorer().restore(y, [noise] * 2, ["a", "b"]).estimate, planes.reshape(y.shape)
    )


def test_a_model_of_colours_takes_grey_images_if_it_was_trained_on_some():
    y, noise = damaged(SPECTRA["ring"], 2), noise_of("mid:level=0.5")
    with pytest.raises(DataError, match="random was made for colour images, and this one is grey"):
        restorer(channels=3).restore(y, [noise] * 2, ["a", "b"])
    restored = restorer(channels=3, grey=0.5).restore(y, [noise] * 2, ["a", "b"]).estimate
    assert restored.shape == y.shape and not torch.allclose(restored, y)


@pytest.mark.parametrize("estimate", ["mean", "sample", "ode"])
def test_colours_keep_what_has_no_noise(estimate):
    y, noise = damaged(SPECTRA["ring"], 6).reshape(2, 3, *SHAPE), noise_of("mid:level=0.5")
    restored = restorer(estimate, channels=3).restore(y, [noise] * 2, ["a", "b"]).estimate
    change = (spectrum(restored) - spectrum(y))[..., torch.as_tensor(SPECTRA["ring"] == 0)]
    assert float(change.abs().max()) <= 2e-6 * float(spectrum(y).abs().max())
    assert not torch.allclose(restored, y, atol=0.05)


def test_a_model_that_was_trained_so_is_told_which_pixels_were_clipped():
    """And that there is noise at all frequencies then; another model is not told."""
    y, noise = damaged(SPECTRA["ring"], 2).clamp(-1, 1), [noise_of("mid:level=0.5")] * 2
    for clipped, differs in ((0.2, True), (0.0, False)):
        found = [
            restorer(clipped=clipped).restore(y, noise, ["a", "b"], told).estimate for told in (True, False)
        ]
        assert torch.allclose(*found) != differs


def test_a_model_of_damaged_images_averages_over_more_of_their_noise():
    """Noise of the model's largest strength is added, whatever the level in the images is said to be."""
    y = damaged(SPECTRA["ring"], 2)
    made = restorer(bands=("mid",), strengths=(0.5, 0.5), damage=0.5)
    found = [
        made.restore(y, [noise_of(f"mid:level={level}")] * 2, ["a", "b"]).estimate for level in (0.3, 0.5)
    ]
    assert torch.equal(*found)
    denoiser = made.model.denoiser(y, noise_of("mid:level=0.5"))
    torch.testing.assert_close(found[0], noisier_posterior_mean(y, denoiser, 1.0, Drawing(1, 0, ["a", "b"])))


def test_a_model_of_damaged_images_adds_noise_of_the_spectrum_that_they_have():
    """Of two levels, a fifth apart, with strength 0.5; the images' own is known at each frequency."""
    y = damaged(SPECTRA["ring"], 2)
    made = restorer(bands=("white:level=0.2+mid:level=1",), strengths=(0.5, 0.5), damage=0.5)
    told = noise_of("mid:level=0.45+white:level=0.11")
    made.model.check(told)
    assert made.model.as_trained(told) == noise_of("white:level=0.1+mid:level=0.5")
    found = made.restore(y, [told] * 2, ["a", "b"]).estimate
    denoiser = made.model.denoiser(y, noise_of("mid:level=0.5+white:level=0.1"))
    torch.testing.assert_close(found, noisier_posterior_mean(y, denoiser, 1.0, Drawing(1, 0, ["a", "b"])))
    inside, outside = (torch.as_tensor(Band.parse(name).mask(GRID)) for name in ("mid", "high"))
    more = float(denoiser.image[..., inside].min()) - 0.25
    assert more > 0 and torch.allclose(denoiser.noise[..., outside], torch.tensor(0.01))


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (7, 15), (1, 12)], ids=str)
@pytest.mark.parametrize("estimate", ["mean", "sample", "ode"])
def test_the_smallest_images_are_restored(shape, estimate):
    y = 0.5 + 0.1 * fields(2, 0 * FrequencyGrid(shape).radius + 1, shape=shape)
    restored = restorer(estimate).restore(y, [noise_of("white:level=0.1")] * 2, ["a", "b"]).estimate
    assert bool(restored.isfinite().all()) and float((restored - y).abs().max()) < 1
