"""Classifier-free guidance, whose effect has a closed form where classes differ by their mean alone.

For data N(mu, S) the denoiser is mu + G (x_t - alpha mu), G = alpha S / (alpha^2 S + sigma^2 w^2), which is affine in
mu. So between a class N(mu_c, S) and data without a class N(mu, S), guidance of scale g is the exact denoiser of
N(mu + g (mu_c - mu), S), at every level and frequency, and samplers have to end there.
"""

import pytest
import torch

from sagd_cli.config.filter import FilterConfig
from sagd_cli.diffusion.catalogue import SAMPLERS
from sagd_cli.diffusion.denoiser import NetworkDenoiser, guided
from sagd_cli.diffusion.gaussian import GaussianDenoiser
from sagd_cli.diffusion.prediction import make_prediction
from sagd_cli.diffusion.process import ForwardProcess, Level
from sagd_cli.diffusion.samplers import integrate, make_sampler
from sagd_cli.diffusion.schedule import make_schedule
from sagd_cli.diffusion.time_grids import sampling_levels
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.noise import SpectralNoise, random_stream

SHAPE = (8, 8)
SCHEDULE = make_schedule("linear")
NOISE = SpectralNoise(FilterConfig(options={"alpha": -0.3}).weights(SHAPE))
POWER = 1 / (FrequencyGrid(SHAPE).radius + 0.1) ** 2
PREDICTIONS = {name: make_prediction(name, POWER, NOISE) for name in ("eps", "x0", "v")}
GAPPED = SpectralNoise(FilterConfig(type="bandstop", options={"low": 0.3, "high": 0.5}).weights(SHAPE))


def gaussian(mean):
    return GaussianDenoiser(mean, torch.as_tensor(POWER), ForwardProcess(SCHEDULE, NOISE))


def says(denoiser, prediction):
    """A network that says what `denoiser` does; on a schedule that keeps variance its input is x_t."""

    def network(x_t, timestep):
        t = timestep[0] / 999
        x0, eps = denoiser(x_t.double(), t)
        return prediction.target(x0, eps, Level(t, *(values.double() for values in SCHEDULE.levels(t))))

    return network


@pytest.fixture(scope="module")
def means():
    """Of the data and of a class."""
    stream = torch.Generator().manual_seed(0)
    return [torch.randn(SHAPE, generator=stream, dtype=torch.float64) for _ in range(2)]


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("name", PREDICTIONS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_guidance_moves_the_mean_along_the_line_to_that_of_the_class(sampler, name, scale, means):
    mean, of_class = means
    prediction = PREDICTIONS[name]
    network = guided(says(gaussian(of_class), prediction), says(gaussian(mean), prediction), scale)

    def samples(denoiser):
        stream = random_stream("cpu", 3, sampler)
        levels = sampling_levels(SCHEDULE, 6, "cpu")

        def draw():
            return NOISE.draw((4, 1, *SHAPE), stream)

        return integrate(denoiser, make_sampler(sampler, draw, 6), draw() * levels[0].sigma, levels)

    exact = samples(gaussian(mean + scale * (of_class - mean)))
    mine = samples(NetworkDenoiser(network, ForwardProcess(SCHEDULE, NOISE), prediction))
    torch.testing.assert_close(mine.double(), exact.double(), rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("noise", [NOISE, GAPPED], ids=["full", "gapped"])
@pytest.mark.parametrize("name", ["eps", "x0", "v", "edm", "edm-spectral"])
def test_guided_networks_give_the_guided_x0_and_eps(name, noise, clip):
    """Under any prediction and filter; projection and clipping come after it."""
    prediction = make_prediction(name, POWER, noise)
    stream = torch.Generator().manual_seed(1)
    x_t = noise.draw((3, 1, *SHAPE), stream)
    says = [torch.randn(x_t.shape, generator=stream) for _ in range(2)]
    networks = [lambda x, timestep, said=said: said for said in says]
    t = torch.tensor(0.3)

    def split(network, clip=False):
        return NetworkDenoiser(network, ForwardProcess(SCHEDULE, noise), prediction, clip)(x_t, t)

    (x0_with, eps_with), (x0_without, eps_without) = map(split, networks)
    x0, eps = split(guided(*networks, 2.5), clip)
    expected = x0_without + 2.5 * (x0_with - x0_without)
    torch.testing.assert_close(x0, expected.clamp(-1, 1) if clip else expected, rtol=1e-4, atol=1e-4)
    if not clip:
        torch.testing.assert_close(eps, eps_without + 2.5 * (eps_with - eps_without), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(eps, noise.project(eps), rtol=1e-4, atol=1e-4)


def test_guidance_asks_both_networks_once():
    calls = []

    def network(name):
        return lambda x_t, timestep: calls.append(name) or x_t

    guided(network("with"), network("without"), 2.0)(torch.zeros(1), torch.zeros(1))
    assert sorted(calls) == ["with", "without"]
