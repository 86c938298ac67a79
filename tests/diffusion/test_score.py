"""The score (docs/theory.md, section 4.6) is -(1 / sigma_t) Sigma_w^+ E[eps_w | x_t] on the support, and its limit.

The data are a mixture of two Gaussian fields N(+-mu, S) on 32 samples (one mode: mu = 0), whose q_t is a mixture of
N(+-alpha mu, alpha^2 S + sigma^2 w^2), so its score comes from autograd on the closed form of log q_t.
"""

from itertools import pairwise

import numpy as np
import pytest
import torch

from sagd_cli.config.filter import FilterConfig
from sagd_cli.diffusion.schedule import make_schedule
from sagd_cli.spectral.grid import FrequencyGrid

N = 32
GRID = FrequencyGrid((N,))
POWER = torch.as_tensor(0.02 / (GRID.radius + 0.05))
SHARE = torch.as_tensor(GRID.multiplicity.copy())
FILTERS = {
    "white": FilterConfig(type="white"),
    "powerlaw +0.5": FilterConfig(options={"alpha": 0.5}),
    "powerlaw -0.5": FilterConfig(options={"alpha": -0.5}),
    "exponential": FilterConfig(type="exponential", options={"beta": 2}),
    "twoband": FilterConfig(type="twoband", options={"gamma_low": 0.2}),
    "gap": FilterConfig(type="bandstop", options={"low": 0.3, "high": 0.6}),
}
FULL = [name for name in FILTERS if name != "gap"]
MODES = {
    "one mode": torch.zeros(N, dtype=torch.float64),
    "two modes": 0.6 * torch.sin(2 * torch.pi * torch.arange(N, dtype=torch.float64) / N),
}
SCHEDULE = make_schedule("edm")  # sigma reaches 0.002, nearer to the data than the other tables


def rfft(x):
    return torch.fft.rfft(x, norm="ortho")


def weights(name):
    return torch.as_tensor(FILTERS[name].weights((N,)).weight.copy())


def log_density(x, mean, variance):
    """log q of the mixture with modes +-mean and that variance at each frequency, up to a constant."""
    terms = [-(SHARE * rfft(x - sign * mean).abs() ** 2 / variance).sum(-1) / 2 for sign in (1, -1)]
    return torch.logsumexp(torch.stack(terms), dim=0)


def score(x, mean, variance):
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(log_density(x, mean, variance).sum(), x)
    return gradient


def noised(t, name, mu, count=64, seed=0):
    """x_0, x_t, alpha, sigma and w for data and noise that do not depend on t."""
    random = torch.Generator().manual_seed(seed)
    white, xi = torch.randn((2, count, N), dtype=torch.float64, generator=random)
    sign = torch.where(torch.rand(count, 1, generator=random) < 0.5, 1.0, -1.0).double()
    w = weights(name)
    x0 = sign * mu + torch.fft.irfft(POWER.sqrt() * torch.fft.rfft(white), n=N)
    eps = torch.fft.irfft(w * torch.fft.rfft(xi), n=N)
    alpha, sigma = (level.double() for level in SCHEDULE.levels(torch.tensor(t)))
    return x0, alpha * x0 + sigma * eps, alpha, sigma, w


def expected_noise(x_t, mu, alpha, sigma, w):
    """E[eps_w | x_t]: over the modes, weighted by their probability, sigma w^2 (X_t -+ alpha M) / V."""
    variance = alpha**2 * POWER + sigma**2 * w**2
    logits = torch.stack(
        [-(SHARE * rfft(x_t - s * alpha * mu).abs() ** 2 / variance).sum(-1) / 2 for s in (1, -1)]
    )
    probability = torch.softmax(logits, dim=0)
    means = [
        torch.fft.irfft(sigma * w**2 / variance * torch.fft.rfft(x_t - s * alpha * mu), n=N) for s in (1, -1)
    ]
    return sum(p[:, None] * m for p, m in zip(probability, means, strict=True))


def from_noise(eps, sigma, w):
    """-(1 / sigma) Sigma_w^+ eps."""
    inverse = torch.where(w > 0, 1 / w.clamp(min=1e-300) ** 2, 0.0)
    return -torch.fft.irfft(inverse * torch.fft.rfft(eps), n=N) / sigma


def projected(x, w):
    return torch.fft.irfft((w > 0) * torch.fft.rfft(x), n=N)


@pytest.mark.parametrize("modes", MODES)
@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_the_expected_noise_is_the_score_on_the_support(t, name, modes):
    mu = MODES[modes]
    _, x_t, alpha, sigma, w = noised(t, name, mu)
    exact = projected(score(x_t, alpha * mu, alpha**2 * POWER + sigma**2 * w**2), w)
    ours = from_noise(expected_noise(x_t, mu, alpha, sigma, w), sigma, w)
    torch.testing.assert_close(ours, exact, rtol=1e-7, atol=1e-9 * float(exact.abs().max()))


@pytest.mark.parametrize("modes", MODES)
@pytest.mark.parametrize("name", FILTERS)
def test_it_tends_to_the_score_of_the_data_whatever_the_filter(name, modes):
    """Relative root mean square error, from sigma = 0.4 down to 0.002: to 0 with full support, else projected."""
    mu, errors = MODES[modes], []
    for t in np.linspace(0.5, 0, 6):
        x0, x_t, alpha, sigma, w = noised(float(t), name, mu)
        ours = from_noise(expected_noise(x_t, mu, alpha, sigma, w), sigma, w)
        limit = projected(score(x0, mu, POWER), w)
        errors.append(float((ours - limit).norm() / limit.norm()))
    assert all(later < earlier for earlier, later in pairwise(errors)), errors
    assert errors[0] > 0.5 and errors[-1] < 0.03, errors
    if name == "gap":
        missing = score(x0, mu, POWER) - limit
        assert float(missing.norm() / limit.norm()) > 0.3, "the data do have a score in the gap"
