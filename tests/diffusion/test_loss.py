"""The loss of the exact denoiser is its closed form; the whitened loss has the same scale for every filter."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sagd_cli.config.filter import FilterConfig
from sagd_cli.diffusion.gaussian import GaussianDenoiser
from sagd_cli.diffusion.loss import DiffusionLoss
from sagd_cli.diffusion.process import ForwardProcess
from sagd_cli.diffusion.schedule import make_schedule
from sagd_cli.spectral.noise import SpectralNoise

FILTERS = {
    "white": FilterConfig(type="white"),
    "powerlaw +0.5": FilterConfig(options={"alpha": 0.5}),
    "powerlaw -0.5": FilterConfig(options={"alpha": -0.5}),
    "exponential": FilterConfig(type="exponential", options={"beta": 2}, normalize="none"),
    "twoband": FilterConfig(type="twoband", options={"gamma_low": 0.2}),
    "lowpass": FilterConfig(type="lowpass", options={"cutoff": 0.6}),
    "bandstop": FilterConfig(type="bandstop", options={"low": 0.3, "high": 0.5}, normalize="peak"),
    "band alone": FilterConfig(type="bandpass", options={"low": 0.25, "high": 0.5}),
}
SCHEDULES = {name: make_schedule(name) for name in ("linear", "cosine")}
SHAPES = [(12, 12), (33,), (5, 6, 7)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def data(noise, count, seed=0):
    """Gaussian images of spectrum S = 1 / (r + 0.1), made in NumPy."""
    grid = noise.filter.grid
    power = 1 / (grid.radius + 0.1)
    axes = tuple(range(-grid.ndim, 0))
    white = np.random.default_rng(seed).standard_normal((count, 1, *grid.shape))
    x0 = np.fft.irfftn(np.sqrt(power) * np.fft.rfftn(white, axes=axes), s=grid.shape, axes=axes)
    return torch.as_tensor(x0, dtype=torch.float32), power


def exact_errors(schedule, t, power, noise):
    """E |eps - E[eps | x_t]|^2 at each frequency: w^2 alpha^2 S / (alpha^2 S + sigma^2 w^2)."""
    alpha, sigma = (level.double().numpy() for level in schedule.levels(t))
    w2 = noise.filter.weight**2
    return np.divide(
        w2 * alpha**2 * power,
        alpha**2 * power + sigma**2 * w2,
        out=np.zeros_like(w2),
        where=noise.filter.support,
    )


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_loss_of_the_exact_denoiser_is_the_sum_over_frequencies(schedule, name, shape):
    """At three times, 1,024 images, within 5 standard errors: the error is Gaussian with a known spectrum."""
    noise, count, schedule = SpectralNoise(FILTERS[name].weights(shape)), 1024, SCHEDULES[schedule]
    grid = noise.filter.grid
    x0, power = data(noise, count)
    denoiser = GaussianDenoiser(
        torch.zeros(shape), torch.as_tensor(power, dtype=torch.float32), ForwardProcess(schedule, noise)
    )
    for t in (0.1, 0.5, 0.9):
        at = torch.tensor(t)
        loss = DiffusionLoss(ForwardProcess(schedule, noise))
        eps = noise.draw(x0.shape, generator(1))
        errors = loss.errors_at(lambda x_t, _, at=at: denoiser(x_t, at)[1], x0, at.expand(count), eps)
        expected = exact_errors(schedule, at, power, noise)
        standard_error = np.sqrt(2 * grid.total(expected**2) / count) / grid.size
        assert float(errors.eps.double().square().mean()) == pytest.approx(
            grid.mean(expected), abs=5 * standard_error
        )

        inverse = np.divide(1, noise.filter.weight**2, out=np.zeros_like(power), where=noise.filter.support)
        whitened = expected * inverse
        rank = noise.filter.rank
        standard_error = np.sqrt(2 * grid.total(whitened**2) / count) / rank
        assert float(loss.whitened(errors)) == pytest.approx(
            grid.total(whitened) / rank, abs=5 * standard_error
        )


@pytest.mark.parametrize("times", [(0.0, 1.0), (0.2, 0.4)])
@pytest.mark.parametrize("name", ["white", "powerlaw +0.5", "bandstop"])
def test_loss_over_a_window_of_times_is_the_mean_over_it(name, times):
    """Uniform t: the closed form integrated over the window; the network sees the time of each image."""
    shape, count, schedule = (12, 12), 4096, SCHEDULES["linear"]
    noise = SpectralNoise(FILTERS[name].weights(shape))
    x0, power = data(noise, count)

    def network(x_t, timestep):
        alpha, sigma = (v.double().view(-1, 1, 1, 1) for v in schedule.levels(timestep.double() / 999))
        w2 = torch.as_tensor(noise.filter.weight**2)
        total = alpha**2 * torch.as_tensor(power) + sigma**2 * w2
        return torch.fft.irfftn(
            sigma * w2 / total * torch.fft.rfftn(x_t.double(), dim=(2, 3)), s=shape, dim=(2, 3)
        )

    loss, stream = DiffusionLoss(ForwardProcess(schedule, noise)), generator(2)
    if times == (0.0, 1.0):
        error = loss.errors(network, x0, stream).eps.double()
    else:
        t = times[0] + (times[1] - times[0]) * torch.rand(count, generator=stream)
        error = loss.errors_at(network, x0, t, noise.draw(x0.shape, stream)).eps.double()
    each = error.square().mean(dim=(1, 2, 3))
    middles = times[0] + (times[1] - times[0]) * (np.arange(2000) + 0.5) / 2000
    expected = np.mean(
        [noise.filter.grid.mean(exact_errors(schedule, torch.tensor(t), power, noise)) for t in middles]
    )
    assert float(each.mean()) == pytest.approx(expected, abs=5 * float(each.std()) / np.sqrt(count))


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_whitened_loss_of_a_network_that_predicts_nothing_is_one(name, shape):
    """So it compares filters; the plain loss is the filter's power instead, 1 or not by its normalisation."""
    noise, count = SpectralNoise(FILTERS[name].weights(shape)), 1024
    f = noise.filter
    loss = DiffusionLoss(ForwardProcess(SCHEDULES["linear"], noise))
    errors = loss.errors(lambda x_t, _: torch.zeros_like(x_t), torch.zeros(count, 2, *shape), generator(3))
    assert float(loss.whitened(errors)) == pytest.approx(1, abs=5 * np.sqrt(2 / (count * 2 * f.rank)))
    standard_error = np.sqrt(2 * f.grid.total(f.weight**4) / (2 * count)) / f.grid.size
    assert float(errors.eps.double().square().mean()) == pytest.approx(f.power, abs=5 * standard_error)


