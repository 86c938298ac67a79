"""Samplers against closed forms: Gaussian data, whose exact denoiser is linear and separate for each frequency.

For data N(mu, S) and noise sigma_t w the probability-flow ODE keeps X_t - alpha_t mu in units of its standard
deviation, sqrt(alpha_t^2 S + sigma_t^2 w^2), frequency by frequency. So from t to s it multiplies X - alpha mu by

    g(t, s) = sqrt((alpha_s^2 S + sigma_s^2 w^2) / (alpha_t^2 S + sigma_t^2 w^2)),

which is what a deterministic sampler must tend to, with the order of its method. A start x_T = sigma_T eps_w lacks the
alpha_T^2 S of the true marginal, so exact samples have variance S / (1 + SNR_T), SNR_T = alpha_T^2 S / (sigma_T^2 w^2).
"""

from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler

from sagd_cli.config.filter import FilterConfig
from sagd_cli.config.run import SamplingConfig
from sagd_cli.diffusion.catalogue import SAMPLERS, SPACINGS
from sagd_cli.diffusion.denoiser import NetworkDenoiser
from sagd_cli.diffusion.gaussian import GaussianDenoiser
from sagd_cli.diffusion.process import ForwardProcess
from sagd_cli.diffusion.samplers import ddim, integrate, make_sampler
from sagd_cli.diffusion.schedule import make_schedule
from sagd_cli.diffusion.time_grids import sampling_levels
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.noise import SpectralNoise, random_stream

SHAPES = [(16, 16), (64,), (8, 8, 8), (15, 9)]
FILTERS = {
    "white": FilterConfig(type="white"),
    "powerlaw +0.5": FilterConfig(options={"alpha": 0.5}),
    "powerlaw -0.5": FilterConfig(options={"alpha": -0.5}),
    "twoband": FilterConfig(type="twoband", options={"gamma_low": 0.2}),
    "gap": FilterConfig(type="bandstop", options={"low": 0.3, "high": 0.5}),
}
FULL = [name for name in FILTERS if name != "gap"]
DETERMINISTIC = ["dpmpp", "unipc", "ddim", "heun"]
LINEAR = make_schedule("linear")
COSINE = make_schedule("cosine")
SCHEDULES = {"linear": LINEAR, "cosine": COSINE, "edm": make_schedule("edm")}


def no_draw():
    raise AssertionError("a deterministic sampler drew noise")


def data_power(shape):
    """The spectrum of the data, as natural images have it: it falls as 1/r^2 from 400 at DC to about 2."""
    return 1 / (FrequencyGrid(shape).radius + 0.05) ** 2


def gaussian(shape, noise, schedule=LINEAR, mean=0.0):
    mu = torch.full(shape, mean, dtype=torch.float64)
    return GaussianDenoiser(mu, torch.as_tensor(data_power(shape)), ForwardProcess(schedule, noise))


def rfftn(x, shape):
    axes = tuple(range(-len(shape), 0))
    return np.fft.rfftn(np.asarray(x, dtype=np.float64), axes=axes)


def float64_levels(levels):
    return np.array([[float(level.alpha), float(level.sigma)] for level in levels])


