"""Predictions: each is the same split of x_t, and EDM's preconditioning has the unit powers it is made for."""

import numpy as np
import pytest
import torch
from scipy.stats import norm

from sagd_cli.config.filter import FilterConfig
from sagd_cli.diffusion.catalogue import PREDICTIONS
from sagd_cli.diffusion.denoiser import NetworkDenoiser
from sagd_cli.diffusion.gaussian import GaussianDenoiser
from sagd_cli.diffusion.loss import DiffusionLoss
from sagd_cli.diffusion.prediction import PreconditionedPrediction, make_prediction
from sagd_cli.diffusion.process import ForwardProcess, Level
from sagd_cli.diffusion.schedule import make_schedule
from sagd_cli.errors import ConfigError
from sagd_cli.spectral.filter import SpectralFilter
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.noise import SpectralNoise, random_stream

SCHEDULES = ("linear", "cosine", "edm")
FILTERS = {
    "white": FilterConfig(type="white"),
    "powerlaw -0.5": FilterConfig(options={"alpha": -0.5}),
    "gap": FilterConfig(type="bandstop", options={"low": 0.3, "high": 0.5}),
}
SHAPE = (16, 16)
GRID = FrequencyGrid(SHAPE)
POWER = 0.02 / (GRID.radius + 0.05) ** 2


def gaussian_data(count, seed=0):
    data = SpectralNoise(SpectralFilter.from_weight(GRID, np.sqrt(POWER)))
    return data.draw((count, 1, *SHAPE), random_stream("cpu", seed, "data"))


def level_at(schedule, t):
    return Level(t, *(values.view(-1, 1, 1, 1) for values in make_schedule(schedule).levels(t)))


def power_of(x):
    """Mean |F x|^2 / N over the images, on the half spectrum."""
    return (torch.fft.rfftn(x.double(), dim=(-2, -1)).abs().square() / GRID.size).mean(dim=(0, 1)).numpy()


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_right_answer_is_split_into_image_and_noise(prediction, name, schedule):
    noise = SpectralNoise(FILTERS[name].weights(SHAPE))
    rule = make_prediction(prediction, POWER, noise)
    x0, eps = gaussian_data(8), noise.draw((8, 1, *SHAPE), random_stream("cpu", 1))
    for t in (0.02, 0.3, 0.7):
        level = level_at(schedule, torch.full((8,), t))
        x_t = level.alpha * x0 + level.sigma * eps
        found = rule.split(rule.target(x0, eps, level), x_t, level)
        # What the division of rounding errors by alpha or by sigma leaves.
        for value, expected, divisor in zip(found, (x0, eps), (level.alpha, level.sigma), strict=True):
            assert float((value - expected).abs().max()) <= 2e-5 * (1 + float(1 / divisor.min()))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", ["white", "powerlaw -0.5"])
def test_preconditioned_inputs_and_targets_have_unit_power(name, schedule):
    """At every frequency with edm-spectral, on average with edm; 5 standard errors of 4,096 images."""
    noise, count = SpectralNoise(FILTERS[name].weights(SHAPE)), 4096
    x0, eps = gaussian_data(count, 2), noise.draw((count, 1, *SHAPE), random_stream("cpu", 3))
    for t in (0.1, 0.5, 0.9):
        level = level_at(schedule, torch.full((1,), t))
        x_t = level.alpha * x0 + level.sigma * eps
        spectral = make_prediction("edm-spectral", POWER, noise)
        for values in (spectral.inputs(x_t, level), spectral.target(x0, eps, level)):
            np.testing.assert_allclose(power_of(values), 1, rtol=0, atol=5 * np.sqrt(2 / count))
        scalar = make_prediction("edm", POWER, noise)
        assert float(scalar.inputs(x_t, level).square().mean()) == pytest.approx(1, rel=0.03)


def test_on_white_data_the_coefficients_are_those_of_edm():
    """Karras et al. 2206.00364, table 1: c_skip = s^2 / (sigma^2 + s^2), c_out = sigma s / sqrt(sigma^2 + s^2)."""
    s, sigma, x = 0.5, torch.tensor(1.7), torch.tensor([[2.0]])
    rule = PreconditionedPrediction(torch.tensor(s**2), torch.tensor(1.0))
    level = Level(torch.tensor(0.0), torch.tensor(1.0), sigma)
    total = float(sigma**2 + s**2)
    assert float(rule.inputs(x, level)) == pytest.approx(2 / total**0.5)
    silent, _ = rule.split(torch.tensor([[0.0]]), x, level)
    assert float(silent) == pytest.approx(2 * s**2 / total)
    loud, _ = rule.split(torch.tensor([[1.0]]), x, level)
    assert float(loud - silent) == pytest.approx(float(sigma) * s / total**0.5)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", FILTERS)
