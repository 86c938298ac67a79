"""Estimates against closed forms: with an exact network they are those of Gaussian data, frequency by frequency."""

from math import inf

import numpy as np
import pytest
import torch
from support.gaussian_band import GRID, POWER, SCHEDULE, SHAPE, ExactNetwork, fields, spectrum

from sagd_cli.config.run import RestorationConfig, RunConfig
from sagd_cli.diffusion.band_denoiser import BandDenoiser
from sagd_cli.diffusion.process import ForwardProcess
from sagd_cli.errors import DataError
from sagd_cli.model.model import Model
from sagd_cli.restoration.band_model import BandModel
from sagd_cli.restoration.estimates import (
    noisier_posterior_mean,
    notch,
    posterior_mean,
    posterior_sample,
    wiener,
)
from sagd_cli.restoration.restorer import Restorer, Restoring
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.noise import band_noise, multiply_spectrum, random_stream

INSIDE = torch.as_tensor(Band.parse("mid").mask(GRID))
S = torch.as_tensor(POWER)


def exact_denoiser(extra=0.0):
    """The denoiser of noise in `mid` that is exact for data of power S + extra."""
    network = ExactNetwork("mid", POWER + extra)
    return BandDenoiser(network, ForwardProcess(SCHEDULE, network.noise), network.mean_power)


def damaged(gamma, count=6):
    """Fields of power S with noise of amplitude `gamma` in the band."""
    return fields(count) + gamma * band_noise(Band.parse("mid"), SHAPE).draw(
        (count, 1, *SHAPE), random_stream("cpu", 1)
    )


def assert_unchanged_outside(estimate, y):
    change = (spectrum(estimate) - spectrum(y))[..., ~INSIDE]
    assert float(change.abs().max()) <= 1e-5 * float(spectrum(y).abs().max())


def restorer(estimate="mean", draws=1, uncertain=False):
    settings = RestorationConfig(bands=("mid",), strengths=(0.01, 100.0))
    config = RunConfig(restoration=settings)
    white = config.filter.weights(SHAPE)
    model = Model(
        "exact", config, ExactNetwork("mid"), 1, white, (1, *SHAPE), np.dtype("uint8"), None, {"power": POWER}
    )
    return Restorer(Band.parse("mid"), BandModel(model), Restoring(estimate, draws, uncertain, steps=60))


@pytest.mark.parametrize("gamma", [0.02, 0.2, 1.0, 20.0])
def test_the_posterior_mean_is_the_wiener_filter_in_the_band_and_y_outside(gamma):
    y = damaged(gamma)
    restored = posterior_mean(y, exact_denoiser(), torch.full((6,), gamma))
    wiener = spectrum(y) * torch.where(INSIDE, S / (S + gamma**2), 1.0)
    assert float((spectrum(restored) - wiener).abs().max()) <= 1e-4 * float(wiener.abs().max())
    assert_unchanged_outside(restored, y)


