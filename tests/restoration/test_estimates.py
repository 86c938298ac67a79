"""Estimates against closed forms: with an exact network they are the Wiener filter, band by band."""

import numpy as np
import pytest
import torch

from sagd_cli.diffusion.schedule import make_schedule
from sagd_cli.restoration.band_model import BandModel, Padded, _turned, _views
from sagd_cli.restoration.estimates import noisier_posterior_mean, notch, posterior_mean
from sagd_cli.restoration.fields import CropNoise, band_noise, make_fields
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.noise import random_stream

BAND = Band.parse("mid")
SHAPE = (16, 15)


class ExactGaussian(torch.nn.Module):
    """E[eps_B | alpha_t z] for z = x + level eps_B, x stationary Gaussian with power spectrum S."""

    def __init__(self, power, level, alpha):
        super().__init__()
        self.gain = level / (power + level**2) / alpha

    def forward(self, x_t, timestep):
        return torch.fft.irfftn(torch.fft.rfftn(x_t, dim=(-2, -1)) * self.gain, s=SHAPE, dim=(-2, -1))


def setting(level, extra=0.0):
    """Noise, spectrum S of the data and the exact model at `level` of data with spectrum S + extra."""
    noise = band_noise(BAND, SHAPE)
    power = torch.as_tensor(0.05 / (noise.filter.grid.radius + 0.05) ** 2, dtype=torch.float32)
    schedule = make_schedule("linear")
    alpha, _ = schedule.levels(torch.tensor(schedule.time_of(-2 * np.log(level))))
    model = BandModel(ExactGaussian(power + extra, level, alpha), schedule, level)
    return noise, power, model


def clean_images(power, count=6):
    white = torch.randn(count, 1, *SHAPE, generator=torch.Generator().manual_seed(0))
    return torch.fft.irfftn(torch.fft.rfftn(white, dim=(-2, -1)) * power.sqrt(), s=SHAPE, dim=(-2, -1))


def spectrum(x):
    return torch.fft.rfftn(x, dim=(-2, -1))


@pytest.mark.parametrize("gamma", [0.2, 1.0])
def test_posterior_mean_is_the_wiener_filter_in_the_band_and_y_outside(gamma):
    noise, power, model = setting(gamma)
    x = clean_images(power)
    y = x + gamma * noise.draw(x.shape, random_stream("cpu", 1))
    restored = posterior_mean(y, model, noise)
    inside = torch.as_tensor(noise.filter.support)
    wiener = spectrum(y) * torch.where(inside, power / (power + gamma**2), 1.0)
    assert torch.allclose(spectrum(restored), wiener, atol=2e-3 * float(wiener.abs().max()))
    unchanged = (spectrum(restored) - spectrum(y))[..., ~inside]
    assert float(unchanged.abs().max()) <= 1e-5 * float(spectrum(y).abs().max())


@pytest.mark.parametrize(("gamma", "tau"), [(0.5, 0.5), (0.5, 0.3)])
def test_noisier_estimate_tends_to_the_wiener_filter_at_its_own_noise(gamma, tau, monkeypatch):
    """E[x | z] averaged over z given y is S / (S + gamma^2 + tau^2) of y's band, plus nothing else.

    With exact E[m | z] = tau^2 / (S + gamma^2 + tau^2) z, z - (1 + gamma^2/tau^2) E[m | z] is that very gain.
    """
    monkeypatch.setattr("sagd_cli.restoration.estimates.DRAWS", 400)
    noise, power, model = setting(tau, extra=gamma**2)
    x = clean_images(power)
    y = x + gamma * noise.draw(x.shape, random_stream("cpu", 2))
    restored = noisier_posterior_mean(y, model, noise, gamma, [str(i) for i in range(len(y))])
    inside = torch.as_tensor(noise.filter.support)
    gain = torch.where(inside, power / (power + gamma**2 + tau**2), 1.0)
    error = spectrum(restored) - gain * spectrum(y)
    # What the draws leave: gain tau eps' / sqrt(draws), per bin of deviation sqrt(N) tau gain / 20.
    bound = 5 * np.sqrt(np.prod(SHAPE)) * tau * float(gain[inside].max()) / np.sqrt(400)
    assert float(error.abs().max()) < bound
    assert float(error[..., ~inside].abs().max()) <= 1e-5 * float(spectrum(y).abs().max())


