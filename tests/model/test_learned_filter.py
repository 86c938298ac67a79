"""Learned filters: they find the closed-form optimum on Gaussian data, and what is stored is what is sampled with."""

import json
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

from sagd_cli.config.filter import FilterConfig
from sagd_cli.config.layers import resolve
from sagd_cli.config.run import TrainingConfig
from sagd_cli.diffusion.denoiser import as_network
from sagd_cli.diffusion.loss import DiffusionLoss
from sagd_cli.diffusion.process import ForwardProcess
from sagd_cli.diffusion.schedule import make_schedule
from sagd_cli.errors import ConfigError, Interrupted
from sagd_cli.model.learned_filter import LearnedNoise, LearnedNoiseLoss, learned_profile
from sagd_cli.model.state import TrainingState
from sagd_cli.run.folder import open_run
from sagd_cli.run.manifest import read_run_filter
from sagd_cli.sampling.generator import ImageGenerator
from sagd_cli.spectral.filter import SpectralFilter
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.noise import SpectralNoise, random_stream
from sagd_cli.system.console import Output
from sagd_cli.training import train
from sagd_cli.training.batches import Batch
from sagd_cli.training.loop import Callbacks, run_loop
from sagd_cli.training.train import run_training

CPU, QUIET = torch.device("cpu"), Output(quiet=True)
LEARNED = FilterConfig(type="learned")
SCHEDULE = make_schedule("linear")
STEPS, BATCH = 1200, 128


def spectrum(shape, beta, variance):
    """S = r^-beta of the given variance a sample; DC as its nearest neighbours."""
    grid = FrequencyGrid(shape)
    power = np.maximum(grid.radius, 1 / max(shape)) ** -beta
    return grid, power * variance / grid.mean(power)


def optimum(power, grid):
    """The w that minimises sum_f E_t[c S / (w^2 + c S)] at unit power, c = alpha_t^2 / sigma_t^2, t uniform.

    The sum is convex in w^2: at the optimum its derivative is one constant at all frequencies.
    """
    snr = np.exp(SCHEDULE.log_snr(torch.linspace(0, 1, 2001, dtype=torch.float64)).numpy())
    signal = snr[:, None] * power.ravel()

    def bisect(low, high, is_below):
        for _ in range(60):
            middle = (low + high) / 2
            below = is_below(middle)
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return (low + high) / 2

    def squares(log_constant):
        def derivative_is_larger(log_w2):
            return np.mean(signal / (np.exp(log_w2) + signal) ** 2, axis=0) > np.exp(log_constant)

        start = np.full(power.size, 12.0)
        return np.exp(bisect(-start, start, derivative_is_larger)).reshape(power.shape)

    constant = bisect(-30.0, 10.0, lambda log_constant: grid.mean(squares(log_constant)) > 1)
    return np.sqrt(squares(constant))


class Gains(nn.Module):
    """A linear network, one gain a frequency: sigma / (alpha^2 q + sigma^2) with q = S / w^2 to be found."""

    def __init__(self, grid):
        super().__init__()
        self.grid = grid
        self.log_q = nn.Parameter(torch.zeros(grid.half_shape))

    def forward(self, x_t, timestep):
        ndim = self.grid.ndim
        alpha, sigma = (level.view(-1, *[1] * (1 + ndim)) for level in SCHEDULE.levels(timestep / 999))
        gain = sigma / (alpha**2 * torch.exp(20 * self.log_q) + sigma**2)
        dims = tuple(range(-ndim, 0))
        return torch.fft.irfftn(gain * torch.fft.rfftn(x_t, dim=dims), s=self.grid.shape, dim=dims)


def settings(seed):
    return TrainingConfig(
        images=STEPS * BATCH,
        batch_size=BATCH,
        warmup_images=10 * BATCH,
        weight_decay=0,
        ema_half_life_images=20 * BATCH,
        seed=seed,
        checkpoint_images=10**9,
    )


def trained(grid, power, seed, learned):
    """Train gains on Gaussian data with a learned or the white filter; return the state and the loss."""
    data = SpectralNoise(SpectralFilter.from_weight(grid, np.sqrt(power)))
    profile = learned_profile(LEARNED, grid.shape) if learned else None
    white = SpectralNoise(FilterConfig(type="white").weights(grid.shape))
    loss = (
        LearnedNoiseLoss(
            ForwardProcess(SCHEDULE, LearnedNoise(profile, CPU)), smoothness=LEARNED.options["smoothness"]
        )
        if learned
        else DiffusionLoss(ForwardProcess(SCHEDULE, white))
    )
    state = TrainingState(Gains(grid), settings(seed), CPU, profile)

    def batch(step, places):
        return Batch(data.draw((BATCH, 1, *grid.shape), random_stream("cpu", seed, "data", step)))

    records = []
    run_loop(state, batch, loss, settings(seed), Callbacks(record=records.append))
    return state, records


