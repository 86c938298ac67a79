"""The checks of `sagd doctor --numerics`: they hold here, and each fails when the piece it looks at is broken."""

from functools import cache

import pytest
import torch

from sagd_cli.diffusion import samplers, self_check
from sagd_cli.diffusion.catalogue import SAMPLERS
from sagd_cli.spectral.noise import SpectralNoise, white_noise

CPU = torch.device("cpu")
SHAPED = ["falling", "rising", "gap"]


@cache
def noises():
    return {name: self_check._noise(weight, CPU) for name, weight in self_check.WEIGHTS.items()}


def failed(checks):
    return {check.name for check in checks if not check.ok}


def test_all_checks_hold_on_the_cpu():
    threads = torch.get_num_threads()
    checks = self_check.run_checks(CPU)
    assert torch.get_num_threads() == threads
    assert failed(checks) == set()
    names = [check.name for check in checks]
    assert len(names) == len(set(names)) == 1 + 3 + 3 + 2 * 3 * len(SAMPLERS) + len(SAMPLERS) + 1


def test_a_value_that_is_not_a_number_is_out_of_bounds():
    assert not self_check.Check("x", "y", float("nan"), 1.0).ok
    assert self_check.Check("x", "y", 1.0, 1.0).ok


def test_white_noise_in_the_place_of_shaped_noise_is_seen(monkeypatch):
    monkeypatch.setattr(
        SpectralNoise, "draw", lambda self, shape, streams=None: white_noise(tuple(shape), streams, "cpu")
    )
    checks = [self_check._covariance(name, noise) for name, noise in noises().items()]
    assert failed(checks) == {f"covariance {name}" for name in SHAPED}
    assert failed([self_check._omitted_band("dpmpp", noises()["gap"])]) == {"omitted band dpmpp"}
    assert self_check._white_draw(CPU).ok


def test_noise_of_ten_percent_too_much_power_is_seen(monkeypatch):
    """A test of the test: 10 % is 6 standard errors at each frequency."""
    color = SpectralNoise.color
    monkeypatch.setattr(SpectralNoise, "color", lambda self, x: 1.1**0.5 * color(self, x))
    checks = [self_check._covariance(name, noise) for name, noise in noises().items()]
    assert failed(checks) == {f"covariance {name}" for name in SHAPED}


def test_a_white_draw_that_went_through_a_transform_is_seen(monkeypatch):
    monkeypatch.setattr(SpectralNoise, "color", lambda self, x: torch.fft.irfft2(torch.fft.rfft2(x)))
    assert failed([self_check._white_draw(CPU)]) == {"white draw"}


def test_a_projection_that_removes_nothing_is_seen(monkeypatch):
    monkeypatch.setattr(SpectralNoise, "project", lambda self, x: x)
    checks = [self_check._whitening(name, noise) for name, noise in noises().items()]
    assert failed(checks) == {"whiten gap"}
    gaps = [self_check._omitted_band(sampler, noises()["gap"]) for sampler in SAMPLERS]
    assert failed(gaps) == {f"omitted band {sampler}" for sampler in SAMPLERS}


def test_a_whitening_that_is_one_percent_off_is_seen(monkeypatch):
    whiten = SpectralNoise.whiten
    monkeypatch.setattr(SpectralNoise, "whiten", lambda self, x: 1.01 * whiten(self, x))
    checks = [self_check._whitening(name, noise) for name, noise in noises().items()]
    assert failed(checks) == {f"whiten {name}" for name in SHAPED}


def euler(draw, amount, steps):
    """Heun without its second evaluation, at the same number of steps: of first order."""

    def step(denoiser, x_t, now, then):
        x0, eps = denoiser(x_t, now.t)
        return then.alpha * x0 + then.sigma * eps

    return step


def uncorrected(draw, amount, steps):
    """UniPC without its corrector, which is of second order only."""
    return samplers.dpmpp()


def wrong_ddim(draw, amount, steps):
    """1 % too much of the noise is kept in each step."""

    def step(denoiser, x_t, now, then):
        x0, eps = denoiser(x_t, now.t)
        return then.alpha * x0 + 1.01 * then.sigma * eps

    return step


def wrong_ddpm(draw, amount, steps):
    """The noise that each step adds is 10 % too small."""
    return samplers.ddim(1.0, lambda: 0.9 * draw())


@pytest.mark.parametrize(
    ("name", "make", "evaluations_per_step"),
    [
        ("dpmpp", euler, 1),
        ("unipc", uncorrected, 1),
        ("heun", euler, 2),
        ("ddim", wrong_ddim, 1),
        ("ddpm", wrong_ddpm, 1),
    ],
)
@pytest.mark.parametrize("schedule", ["linear", "cosine", "edm"])
def test_a_wrong_coefficient_of_a_step_is_seen(monkeypatch, name, make, evaluations_per_step, schedule):
    assert SAMPLERS[name].evaluations_per_step == evaluations_per_step
    monkeypatch.setattr(samplers, f"make_{name}", make)
    bad = failed(self_check._accuracy(name, schedule, noises()))
    assert bad == {f"{name} {schedule} error", f"{name} {schedule} order"}


def test_streams_that_depend_on_the_batch_are_seen(monkeypatch):
    def draw(self, shape, streams):
        return self.color(white_noise(shape, streams[0] if isinstance(streams, list) else streams, "cpu"))

    monkeypatch.setattr(SpectralNoise, "draw", draw)
    assert failed([self_check._batch_size(noises()["falling"])]) == {"batch size"}


def test_a_sampler_that_fails_with_one_filter_only_is_seen(monkeypatch):
    """NaN with the second of three filters: it must not get lost on the way to the largest error."""

    def make(draw, amount, steps):
        step = samplers.ddim(0.0, draw)

        def broken(denoiser, x_t, now, then):
            x = step(denoiser, x_t, now, then)
            return x * float("nan") if denoiser.process.noise is noises()["rising"] else x

        return broken

    monkeypatch.setattr(samplers, "make_ddim", make)
    assert failed(self_check._accuracy("ddim", "edm", noises())) == {"ddim edm error", "ddim edm order"}