def test_an_image_is_restored_the_same_in_any_batch():
    noise, power, model = setting(0.5, extra=0.25)
    y = clean_images(power)
    together = noisier_posterior_mean(y, model, noise, 0.5, list("abcdef"))
    alone = noisier_posterior_mean(y[3:4], model, noise, 0.5, ["d"])
    assert torch.allclose(together[3:4], alone, atol=1e-5)


def test_notch_empties_the_band_and_keeps_the_mean():
    low = band_noise(Band.parse("low"), SHAPE)
    y = clean_images(setting(0.5)[1]) + 0.7
    removed = notch(y, low)
    inside = torch.as_tensor(low.filter.support).clone()
    inside[0, 0] = False
    assert float(spectrum(removed)[..., inside].abs().max()) < 1e-3
    assert torch.allclose(removed.mean((-2, -1)), y.mean((-2, -1)), atol=1e-5)


def test_crop_noise_has_the_bands_spectral_density():
    """The variance of a crop's sample is that of the whole field: the share of bins in the band."""
    whole = band_noise(BAND, (32, 32))
    noise = CropNoise(whole.filter)
    draws = noise.draw((4000, 1, 16, 16), random_stream("cpu", 3))
    assert draws.shape == (4000, 1, 16, 16)
    variance = float(draws.double().square().mean())
    assert variance == pytest.approx(whole.filter.power, rel=0.02)


def test_fields_are_whole_images_when_small_and_alike_and_crops_otherwise():
    images = [np.full((1, 20, 24), i, np.float32) for i in range(3)]
    assert make_fields(images).whole and make_fields(images).values.shape == (3, 1, 20, 24)
    mixed = make_fields([*images, np.zeros((1, 90, 300), np.float32)])
    assert not mixed.whole and mixed.shape == (20, 20)
    assert np.array_equal(mixed.values, make_fields([*images, np.zeros((1, 90, 300), np.float32)]).values)


def test_turning_keeps_pixels_and_leaves_a_third_alone():
    x = torch.arange(600 * 16, dtype=torch.float32).view(600, 1, 4, 4)
    views = _views(band_noise(Band.parse("high"), (4, 4)))
    turned = _turned(x, views, seed=0, step=5)
    assert torch.equal(turned.flatten(1).sort().values, x.flatten(1))
    untouched = float((turned == x).flatten(1).all(1).float().mean())
    # A third is never touched, and an eighth of the rest is turned by the identity.
    assert untouched == pytest.approx(1 / 3 + 2 / 3 / 8, abs=5 * (0.25 / 600) ** 0.5)


@pytest.mark.parametrize(
    ("band", "shape", "count"),
    [
        ("high", (8, 8), 3),
        ("high", (8, 12), 2),
        ("stripe:horizontal", (8, 8), 2),
        ("stripe:horizontal+stripe:vertical", (8, 8), 3),
        ("notch:0.25,0.125,0.01", (8, 8), 0),
        ("notch:0.25,0.25,0.01", (8, 8), 1),
    ],
)
def test_images_are_only_turned_into_views_with_the_same_noise(band, shape, count):
    """A view that moves the band would teach the network damage the images do not have."""
    noise = band_noise(Band.parse(band), shape)
    views = _views(noise)
    assert len(views) == count
    eps = noise.draw((16, 1, *shape), torch.Generator().manual_seed(0))
    for view in views:
        torch.testing.assert_close(noise.project(view(eps)), view(eps))


def test_padding_gives_every_size_its_own_shape():
    network = Padded(torch.nn.Conv2d(1, 1, 1))
    network.network.forward = lambda x, t: x
    x = torch.randn(2, 1, 9, 14, generator=torch.Generator().manual_seed(0))
    assert torch.equal(network(x, torch.zeros(2)), x)