@torch.no_grad()
def validation_loss(grid, power, state):
    """Whitened loss of the averaged network with the averaged filter, on fields and noise of their own."""
    data = SpectralNoise(SpectralFilter.from_weight(grid, np.sqrt(power)))
    average = state.profile_ema and state.profile_ema.network.spectral_filter()
    noise = SpectralNoise(average or FilterConfig(type="white").weights(grid.shape))
    loss, values = DiffusionLoss(ForwardProcess(SCHEDULE, noise)), []
    for i in range(40):
        x_0 = data.draw((1024, 1, *grid.shape), random_stream("cpu", 7, "validation", i))
        errors = loss.errors(as_network(state.ema.network), x_0, random_stream("cpu", 7, "noise", i))
        values.append(float(loss.whitened(errors)))
    return float(np.mean(values))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "beta", "variance", "seed"),
    [((8, 8), 3, 0.1, 1), ((64,), 2, 0.25, 0)],
    ids=["images", "signals"],
)
def test_it_finds_the_optimum_of_gaussian_data_and_no_worse_loss_than_white(shape, beta, variance, seed):
    """Theory, section 8: within 10 % of the closed form in w over the bins that hold 99 % of S, from a white start."""
    grid, power = spectrum(shape, beta, variance)
    best = optimum(power, grid)
    state, records = trained(grid, power, seed, learned=True)
    found = state.profile_ema.network.spectral_filter()
    order = np.argsort(-power, axis=None)
    share = np.cumsum((grid.multiplicity * power).ravel()[order]) / grid.total(power)
    strong = order[: np.searchsorted(share, 0.99) + 1]
    ratio = found.weight.ravel()[strong] / best.ravel()[strong]
    assert np.abs(ratio - 1).max() < 0.1
    assert np.abs(1 / best.ravel()[strong] - 1).max() > 0.2, "white would pass: the test shows nothing"
    # It moves noise towards low frequencies and leaves no band without: shares of white noise are its starting point.
    start, end = records[0]["noise_bands"], records[-1]["noise_bands"]
    assert end["low"] > 1.3 * start["low"]
    assert all(end[band] > start[band] / 2 for band in start)
    white, _ = trained(grid, power, seed, learned=False)
    assert validation_loss(grid, power, state) < validation_loss(grid, power, white)


def test_the_gradient_is_that_of_the_loss_as_a_function_of_the_knots():
    """Against central differences, with the same noise and times: through the draw, the network and the whitening."""
    profile = learned_profile(LEARNED, (8, 8))
    network = nn.Conv2d(1, 1, 3, padding=1)
    x_0 = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))

    def value():
        loss = LearnedNoiseLoss(ForwardProcess(SCHEDULE, LearnedNoise(profile, CPU)), smoothness=0.1)
        errors = loss.errors(lambda x, t: network(x), x_0, torch.Generator().manual_seed(2))
        return loss.objective(errors)

    with torch.no_grad():
        profile.raw += torch.linspace(-0.3, 0.5, len(profile.raw))
    (gradient,) = torch.autograd.grad(value(), profile.raw)
    for knot in (0, 4, 7, 11):
        values = []
        for step in (0.02, -0.02):
            with torch.no_grad():
                profile.raw[knot] += step
                values.append(float(value()))
                profile.raw[knot] -= step
        expected = (values[0] - values[1]) / 0.04
        assert float(gradient[knot]) == pytest.approx(expected, rel=0.03, abs=1e-4)


def test_a_profile_is_the_filter_file_of_its_knots_at_unit_power():
    start = FilterConfig(type="learned", options={"knots": [[0, 3], [0.2, 0.5], [0.7, 1], [1, 2]]})
    profile = learned_profile(start, (9, 12))
    np.testing.assert_allclose(profile().detach(), start.weights((9, 12)).weight, rtol=1e-5)
    again = start.model_copy(
        update={
            "options": {
                **start.options,
                "knots": [
                    [r, k] for (r, _), k in zip(start.options["knots"], profile.knots.tolist(), strict=True)
                ],
            }
        }
    )
    np.testing.assert_allclose(again.weights((9, 12)).weight, start.weights((9, 12)).weight, rtol=1e-5)
    assert profile.spectral_filter().power == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e3, 1e300])