@pytest.mark.parametrize("name", ["lowpass", "bandstop", "band alone"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_prediction_outside_the_support_changes_neither_loss_nor_gradient(name, shape):
    noise = SpectralNoise(FILTERS[name].weights(shape))
    loss = DiffusionLoss(ForwardProcess(SCHEDULES["linear"], noise))
    x0, _ = data(noise, 4)
    garbage = 10 * torch.randn(x0.shape, generator=generator(5))
    outside = (garbage - noise.project(garbage)).requires_grad_()
    inside = noise.project(garbage).requires_grad_()
    clean = loss.errors(lambda x_t, _: 0.3 * x_t, x0, generator(4)).eps
    dirty = loss.errors(lambda x_t, _: 0.3 * x_t + outside + 0 * inside, x0, generator(4)).eps
    torch.testing.assert_close(dirty, clean, rtol=0, atol=2e-5)
    dirty.square().mean().backward()
    spectrum = torch.fft.rfftn(outside.grad, dim=tuple(range(-len(shape), 0))).abs()
    support = torch.as_tensor(noise.filter.support.copy())
    assert spectrum[..., ~support].max() <= 1e-6 * spectrum[..., support].max()


@given(st.integers(0, 99))
@settings(deadline=None, derandomize=True, max_examples=30)
def test_times_are_uniform(seed):
    noise = SpectralNoise(FILTERS["white"].weights((2,)))
    seen = []

    def network(x_t, timestep):
        seen.append(timestep)
        return x_t

    loss = DiffusionLoss(ForwardProcess(SCHEDULES["linear"], noise))
    loss.errors(network, torch.zeros(4096, 1, 2), generator(seed))
    t = seen[0].double() / 999
    assert t.shape == (4096,)
    assert t.min() >= 0
    assert t.max() <= 1
    # Kolmogorov's distance from the uniform law: 2.5 / sqrt(n) is exceeded with probability 7e-6.
    assert np.abs(np.sort(t.numpy()) - (np.arange(4096) + 0.5) / 4096).max() <= 2.5 / np.sqrt(4096)


def test_the_network_is_given_the_noised_images_of_its_times():
    """x_t = alpha_t x_0 + sigma_t eps: what the network must add to its input is the error of a zero prediction."""
    noise, schedule = SpectralNoise(FILTERS["powerlaw +0.5"].weights((12, 12))), SCHEDULES["cosine"]
    x0, _ = data(noise, 16)
    seen = []

    def network(x_t, timestep):
        seen.append((x_t, timestep))
        return torch.zeros_like(x_t)

    eps = -DiffusionLoss(ForwardProcess(schedule, noise)).errors(network, x0, generator(6)).eps
    x_t, timestep = seen[0]
    alpha, sigma = (v.view(-1, 1, 1, 1) for v in schedule.levels(timestep.double() / 999))
    torch.testing.assert_close(x_t, alpha * x0 + sigma * eps, rtol=0, atol=2e-5)
    torch.testing.assert_close(
        noise.whiten(eps).std(), torch.tensor(1.0), rtol=0, atol=5 / np.sqrt(2 * eps.numel())
    )