def test_a_silent_network_with_spectral_preconditioning_is_the_exact_denoiser_of_gaussian_data(
    name, schedule
):
    """What is left for the network to learn is what is not Gaussian."""
    noise, steps = SpectralNoise(FILTERS[name].weights(SHAPE)), make_schedule(schedule)
    rule = make_prediction("edm-spectral", POWER, noise)
    silent = NetworkDenoiser(lambda x_t, _: torch.zeros_like(x_t), ForwardProcess(steps, noise), rule)
    power = torch.as_tensor(POWER.clip(1e-4 * GRID.mean(POWER)))
    exact = GaussianDenoiser(torch.zeros(SHAPE, dtype=torch.float64), power, ForwardProcess(steps, noise))
    for t in (0.05, 0.5, 0.95):
        at = torch.tensor(t)
        alpha, sigma = steps.levels(at)
        x_t = alpha * gaussian_data(4) + sigma * noise.draw((4, 1, *SHAPE), random_stream("cpu", 5))
        ours, theirs = silent(x_t, at), exact(x_t.double(), at)
        torch.testing.assert_close(ours[0].double(), theirs[0], rtol=0, atol=4e-5 / float(alpha))
        torch.testing.assert_close(
            ours[1].double(), noise.project(theirs[1]).double(), rtol=0, atol=4e-5 / float(sigma)
        )


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_whitened_loss_does_not_depend_on_what_the_network_says_it_in(prediction):
    """The same denoiser, told in every parametrisation, has the same error in eps and so the same whitened loss."""
    noise, schedule = SpectralNoise(FILTERS["powerlaw -0.5"].weights(SHAPE)), make_schedule("linear")
    rule, x0 = make_prediction(prediction, POWER, noise), gaussian_data(256)

    def network(inputs, timestep):
        """Guess half of x_0, which is wrong in a known way."""
        level = loss.process.level(timestep.double() / 999, 3)
        x_t, guess = level.alpha * x0 + level.sigma * true_eps, 0.5 * x0
        return rule.target(guess, (x_t - level.alpha * guess) / level.sigma, level)

    stream = random_stream("cpu", 4)
    t = 0.2 + 0.7 * torch.rand(len(x0), generator=stream)
    true_eps = noise.draw(x0.shape, stream)
    loss = DiffusionLoss(ForwardProcess(schedule, noise), rule)
    found = loss.errors_at(network, x0, t, true_eps)
    expected = noise.whiten(torch.sqrt(found.snr) * 0.5 * x0).square().mean()
    assert float(loss.whitened(found)) == pytest.approx(float(expected), rel=1e-3)


def test_min_snr_weights_the_error_in_eps_by_five_over_the_ratio():
    noise, schedule = SpectralNoise(FILTERS["white"].weights(SHAPE)), make_schedule("linear")
    x0 = gaussian_data(512)
    loss = DiffusionLoss(ForwardProcess(schedule, noise), kind="min-snr")
    errors = loss.errors(lambda x_t, _: 0.5 * x_t, x0, random_stream("cpu", 6))
    weight = np.minimum(5 / errors.snr.flatten().numpy(), 1)
    each = errors.eps.square().mean(dim=(1, 2, 3)).numpy()
    assert (weight < 0.1).any() and (weight == 1).any()
    assert float(loss.objective(errors)) == pytest.approx(float(np.mean(weight * each)), rel=1e-5)


def test_edm_trains_on_log_normal_sigmas():
    """ln sigma ~ N(-1.2, 1.2^2), Karras et al., table 1: Kolmogorov's distance at 20,000 draws."""
    schedule = make_schedule("edm")
    u = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    alpha, sigma = schedule.levels(schedule.training_time(u))
    z = np.sort((np.log(sigma.numpy()) + 1.2) / 1.2)
    assert torch.equal(alpha, torch.ones_like(alpha))
    assert np.abs(norm.cdf(z) - (np.arange(len(z)) + 0.5) / len(z)).max() <= 1e-3 + 2 / np.sqrt(len(z))


def test_unknown_predictions_and_data_without_power_are_refused():
    noise = SpectralNoise(FILTERS["white"].weights(SHAPE))
    with pytest.raises(ConfigError, match="unknown prediction 'epsilon'"):
        make_prediction("epsilon", POWER, noise)
    with pytest.raises(ConfigError, match="zero everywhere"):
        make_prediction("edm", 0 * POWER, noise)