def test_the_scale_of_the_start_does_not_matter_to_training(scale):
    """Only the shape of a profile at unit power has a meaning, also to the parameters that are trained."""
    knots = [[0, 2.0], [0.3, 1.0], [1, 0.5]]
    one, other = (
        learned_profile(
            FilterConfig(type="learned", options={"knots": [[r, k * w] for r, w in knots]}), (8, 8)
        )
        for k in (1.0, scale)
    )
    torch.testing.assert_close(one.raw, other.raw)


@pytest.fixture(scope="module")
def settings_of_learned(tiny_settings):
    return resolve({**tiny_settings, "filter.type": "learned"})


@pytest.fixture(scope="module")
def learned_run(tmp_path_factory, settings_of_learned):
    path = tmp_path_factory.mktemp("runs") / "learned"
    run_training(settings_of_learned, path, CPU, QUIET)
    return path


def test_sampling_uses_the_averaged_profile_that_was_trained(learned_run):
    run = open_run(learned_run, QUIET)
    arrays = load_file(run.checkpoint.path / "profile-ema.safetensors")
    profile = learned_profile(run.config.filter, (8, 8))
    profile.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    used = ImageGenerator(run.model(CPU), run.config.sampling)._noise.filter
    np.testing.assert_allclose(used.weight, profile.spectral_filter().weight, rtol=1e-5)
    np.testing.assert_array_equal(used.weight, run.filter.weights((8, 8)).weight)
    assert np.abs(used.weight - 1).max() > 1e-3, "training has not moved it"
    stored = read_run_filter(learned_run, QUIET)
    assert stored.is_learned and stored.filter == run.filter and stored.initial == run.config.filter


def test_a_stopped_learned_run_goes_on_as_if_it_had_not_been(
    learned_run, settings_of_learned, tmp_path, monkeypatch
):
    class Stop:
        def __init__(self):
            self.calls, self.signum = 0, 15

        def requested(self):
            self.calls += 1
            return self.calls == 3

    @contextmanager
    def stopping():
        yield Stop()

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(train, "stop_on_signal", stopping)
        run_training(settings_of_learned, tmp_path / "run", CPU, QUIET)
    run_training(settings_of_learned, tmp_path / "run", CPU, QUIET)
    ours, theirs = (open_run(path, QUIET).checkpoint.path for path in (tmp_path / "run", learned_run))
    for name in ("model", "ema", "profile", "profile-ema", "optimizer", "filter"):
        file = f"{name}.safetensors"
        assert (ours / file).read_bytes() == (theirs / file).read_bytes(), name


def test_the_metrics_show_where_the_noise_is(learned_run):
    records = [json.loads(line) for line in (learned_run / "metrics.jsonl").read_text().splitlines()]
    assert all(sum(record["noise_bands"].values()) == pytest.approx(1) for record in records)


def test_another_filter_is_refused_and_the_trained_one_accepted(sagd, learned_run, tmp_path):
    shown = sagd("filter", "show", learned_run, "--output", tmp_path / "f.yaml", "--json")
    assert shown.code == 0
    drawn = ["sample", learned_run, "-n", 2, "--steps", 1, "--json"]
    accepted = sagd(*drawn, "--filter", tmp_path / "f.yaml", "--output", tmp_path / "a")
    assert accepted.code == 0 and accepted.json["filter_sha256"] == shown.json["sha256"]
    refused = sagd(*drawn, "--filter", "learned", "--output", tmp_path / "b")
    assert refused.code == 2 and shown.json["sha256"][:12] in refused.err


@pytest.mark.parametrize("normalize", ["none", "peak"])
def test_a_level_is_not_learned(normalize):
    with pytest.raises(ConfigError, match="unit power"):
        learned_profile(FilterConfig(type="learned", normalize=normalize), (8, 8))


def test_a_damaged_newest_checkpoint_is_named_when_its_filter_is_shown(sagd, learned_run, tmp_path):
    run = shutil.copytree(learned_run, tmp_path / "run")
    newest = max((run / "checkpoints").glob("step-*"))
    (newest / "ema.safetensors").write_bytes(b"torn")
    shown = sagd("filter", "show", run, "--json")
    assert shown.code == 0 and f"skipped: {newest} is damaged" in shown.err
    assert shown.json["sha256"] != sagd("filter", "show", learned_run, "--json").json["sha256"]