def test_every_image_has_its_own_strength():
    y, strengths = damaged(0.5, 3), torch.tensor([0.1, 0.5, 2.0])
    together = posterior_mean(y, exact_denoiser(), strengths)
    alone = [posterior_mean(y[i : i + 1], exact_denoiser(), strengths[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone))


@pytest.mark.parametrize(("gamma", "tau"), [(0.5, 0.5), (0.5, 0.3)])
def test_noisier_to_noise_tends_to_its_closed_form(gamma, tau, monkeypatch):
    """Averaged over z given y it is S / (S + gamma^2 + tau^2) of y's band.

    With exact E[m | z] = tau^2 / (S + gamma^2 + tau^2) z, z - (1 + gamma^2/tau^2) E[m | z] is that very gain.
    """
    draws = 400
    monkeypatch.setattr("sagd_cli.restoration.estimates.DRAWS", draws)
    y = damaged(gamma)
    restored = noisier_posterior_mean(y, exact_denoiser(gamma**2), gamma, tau, list("abcdef"))
    gain = S / (S + gamma**2 + tau**2)
    error = (spectrum(restored) - gain * spectrum(y))[..., INSIDE]
    # What the draws leave, tau gain / sqrt(draws), at every bin; 5 deviations.
    assert torch.all(error.abs() < 5 * tau * gain[INSIDE] / draws**0.5 + 1e-4)
    assert_unchanged_outside(restored, y)


def test_noisier_to_noise_restores_an_image_the_same_in_any_batch():
    y = damaged(0.5)
    together = noisier_posterior_mean(y, exact_denoiser(0.25), 0.5, 0.5, list("abcdef"))
    alone = noisier_posterior_mean(y[3:4], exact_denoiser(0.25), 0.5, 0.5, ["d"])
    torch.testing.assert_close(together[3:4], alone)


def test_samples_have_the_mean_and_the_variance_of_the_posterior():
    """2,000 draws for one y at 60 steps, each frequency within 5 standard errors.

    The discretisation takes 1 % of the variance at most there, and a standard error is 2.2 % of it.
    """
    gamma, count = 0.5, 2000
    y = damaged(gamma, 1).expand(count, 1, *SHAPE)
    streams = [random_stream("cpu", 0, i) for i in range(count)]
    draws = posterior_sample(y, exact_denoiser(), gamma, 60, streams)
    assert_unchanged_outside(draws[:4], y[:4])
    found, kept = spectrum(draws)[:, 0, INSIDE], (S / (S + gamma**2))[INSIDE]
    mean, variance = kept * spectrum(y)[0, 0, INSIDE], gamma**2 * kept
    assert torch.all((found.mean(0) - mean).abs() < 5 * (variance / count).sqrt())
    # A bin that is its own mirror is real: chi-squared with one degree of freedom.
    measured = (found - mean).abs().square().mean(0)
    assert torch.all((measured - variance).abs() < 5 * variance * (2 / count) ** 0.5)
    pixels = GRID.mean(np.where(INSIDE, (gamma**2 * S / (S + gamma**2)).numpy(), 0))
    assert torch.all((draws.var(0) - pixels).abs() < 5 * pixels * (2 / count) ** 0.5)


@pytest.mark.parametrize("gamma", [0.3, 2.0])
def test_the_ode_turns_the_law_of_y_into_that_of_x(gamma):
    """It multiplies each frequency by sqrt(S / (S + gamma^2)), within 2 % in 60 steps, and draws nothing."""
    y, denoiser = damaged(gamma), exact_denoiser()
    mapped = posterior_sample(y, denoiser, gamma, 60)
    assert torch.equal(mapped, posterior_sample(y, denoiser, gamma, 60))
    assert_unchanged_outside(mapped, y)
    gain = (S / (S + gamma**2)).sqrt()
    ratio = (spectrum(mapped) / spectrum(y))[..., INSIDE]
    torch.testing.assert_close(ratio.real, gain[INSIDE].expand_as(ratio), rtol=0.02, atol=0)
    assert float(ratio.imag.abs().max()) < 1e-3


def test_a_lost_band_is_restored_from_what_is_outside_alone():
    """The prior: mean 0 (these frequencies know nothing of others), variance S within 5 standard errors."""
    count = 1000
    y = fields(1).expand(count, 1, *SHAPE)
    other = y + 7 * band_noise(Band.parse("mid"), SHAPE).draw(y.shape, random_stream("cpu", 3))
    names, lost = [str(i) for i in range(count)], [inf] * count
    mean = restorer().restore(y, lost, names).estimate
    outside = spectrum(y)[..., ~INSIDE]
    change = (spectrum(mean)[..., ~INSIDE] - outside).abs()
    assert float(change.square().mean().sqrt()) < 1e-6 * float(outside.abs().square().mean().sqrt())
    torch.testing.assert_close(mean, restorer().restore(other, lost, names).estimate, rtol=0, atol=1e-4)
    # A band drowned at amplitude 100 still lets S / 100 of the noise through.
    assert torch.all(spectrum(mean)[:, 0, INSIDE].abs() < 5 * S[INSIDE] / 100)
    found = spectrum(restorer("sample").restore(y, lost, names).estimate)[:, 0, INSIDE]
    variance = found.abs().square().mean(0)
    assert torch.all((variance - S[INSIDE]).abs() < 5 * S[INSIDE] * (2 / count) ** 0.5)


def test_the_deviation_is_that_of_the_draws_and_the_mean_stays_the_mean():
    y, names = damaged(0.5, 2), ["a", "b"]
    sampled = restorer("sample", draws=3, uncertain=True).restore(y, [0.5, 0.5], names)
    stack = torch.stack([sampled.estimate, *sampled.draws])
    torch.testing.assert_close(sampled.deviation, stack.std(dim=0))
    mean = restorer(draws=3, uncertain=True).restore(y, [0.5, 0.5], names)
    torch.testing.assert_close(mean.deviation, sampled.deviation)
    torch.testing.assert_close(mean.estimate, restorer().restore(y, [0.5, 0.5], names).estimate)
    alone = restorer("sample", draws=3).restore(y[1:], [0.5], ["b"])
    torch.testing.assert_close(alone.draws[1], sampled.draws[1][1:])


@pytest.mark.parametrize("estimate", ["mean", "sample", "ode"])
def test_an_image_without_noise_is_left_alone(estimate):
    y = damaged(0.5, 2)
    restored = restorer(estimate, uncertain=estimate == "sample", draws=2).restore(y, [0.0, 0.5], ["a", "b"])
    assert torch.equal(restored.estimate[0], y[0]) and not torch.allclose(restored.estimate[1], y[1])
    assert restored.deviation is None or not restored.deviation[0].any()


def test_colours_are_images_of_their_own_for_a_model_of_grey_ones():
    y = damaged(0.5, 6).reshape(2, 3, *SHAPE)
    planes = restorer().restore(y.reshape(6, 1, *SHAPE), [0.5] * 6, list("abcdef")).estimate
    torch.testing.assert_close(
        restorer().restore(y, [0.5, 0.5], ["a", "b"]).estimate, planes.reshape(y.shape)
    )


def test_notch_empties_the_band_and_keeps_the_mean():
    low = band_noise(Band.parse("low"), SHAPE)
    y = fields(6) + 0.7
    removed = notch(y, low)
    inside = torch.as_tensor(low.support).clone()
    inside[0, 0] = False
    assert float(spectrum(removed)[..., inside].abs().max()) < 1e-5
    torch.testing.assert_close(removed.mean((-2, -1)), y.mean((-2, -1)))


def test_the_wiener_estimate_takes_a_band_to_the_level_of_its_surroundings():
    """Of fields of power S with stripes 20 dB above the band ends below S, and the rest stays."""
    shape, band = (96, 80), Band.parse("stripe:horizontal,0.03")
    noise, grid = band_noise(band, shape), FrequencyGrid(shape)
    power = 0.05 / (grid.radius + 0.05) ** 2
    inside = torch.as_tensor(noise.support)
    clean = fields(40, power, shape=shape)
    y = clean + 10 * multiply_spectrum(fields(40, power, seed=1, shape=shape), inside.float(), shape)
    restored = wiener(y, noise)
    change = (spectrum(restored) - spectrum(y))[..., ~inside]
    assert float(change.abs().max()) <= 1e-5 * float(spectrum(y).abs().max())
    left = spectrum(restored)[..., inside].abs().square().mean(0)[0] / torch.as_tensor(power)[inside]
    # Of |F y|^2 = P the share S / P squared stays: S^2 / P, which is below S, and never above it.
    assert 0.02 < float(left.mean()) < 1
    # Of fields without damage, whose power is S times an exponential e, it takes E[(1 - 1/e)^2 e; e > 1] = E1(1) of S.
    taken = spectrum(wiener(clean, noise) - clean)[..., inside].abs().square().mean(0)[0]
    assert float((taken / torch.as_tensor(power)[inside]).mean()) == pytest.approx(0.219, rel=0.3)
    assert (restored - clean).square().mean() < (y - clean).square().mean() / 20


def test_the_wiener_estimate_of_constant_images_and_of_bands_that_hold_everything():
    noise = band_noise(Band.parse("stripe:horizontal"), (64, 64))
    flat = torch.full((1, 1, 64, 64), 0.4)
    assert torch.equal(wiener(flat, noise), flat)
    with pytest.raises(DataError, match="no frequency to compare"):
        wiener(flat, band_noise(Band.parse("0:1"), (64, 64)))
