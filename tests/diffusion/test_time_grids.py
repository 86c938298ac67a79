"""Time spacings: their formulas, written out in NumPy, from the first level to the clean image."""

import numpy as np
import pytest
import torch

from sagd_cli.diffusion.catalogue import SPACINGS
from sagd_cli.diffusion.schedule import make_schedule
from sagd_cli.diffusion.time_grids import LOWEST_LOG_SNR, sampling_levels
from sagd_cli.errors import ConfigError

SCHEDULES = {name: make_schedule(name) for name in ("linear", "cosine", "edm")}


def columns(levels):
    """(t, alpha, sigma) of the levels, float64."""
    return np.array([[float(level.t), float(level.alpha), float(level.sigma)] for level in levels]).T


@pytest.mark.parametrize("start", [1.0, 0.3])
@pytest.mark.parametrize("steps", [1, 2, 27, 250])
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("spacing", [name for name in SPACINGS if name != "trailing"])
def test_a_path_falls_from_its_first_level_to_the_clean_image(spacing, schedule, steps, start):
    levels = sampling_levels(SCHEDULES[schedule], steps, "cpu", spacing, start)
    t, alpha, sigma = columns(levels)
    first = min(start, SCHEDULES[schedule].time_of(LOWEST_LOG_SNR))
    assert len(levels) == steps + 1
    assert t[0] == pytest.approx(first, abs=1e-9)
    assert (t[-1], alpha[-1], sigma[-1]) == (0, 1, 0)
    assert [level.is_clean for level in levels] == [False] * steps + [True]
    assert np.all(np.diff(t[:-1]) < 0)
    assert np.all(np.diff(sigma) < 0)
    assert np.all(np.diff(alpha) >= 0)
    for values, at_t in zip((alpha, sigma), SCHEDULES[schedule].levels(torch.tensor(t[:-1])), strict=True):
        np.testing.assert_array_equal(values[:-1], at_t.double())


@pytest.mark.parametrize(("schedule", "named"), [("linear", "linear"), ("cosine", "squaredcos_cap_v2")])
def test_trailing_times_are_the_timesteps_of_diffusers(schedule, named):
    """Also their rounding; on the cosine schedule from the entry above a log-SNR of -10.2 on, with the same stride."""
    from diffusers import DPMSolverMultistepScheduler

    theirs = DPMSolverMultistepScheduler(
        beta_schedule=named, timestep_spacing="trailing", lambda_min_clipped=LOWEST_LOG_SNR / 2
    )
    for steps in (1, 2, 7, 20, 48, 61, 96, 112, 250, 1000):
        t, *_ = columns(sampling_levels(SCHEDULES[schedule], steps, "cpu", "trailing")[:-1])
        theirs.set_timesteps(steps)
        expected = theirs.timesteps.numpy()
        np.testing.assert_allclose(t * 999, expected[expected >= 0], rtol=0, atol=1e-9)
    late = sampling_levels(SCHEDULES[schedule], 250, "cpu", "trailing", 0.3)
    assert float(late[0].t) * 999 == pytest.approx(299) and len(late) == 76


def test_only_the_cosine_schedule_starts_below_t_1():
    """There alpha_1 is 5e-5; no path starts below the log-SNR at which the DDPM table ends, to rounding."""
    first = {name: float(sampling_levels(schedule, 5, "cpu")[0].t) for name, schedule in SCHEDULES.items()}
    assert first["linear"] == first["edm"] == 1
    assert 0.98 < first["cosine"] < 1
    log_snr = SCHEDULES["cosine"].log_snr(torch.tensor(first["cosine"], dtype=torch.float64))
    assert float(log_snr) == pytest.approx(LOWEST_LOG_SNR, abs=1e-6)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 40])
def test_uniform_and_quadratic_spacings_are_equal_steps_in_t_and_in_its_root(steps, schedule):
    i = np.arange(steps)
    t, *_ = columns(sampling_levels(SCHEDULES[schedule], steps, "cpu", "uniform")[:-1])
    np.testing.assert_allclose(t, t[0] * (1 - i / steps), rtol=0, atol=1e-12)
    t, *_ = columns(sampling_levels(SCHEDULES[schedule], steps, "cpu", "quadratic")[:-1])
    np.testing.assert_allclose(t, t[0] * (1 - i / steps) ** 2, rtol=0, atol=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [2, 18, 40])
def test_karras_spacing_is_equation_5_of_the_paper(steps, schedule):
    """sigma_i = (smax^(1/7) + i / (N - 1) (smin^(1/7) - smax^(1/7)))^7, of s = sigma / alpha on any schedule."""
    _, alpha, sigma = columns(sampling_levels(SCHEDULES[schedule], steps, "cpu", "karras")[:-1])
    s = sigma / alpha
    (low_alpha, low_sigma) = (float(level) for level in SCHEDULES[schedule].levels(torch.tensor(0.0)))
    low, high = (low_sigma / low_alpha) ** (1 / 7), s[0] ** (1 / 7)
    np.testing.assert_allclose(s, (high + np.arange(steps) / (steps - 1) * (low - high)) ** 7, rtol=1e-5)
    if schedule == "edm":
        np.testing.assert_allclose(s[[0, -1]], [80, 0.002], rtol=1e-5)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [2, 18, 40])
def test_log_snr_spacing_is_equal_steps_in_log_snr_and_uniform_for_edm(steps, schedule):
    t, alpha, sigma = columns(sampling_levels(SCHEDULES[schedule], steps, "cpu", "log-snr")[:-1])
    log_snr = 2 * np.log(alpha / sigma)
    np.testing.assert_allclose(log_snr, np.linspace(log_snr[0], log_snr[-1], steps), rtol=0, atol=1e-5)
    first, last = (float(SCHEDULES[schedule].log_snr(torch.tensor(x))) for x in (t[0], 0.0))
    np.testing.assert_allclose(log_snr[[0, -1]], [first, last], rtol=0, atol=1e-5)
    if schedule == "edm":
        np.testing.assert_allclose(t, np.linspace(1, 0, steps), rtol=0, atol=1e-9)


def test_an_unknown_spacing_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="karas") as caught:
        sampling_levels(SCHEDULES["linear"], 5, "cpu", "karas")
    assert "karras" in caught.value.hint