def measured_gain(sampler, levels, shape, noise, schedule=LINEAR):
    """x_0 / x_T at each frequency, by sending one random field of float64 through the sampler."""
    x = torch.randn((1, 1, *shape), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = integrate(gaussian(shape, noise, schedule), make_sampler(sampler, no_draw, 1), x, levels)
    gain = (rfftn(y, shape) / rfftn(x, shape))[0, 0]
    np.testing.assert_allclose(gain.imag, 0, atol=1e-9 * np.abs(gain.real).max())
    return gain.real


def exact_gain(levels, shape, noise):
    (alpha_t, sigma_t), (alpha_s, sigma_s) = float64_levels([levels[0], levels[-1]])
    s, w2 = data_power(shape), noise.filter.weight**2
    return np.sqrt((alpha_s**2 * s + sigma_s**2 * w2) / (alpha_t**2 * s + sigma_t**2 * w2))


def variance_error(gain, start_weight, levels, shape, noise):
    """Largest relative distance, over frequencies with noise, of the samples' variance from S / (1 + SNR_T)."""
    (alpha_t, sigma_t), *_ = float64_levels(levels)
    s, inside = data_power(shape), noise.filter.support
    w2 = np.where(inside, noise.filter.weight**2, 1)
    expected = s / (1 + alpha_t**2 * s / (sigma_t**2 * w2))
    variance = gain**2 * sigma_t**2 * start_weight**2
    return np.abs(variance / expected - 1)[inside].max()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize(("sampler", "ratio", "bound"), [("dpmpp", 3.4, 2e-3), ("ddim", 1.9, 5e-2)])
def test_order_on_the_linear_schedule(sampler, ratio, bound, name, shape):
    """From t = 1 to t = 0.1, in 90 and 180 steps; at 100 steps of the whole path the error is below `bound`."""
    noise = SpectralNoise(FILTERS[name].weights(shape))
    errors = []
    for steps in (100, 200):
        levels = sampling_levels(LINEAR, steps, "cpu")[: steps * 9 // 10 + 1]
        assert float(levels[-1].t) == pytest.approx(0.1)
        gain = measured_gain(sampler, levels, shape, noise)
        errors.append(np.abs((gain / exact_gain(levels, shape, noise)) ** 2 - 1).max())
    assert errors[0] <= bound
    assert errors[0] / errors[1] >= ratio, f"errors {errors}"


@pytest.mark.parametrize("name", FULL)
@pytest.mark.parametrize(("sampler", "ratio", "bound"), [("dpmpp", 3.4, 1e-2), ("ddim", 1.9, 5e-2)])
def test_order_on_the_cosine_schedule(sampler, ratio, bound, name):
    """From t = 0.95 down: above it the steps in log-SNR, uniform in t, are far from small (alpha_T is 5e-5)."""
    shape = (16, 16)
    noise = SpectralNoise(FILTERS[name].weights(shape))
    errors = []
    for steps in (80, 160):
        levels = sampling_levels(COSINE, steps, "cpu", start=0.95)[: steps * 9 // 10 + 1]
        gain = measured_gain(sampler, levels, shape, noise, COSINE)
        errors.append(np.abs((gain / exact_gain(levels, shape, noise)) ** 2 - 1).max())
    assert errors[0] <= bound
    assert errors[0] / errors[1] >= ratio, f"errors {errors}"


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize(("sampler", "bound"), [("dpmpp", 2e-3), ("ddim", 5e-2)])
def test_samples_have_the_variance_of_the_data_at_every_frequency(sampler, bound, name, shape):
    """100 steps of the linear schedule, from noise to the clean image."""
    noise = SpectralNoise(FILTERS[name].weights(shape))
    levels = sampling_levels(LINEAR, 100, "cpu")
    gain = measured_gain(sampler, levels, shape, noise)
    assert variance_error(gain, noise.filter.weight, levels, shape, noise) <= bound


def test_a_start_from_the_wrong_noise_fails_that_law():
    """A test of the test: white noise at t = 1 for a model of powerlaw +0.5 is wrong by 1 / w^2 in each band."""
    shape = (16, 16)
    noise = SpectralNoise(FILTERS["powerlaw +0.5"].weights(shape))
    levels = sampling_levels(LINEAR, 100, "cpu")
    gain = measured_gain("dpmpp", levels, shape, noise)
    white = np.ones_like(noise.filter.weight)
    assert variance_error(gain, white, levels, shape, noise) > 10
    mid = (noise.filter.grid.rho >= 0.25) & (noise.filter.grid.rho < 0.5)
    assert noise.filter.grid.mean(mid * white) > 1.2 * noise.filter.grid.mean(mid * noise.filter.weight**2)


def test_a_denoiser_that_takes_the_noise_for_white_fails_that_law():
    """The other half of the mistake: shaped start, and a network that believes in white noise."""
    shape = (16, 16)
    noise, white = (SpectralNoise(FILTERS[name].weights(shape)) for name in ("powerlaw +0.5", "white"))
    levels = sampling_levels(LINEAR, 100, "cpu")
    gain = measured_gain("dpmpp", levels, shape, white)
    assert variance_error(gain, noise.filter.weight, levels, shape, white) > 0.5


@pytest.mark.parametrize("sampler", DETERMINISTIC)
@pytest.mark.parametrize("name", FILTERS)
def test_the_mean_of_the_data_is_reached_exactly(sampler, name):
    """x_t = alpha_t mu is a solution of the ODE along which both solvers are exact, whatever their step."""
    shape = (16, 16)
    noise = SpectralNoise(FILTERS[name].weights(shape))
    levels = sampling_levels(LINEAR, 7, "cpu")
    start = torch.full((1, 1, *shape), 0.7, dtype=torch.float64) * levels[0].alpha.double()
    y = integrate(gaussian(shape, noise, mean=0.7), make_sampler(sampler, no_draw, 1), start, levels)
    np.testing.assert_allclose(y, 0.7, rtol=0, atol=2e-6)


# -- every sampler, schedule and filter -------------------------------------------------------------------------
#
# Samplers are linear in the start and in their draws when the denoiser is, and scalar at each frequency. So a row for
# each of these, sent through the sampler's own code, gives the variance of its samples exactly: the sum of the rows'
# squares. From the true marginal at t = 1 it has to be that of the data.

MATRIX_SHAPES = [(16, 16), (64,), (8, 8, 8)]
MATRIX_FILTERS = {
    **{name: config for name, config in FILTERS.items() if name != "gap"},
    "bandpass": FilterConfig(type="bandpass", options={"low": 0.2, "high": 0.7}),
    "matched": FilterConfig(options={"alpha": -1.0, "delta": 0.05}),  # w^2 proportional to S
}
# The largest relative error of the variance, over frequencies and filters, with at most 100 evaluations. Churn grows s
# by a factor of 13 over the whole path.
AMOUNTS = {"ddim": 0.0, "ddim eta 0.5": 0.5, "heun": 0.0, "heun churn": 2.55}
# By how much halving the steps divides the solver's error, at least, where that is not 3.2, as of a second order.
LEFT = {"ddim": 1.8, "ddpm": 1.8, "ddim eta 0.5": 1.8, "unipc": 7.5}
# The last steps of these are long, and unipc is of the third order for short ones only.
LEFT_BY_LONG_STEPS = {("linear", "uniform"): 4.2, ("linear", "quadratic"): 6.0}
BOUNDS = {
    ("linear", "uniform"): {
        "ddim": 4.3e-2,
        "dpmpp": 2e-3,
        "unipc": 9.5e-4,
        "heun": 8e-3,
        "ddpm": 9.2e-2,
        "ddim eta 0.5": 5.3e-2,
        "dpmpp-sde": 1.7e-2,
        "heun churn": 1.2e-2,
    },
    ("linear", "quadratic"): {
        "ddim": 7.3e-2,
        "dpmpp": 4e-3,
        "unipc": 7e-4,
        "heun": 3e-2,
        "ddpm": 0.15,
        "ddim eta 0.5": 9.2e-2,
        "dpmpp-sde": 6.5e-3,
        "heun churn": 3.5e-2,
    },
    ("linear", "log-snr"): {
        "ddim": 5e-2,
        "dpmpp": 1.3e-3,
        "unipc": 1.7e-4,
        "heun": 1.1e-2,
        "ddpm": 9.6e-2,
        "ddim eta 0.5": 6.1e-2,
        "dpmpp-sde": 3.4e-3,
        "heun churn": 1.5e-2,
    },
    ("linear", "karras"): {
        "ddim": 6e-2,
        "dpmpp": 3e-3,
        "unipc": 3.2e-4,
        "heun": 1.3e-2,
        "ddpm": 0.12,
        "ddim eta 0.5": 7.2e-2,
        "dpmpp-sde": 8e-3,
        "heun churn": 1.8e-2,
    },
    ("cosine", "log-snr"): {
        "ddim": 5.2e-2,
        "dpmpp": 1.4e-3,
        "unipc": 2e-4,
        "heun": 1.2e-2,
        "ddpm": 0.1,
        "ddim eta 0.5": 6.4e-2,
        "dpmpp-sde": 3.7e-3,
        "heun churn": 1.65e-2,
    },
    ("cosine", "karras"): {
        "ddim": 6e-2,
        "dpmpp": 3.2e-3,
        "unipc": 4.4e-4,
        "heun": 1.4e-2,
        "ddpm": 0.12,
        "ddim eta 0.5": 7.4e-2,
        "dpmpp-sde": 8.7e-3,
        "heun churn": 1.9e-2,
    },
    ("edm", "uniform"): {
        "ddim": 5.5e-2,
        "dpmpp": 1.5e-3,
        "unipc": 2.1e-4,
        "heun": 1.3e-2,
        "ddpm": 0.105,
        "ddim eta 0.5": 6.7e-2,
        "dpmpp-sde": 4e-3,
        "heun churn": 1.7e-2,
    },
    ("edm", "karras"): {
        "ddim": 5.5e-2,
        "dpmpp": 2.8e-3,
        "unipc": 3.8e-4,
        "heun": 1.15e-2,
        "ddpm": 0.115,
        "ddim eta 0.5": 6.9e-2,
        "dpmpp-sde": 7.4e-3,
        "heun churn": 1.7e-2,
    },
}


@cache
def frequencies():
    """(S, w, filter) of every filter and shape, each combination once."""
    found = {
        (round(s, 12), round(w, 12), name)
        for name, config in MATRIX_FILTERS.items()
        for shape in MATRIX_SHAPES
        for s, w in zip(data_power(shape).ravel(), config.weights(shape).weight.ravel(), strict=True)
    }
    power, weight, names = zip(*sorted(found), strict=True)
    return np.array(power), np.array(weight), np.array(names)


class SpectralDenoiser:
    """The Gaussian oracle on coefficients (rows, frequencies) instead of fields, with a mean."""

    def __init__(self, schedule, power, weight, mean=0.0):
        self.process, self.calls, self.mean = ForwardProcess(schedule, None), 0, mean
        self.power, self.covariance = torch.tensor(power), torch.tensor(weight) ** 2

    def __call__(self, x_t, t):
        self.calls += 1
        alpha, sigma = (level.double() for level in self.process.schedule.levels(t))
        gain = alpha * self.power / (alpha**2 * self.power + sigma**2 * self.covariance)
        x0 = self.mean + gain * (x_t - alpha * self.mean)
        return x0, (x_t - alpha * x0) / sigma


def spectral_variance(label, schedule, levels, power, weight, from_marginal=True, drawn=None):
    """Exact variance at each frequency of the samples, from the marginal at the first level or from noise alone.

    `drawn` is the weight of the noise in the steps, if it is another one.
    """
    drawn = weight if drawn is None else drawn
    name, steps = label.split()[0], len(levels) - 1
    is_stochastic = label not in DETERMINISTIC
    (alpha, sigma), *_ = float64_levels(levels)
    x = torch.zeros((steps + 1 if is_stochastic else 1, len(power)), dtype=torch.float64)
    x[0] = torch.tensor(np.sqrt(from_marginal * alpha**2 * power + sigma**2 * weight**2))
    sources = iter(range(1, steps + 1))

    def draw():
        noise = torch.zeros_like(x)
        noise[next(sources)] = torch.tensor(drawn)
        return noise

    step = make_sampler(name, draw if is_stochastic else no_draw, steps, AMOUNTS.get(label, 0.0))
    y = integrate(SpectralDenoiser(schedule, power, weight), step, x, levels)
    return (y**2).sum(0).numpy()


@cache
def matrix_variances(label, schedule, spacing, evaluations):
    """Variance of the samples, from the true marginal at the first level, and of exact ones on such a path.

    Its last step takes E[x_0 | x_t] at the last level before the clean one, whose variance is S SNR / (1 + SNR).
    """
    power, weight, _ = frequencies()
    steps = SAMPLERS[label.split()[0]].steps(evaluations)
    levels = sampling_levels(SCHEDULES[schedule], steps, "cpu", spacing)
    alpha, sigma = float64_levels(levels)[-2]
    kept = alpha**2 * power / (alpha**2 * power + sigma**2 * weight**2)
    return spectral_variance(label, SCHEDULES[schedule], levels, power, weight), power * kept


def matrix_errors(*path_of):
    """Largest relative error of the variance with each filter: (against the data's, against an exact solver's)."""
    power, _, names = frequencies()
    variance, exact = matrix_variances(*path_of)
    errors = [np.abs(variance / expected - 1) for expected in (power, exact)]
    return {name: [error[names == name].max() for error in errors] for name in MATRIX_FILTERS}


@pytest.mark.parametrize("filter_name", MATRIX_FILTERS)
@pytest.mark.parametrize("label", BOUNDS["edm", "karras"])
@pytest.mark.parametrize(("schedule", "spacing"), BOUNDS)
def test_samples_have_the_power_of_the_data_at_every_frequency(schedule, spacing, label, filter_name):
    """At 100 evaluations, and the solver's error falls with the order of the method when the steps are halved."""
    (error, coarse), (_, fine) = (matrix_errors(label, schedule, spacing, n)[filter_name] for n in (100, 200))
    assert error <= BOUNDS[schedule, spacing][label]
    left = LEFT_BY_LONG_STEPS.get((schedule, spacing)) if label == "unipc" else None
    assert coarse / fine >= (left or LEFT.get(label, 3.2)), f"errors {coarse:.3g}, {fine:.3g}"


@pytest.mark.parametrize("label", ["ddpm", "ddim eta 0.5", "dpmpp-sde", "heun churn"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_white_noise_in_the_steps_fails_that_law(schedule, label):
    """A test of the test: the start is right, the model is one of powerlaw +0.5, and its steps add white noise."""
    power, weight, names = frequencies()
    power, weight = power[names == "powerlaw +0.5"], weight[names == "powerlaw +0.5"]
    levels = sampling_levels(SCHEDULES[schedule], SAMPLERS[label.split()[0]].steps(100), "cpu", "karras")
    variance = spectral_variance(
        label, SCHEDULES[schedule], levels, power, weight, drawn=np.ones_like(weight)
    )
    assert np.abs(variance / power - 1).max() > 2 * BOUNDS[schedule, "karras"][label]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_map_is_exact_to_1e_3_in_100_steps(schedule):
    """Of the amplitude, half the error of the variance, with any filter; heun, at 199 evaluations, to 1.5e-3."""
    for sampler, evaluations, bound in (
        ("dpmpp", 100, 7.5e-4),
        ("unipc", 100, 1.1e-4),
        ("heun", 199, 1.5e-3),
    ):
        errors = matrix_errors(sampler, schedule, "log-snr", evaluations)
        assert max(error for error, _ in errors.values()) / 2 <= bound, sampler
    assert max(error for error, _ in matrix_errors("heun", schedule, "log-snr", 261).values()) / 2 <= 1e-3


@pytest.mark.parametrize("spacing", ["uniform", "quadratic"])
@pytest.mark.parametrize("sampler", ["dpmpp", "heun"])
def test_the_cosine_schedule_needs_steps_in_log_snr(sampler, spacing):
    """In t its first steps are huge in log-SNR: white noise, 100 evaluations, errors of 10 % and more."""
    assert matrix_errors(sampler, "cosine", spacing, 100)["white"][0] > 0.09
    for even in ("karras", "log-snr", SamplingConfig().resolved("cosine").spacing):
        assert matrix_errors(sampler, "cosine", even, 100)["white"][0] < 0.02


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("label", BOUNDS["edm", "karras"])
def test_the_mean_of_the_data_is_kept_by_every_sampler(label, schedule):
    """From alpha_T mu, with draws of zero, whatever the step."""
    power, weight, _ = frequencies()
    levels = sampling_levels(SCHEDULES[schedule], 9, "cpu", "karras")
    start = torch.full((1, len(power)), 0.7, dtype=torch.float64) * levels[0].alpha.double()
    name = label.split()[0]
    step = make_sampler(name, lambda: torch.zeros_like(start), 9, AMOUNTS.get(label, 0.0))
    y = integrate(SpectralDenoiser(SCHEDULES[schedule], power, weight, mean=0.7), step, start, levels)
    np.testing.assert_allclose(y, 0.7, rtol=0, atol=5e-6)


@pytest.mark.parametrize("sampler", DETERMINISTIC)
def test_coefficients_go_the_way_of_fields(sampler):
    """The diagonal oracle above is the FFT one: from noise alone, 20 steps."""
    shape = (16, 16)
    noise = SpectralNoise(FILTERS["powerlaw +0.5"].weights(shape))
    levels = sampling_levels(LINEAR, 20, "cpu")
    weight, power = noise.filter.weight.ravel(), data_power(shape).ravel()
    variance = spectral_variance(sampler, LINEAR, levels, power, weight, from_marginal=False)
    gain = measured_gain(sampler, levels, shape, noise).ravel()
    np.testing.assert_allclose((gain * float(levels[0].sigma) * weight) ** 2, variance, rtol=1e-5)


@pytest.mark.parametrize("filter_name", ["powerlaw +0.5", "gap"])
@pytest.mark.parametrize("label", ["ddim eta 0.5", "dpmpp-sde", "heun churn"])
def test_stochastic_samples_of_fields_have_that_variance_and_mean(label, filter_name):
    """1,024 samples of 12 steps, by eighths of the spectrum: 5 standard errors, the draws being SpectralNoise's."""
    shape, count, name = (16, 16), 1024, label.split()[0]
    noise = SpectralNoise(FILTERS[filter_name].weights(shape))
    grid, weight = noise.filter.grid, noise.filter.weight
    levels = sampling_levels(LINEAR, 12, "cpu")
    stream = random_stream("cpu", 6, label)

    def draw():
        return noise.draw((count, 1, *shape), stream)

    step = make_sampler(name, draw, 12, AMOUNTS.get(label, 0.0))
    y = integrate(gaussian(shape, noise), step, draw() * levels[0].sigma, levels)
    spectra = rfftn(y, shape)[:, 0] / np.sqrt(grid.size)
    power, of_mean = np.mean(np.abs(spectra) ** 2, axis=0), np.abs(spectra.mean(axis=0)) ** 2
    flat = spectral_variance(
        label, LINEAR, levels, data_power(shape).ravel(), weight.ravel(), from_marginal=False
    )
    expected = flat.reshape(weight.shape)
    eighths = np.minimum((grid.rho * 8 + 1e-9).astype(int), 7)
    for k in np.unique(eighths):
        band = eighths == k
        standard_error = np.sqrt(2 * grid.total(band * expected**2) / count)
        excess = grid.total(band * (power - expected))
        assert abs(excess) <= 5 * standard_error + 1e-7, f"variance, eighth {k}"
        excess = grid.total(band * (of_mean - expected / count))
        assert abs(excess) <= 5 * standard_error / np.sqrt(count) + 1e-7, f"mean, eighth {k}"


# -- ancestral sampling ------------------------------------------------------------------------------------


def ancestral_variance(levels, shape, weight, from_marginal=False):
    """Variance per frequency of x_0, step by step: x_s = a x_t + deviation w xi, with the exact denoiser's gain."""
    s, w2 = data_power(shape), weight**2
    levels = float64_levels(levels)
    variance = levels[0, 1] ** 2 * w2 + from_marginal * levels[0, 0] ** 2 * s
    for (alpha_t, sigma_t), (alpha_s, sigma_s) in pairwise(levels):
        x0 = alpha_t * s / (alpha_t**2 * s + sigma_t**2 * w2)
        eps = (1 - alpha_t * x0) / sigma_t
        # The posterior q(x_s | x_t, x_0), which is eq. 7 of Ho et al. where variance is preserved (the difference in
        # brackets is 1 - alpha_{t|s}^2 then), with alpha_{t|s} = alpha_t / alpha_s.
        step_variance = sigma_s**2 / sigma_t**2 * (sigma_t**2 - (alpha_t / alpha_s) ** 2 * sigma_s**2)
        a = alpha_s * x0 + np.sqrt(max(sigma_s**2 - step_variance, 0)) * eps
        variance = a**2 * variance + step_variance * w2
    return variance


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", FULL)
def test_ancestral_samples_have_the_variance_of_the_recursion(name, shape):
    """2,048 samples of 20 steps, by eighths of the spectrum: 5 standard errors of a sum of chi-squares."""
    noise = SpectralNoise(FILTERS[name].weights(shape))
    grid, count = noise.filter.grid, 2048
    levels = sampling_levels(LINEAR, 20, "cpu")
    stream = random_stream("cpu", 5, *shape)

    def draw():
        return noise.draw((count, 1, *shape), stream)

    y = integrate(gaussian(shape, noise), make_sampler("ddpm", draw, 1), draw() * levels[0].sigma, levels)
    power = np.mean(np.abs(rfftn(y, shape)) ** 2, axis=(0, 1)) / grid.size
    expected = ancestral_variance(levels, shape, noise.filter.weight)
    eighths = np.minimum((grid.rho * 8 + 1e-9).astype(int), 7)
    for k in np.unique(eighths):
        band = eighths == k
        standard_error = np.sqrt(2 * grid.total(band * expected**2) / count)
        assert abs(grid.total(band * (power - expected))) <= 5 * standard_error, f"eighth {k}"


@pytest.mark.parametrize("from_marginal", [False, True])
@pytest.mark.parametrize("spacing", ["uniform", "karras"])
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", FULL)
def test_the_ancestral_sampler_has_the_variance_of_the_recursion_exactly(
    name, schedule, spacing, from_marginal
):
    shape = (16, 16)
    weight, power = FILTERS[name].weights(shape).weight, data_power(shape)
    levels = sampling_levels(SCHEDULES[schedule], 40, "cpu", spacing)
    variance = spectral_variance(
        "ddpm", SCHEDULES[schedule], levels, power.ravel(), weight.ravel(), from_marginal
    )
    expected = ancestral_variance(levels, shape, weight, from_marginal).ravel()
    np.testing.assert_allclose(variance, expected, rtol=1e-4)


@pytest.mark.parametrize("name", FULL)
def test_the_ancestral_recursion_tends_to_the_data(name):
    """So what the samples are compared with is itself a law of the data: order 1, from the true marginal at t = 1."""
    shape = (16, 16)
    weight = FILTERS[name].weights(shape).weight
    errors = []
    for steps in (250, 500):
        variance = ancestral_variance(
            sampling_levels(LINEAR, steps, "cpu"), shape, weight, from_marginal=True
        )
        errors.append(np.abs(variance / data_power(shape) - 1).max())
    assert errors[1] <= 0.02
    assert errors[0] / errors[1] >= 1.7, f"errors {errors}"


# -- omitted bands -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_an_omitted_band_is_untouched_whatever_the_network_says(sampler, shape):
    """In the gap eps = 0, so x_0 = x_T / alpha_T there: nothing, from a start that has nothing there.

    Float32 leaves 2e-7 there at t = 1, which is 1 / alpha_T = 157 times as much in the image, garbage or not.
    """
    noise = SpectralNoise(FILTERS["gap"].weights(shape))
    exact, gap = gaussian(shape, noise), ~noise.filter.support
    assert gap.any()
    stream = random_stream("cpu", 1, "gap")

    def draw():
        return noise.draw((4, 1, *shape), stream)

    def network(x_t, timestep):
        garbage = 3 * torch.randn(x_t.shape, generator=torch.Generator().manual_seed(int(timestep[0])))
        return exact(x_t, timestep[0] / 999)[1] + garbage - noise.project(garbage)

    def gap_amplitude(x):
        return (np.abs(rfftn(x, shape)) / np.sqrt(noise.filter.grid.size))[..., gap].max()

    levels = sampling_levels(LINEAR, 20, "cpu")
    start = draw() * levels[0].sigma
    denoiser = NetworkDenoiser(network, ForwardProcess(LINEAR, noise))
    y = integrate(denoiser, make_sampler(sampler, draw, 1), start, levels)
    assert gap_amplitude(network(start, torch.full((4,), 999.0))) > 3, "the network does fill the gap"
    assert gap_amplitude(y) <= 4e-7 / levels[0].alpha

    content = torch.randn((4, 1, *shape), generator=torch.Generator().manual_seed(2))
    content = content - noise.project(content)
    y = integrate(denoiser, make_sampler(sampler, draw, 1), start + levels[0].alpha * content, levels)
    assert gap_amplitude(y - content) <= 6e-7 / levels[0].alpha


# -- diffusers, with white noise ------------------------------------------------------------------------------


def network(x_t, timestep):
    """The exact eps for data N(0, I), sigma_t x_t, and a disturbance that is not linear."""
    alpha_t, sigma_t = LINEAR.levels(torch.as_tensor(timestep).double().flatten()[0] / 999)
    return sigma_t * x_t + 0.3 * alpha_t * torch.sin(3 * x_t.roll(1, -1) - x_t.roll(2, -2))


def ours(sampler, steps, x):
    noise = SpectralNoise(FilterConfig(type="white").weights(tuple(x.shape[2:])))
    levels = sampling_levels(LINEAR, steps, "cpu")
    return integrate(NetworkDenoiser(network, ForwardProcess(LINEAR, noise)), sampler, x, levels)


class Karras:
    """A denoiser given as EDM's D(x; sigma), not linear, on the `edm` schedule."""

    process = ForwardProcess(SCHEDULES["edm"], None)

    @staticmethod
    def image(x, sigma):
        return x / (1 + sigma**2) + 0.4 * np.sin(2 * np.roll(x, 1, -1) / np.sqrt(1 + sigma**2))

    def __call__(self, x_t, t):
        sigma = float(self.process.schedule.levels(t)[1])
        x0 = torch.as_tensor(self.image(x_t.numpy(), sigma))
        return x0, (x_t - x0) / sigma


def algorithm_2(x, sigmas, gamma, draw):
    """Karras et al. 2206.00364, algorithm 2, with S_noise 1, sigma never above 80."""
    for now, then in pairwise(sigmas):
        raised = min(now * (1 + gamma), sigmas[0])
        if gamma > 0:
            x = x + np.sqrt(raised**2 - now**2) * draw()
        slope = (x - Karras.image(x, raised)) / raised
        euler = x + (then - raised) * slope
        if then > 0:
            slope_then = (euler - Karras.image(euler, then)) / then
            x = x + (then - raised) * (slope + slope_then) / 2
        else:
            x = euler
    return x


@pytest.mark.parametrize("spacing", ["karras", "uniform"])
@pytest.mark.parametrize("churn", [0.0, 1.8, 40.0])
@pytest.mark.parametrize("steps", [1, 6, 18])
def test_heun_is_algorithm_2_of_edm(steps, churn, spacing):
    levels = sampling_levels(SCHEDULES["edm"], steps, "cpu", spacing)
    sigmas = float64_levels(levels)[:, 1]
    x = 80 * torch.randn((2, 1, 8, 8), dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def draws():
        stream = torch.Generator().manual_seed(1)
        return lambda: torch.randn(x.shape, dtype=torch.float64, generator=stream)

    draw = draws()
    gamma = min(churn / steps, np.sqrt(2) - 1)
    theirs = algorithm_2(x.numpy(), sigmas, gamma, lambda: draw().numpy())
    step = make_sampler("heun", draws() if churn else no_draw, steps, churn)
    mine = integrate(Karras(), step, x, levels)
    assert np.std(theirs) > 0.01
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("steps", [9, 27, 37, 111])
def test_dpmpp_sde_is_that_of_diffusers_on_the_same_noise(steps):
    scheduler = DPMSolverMultistepScheduler(
        algorithm_type="sde-dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
        final_sigmas_type="zero",
        timestep_spacing="linspace",
    )
    scheduler.set_timesteps(steps)
    x = theirs = torch.randn((2, 3, 8, 8), generator=torch.Generator().manual_seed(0))

    def draws():
        stream = torch.Generator().manual_seed(1)
        return lambda: torch.randn(x.shape, generator=stream)

    draw = draws()
    for t in scheduler.timesteps:
        theirs = scheduler.step(network(theirs, t), t, theirs, variance_noise=draw()).prev_sample
    mine = ours(make_sampler("dpmpp-sde", draws(), 1), steps, x)
    assert mine.std() > 0.5
    torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-4)


MULTISTEP = {
    "dpmpp": lambda: DPMSolverMultistepScheduler(
        algorithm_type="dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
        lower_order_final=True,
        final_sigmas_type="zero",
        timestep_spacing="linspace",
    ),
    "unipc": lambda: UniPCMultistepScheduler(
        solver_order=2, solver_type="bh2", final_sigmas_type="zero", timestep_spacing="linspace"
    ),
}


# 999 / steps is a whole number, so that the times of both are entries of the table.
@pytest.mark.parametrize("steps", [9, 27, 37, 111])
@pytest.mark.parametrize("sampler", MULTISTEP)
def test_multistep_solvers_are_those_of_diffusers(sampler, steps):
    scheduler = MULTISTEP[sampler]()
    scheduler.set_timesteps(steps)
    assert scheduler.timesteps.tolist() == [999 - i * 999 // steps for i in range(steps)]
    x = theirs = torch.randn((2, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    for t in scheduler.timesteps:
        theirs = scheduler.step(network(theirs, t), t, theirs).prev_sample
    mine = ours(make_sampler(sampler, no_draw, steps), steps, x)
    assert mine.std() > 0.5
    torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("steps", [27, 37, 111])  # those for which diffusers, which divides 1000, agrees
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_and_ddpm_are_those_of_diffusers(steps, eta):
    scheduler = DDIMScheduler(set_alpha_to_one=True, clip_sample=False)
    scheduler.set_timesteps(steps)
    x = theirs = torch.randn((2, 3, 8, 8), generator=torch.Generator().manual_seed(0))

    def draws():
        stream = torch.Generator().manual_seed(1)
        return lambda: torch.randn(x.shape, generator=stream)

    draw = draws()
    for i in range(steps):
        t = 999 - i * 999 // steps
        options = {"eta": eta, "variance_noise": draw()} if eta else {}
        step = scheduler.step(network(theirs, t), t, theirs, **options)
        theirs = step.prev_sample
    theirs = step.pred_original_sample  # theirs ends at entry 0 of the table, ours at the clean image
    mine = ours(ddim(eta, draws() if eta else no_draw), steps, x)
    assert mine.std() > 0.5
    torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-4)


# -- the walk -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [1.0, 0.3])
@pytest.mark.parametrize("steps", [1, 2, 27, 1000])
def test_the_path_is_uniform_in_time_and_ends_at_the_clean_image(steps, start):
    levels = sampling_levels(LINEAR, steps, "cpu", start=start)
    t = np.array([float(level.t) for level in levels])
    np.testing.assert_allclose(t, start * (1 - np.arange(steps + 1) / steps), rtol=0, atol=1e-12)
    alpha, sigma = float64_levels(levels).T
    assert (alpha[-1], sigma[-1]) == (1, 0)
    assert np.all(np.diff(alpha) > 0)
    assert np.all(np.diff(sigma) < 0)
    np.testing.assert_allclose(alpha[:-1], LINEAR.levels(torch.tensor(t[:-1]))[0], rtol=1e-6)


@pytest.mark.parametrize("evaluations", [1, 2, 3, 10, 11])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_sampler_calls_the_denoiser_as_often_as_it_says(sampler, evaluations):
    record = SAMPLERS[sampler]
    steps = record.steps(evaluations)
    power, weight, _ = frequencies()
    denoiser = SpectralDenoiser(LINEAR, power, weight)
    x = torch.ones((1, len(power)), dtype=torch.float64)
    step = make_sampler(record.name, lambda: torch.zeros_like(x), steps, 0.1 if record.amount else 0.0)
    integrate(denoiser, step, x, sampling_levels(LINEAR, steps, "cpu"))
    assert denoiser.calls == record.evaluations(steps)
    assert evaluations - (sampler == "heun") <= denoiser.calls <= evaluations


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "heun"])
def test_one_evaluation_a_step_and_one_step_is_the_denoiser(sampler):
    shape = (8, 8)
    noise = SpectralNoise(FILTERS["powerlaw -0.5"].weights(shape))
    exact, times, reports = gaussian(shape, noise), [], []

    def denoiser(x_t, t):
        times.append(float(t))
        return exact(x_t, t)

    x = noise.draw((1, 1, *shape), torch.Generator().manual_seed(0)).double()
    one = integrate(
        denoiser,
        make_sampler(sampler, lambda: torch.zeros_like(x), 1),
        x,
        sampling_levels(LINEAR, 1, "cpu"),
    )
    torch.testing.assert_close(one, exact(x, torch.tensor(1.0))[0], rtol=1e-5, atol=1e-5)
    times.clear()
    step = make_sampler(sampler, lambda: noise.draw(x.shape, torch.Generator().manual_seed(0)), 1)
    integrate(denoiser, step, x, sampling_levels(LINEAR, 12, "cpu"), lambda: reports.append(None))
    np.testing.assert_allclose(times, 1 - np.arange(12) / 12, rtol=0, atol=1e-12)
    assert len(reports) == 12


def test_a_step_of_dpmpp_remembers_no_earlier_run():
    """Each call of `make` gives a step with its own memory, so runs cannot reach into each other."""
    noise = SpectralNoise(FILTERS["white"].weights((8, 8)))
    x = torch.randn((1, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    denoiser, levels = gaussian((8, 8), noise), sampling_levels(LINEAR, 5, "cpu")
    runs = [integrate(denoiser, make_sampler("dpmpp", no_draw, 1), x, levels) for _ in range(2)]
    assert torch.equal(*runs)


def test_uniform_steps_lose_the_faint_frequencies_that_other_spacings_keep():
    """docs/theory.md: S from 1 at DC down to 0.005, dpmpp at 20 evaluations of the linear schedule, white noise."""
    shape, errors = (16, 16), {}
    noise = SpectralNoise(FILTERS["white"].weights(shape))
    power = data_power(shape) / 400
    exact = GaussianDenoiser(
        torch.zeros(shape, dtype=torch.float64), torch.as_tensor(power), ForwardProcess(LINEAR, noise)
    )
    for spacing in SPACINGS:
        levels = sampling_levels(LINEAR, 20, "cpu", spacing)
        x = torch.randn((1, 1, *shape), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        y = integrate(exact, make_sampler("dpmpp", no_draw, 1), x, levels)
        gain = np.abs(rfftn(y, shape) / rfftn(x, shape))[0, 0]
        (alpha, sigma), *_ = float64_levels(levels)
        expected = power / (1 + alpha**2 * power / sigma**2)
        errors[spacing] = np.abs((gain * sigma) ** 2 / expected - 1).max()
    assert 0.8 < errors["uniform"] < 0.95
    assert errors["quadratic"] < 0.08 and errors["karras"] < 0.12
