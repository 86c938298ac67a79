"""Schedules: equal to those of diffusers at the entries of the table, falling, and inverted by `time_of`."""

from statistics import NormalDist

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from sagd_cli.diffusion.schedule import make_schedule
from sagd_cli.diffusion.schedule_tables import TABLE_STEPS
from sagd_cli.errors import ConfigError

laws = settings(deadline=None, derandomize=True, max_examples=100)
DIFFUSERS = {"linear": "linear", "cosine": "squaredcos_cap_v2"}
SCHEDULES = {name: make_schedule(name) for name in (*DIFFUSERS, "edm")}
schedules = st.sampled_from(sorted(SCHEDULES))
preserving = st.sampled_from(sorted(DIFFUSERS))
ENTRIES = torch.arange(TABLE_STEPS, dtype=torch.float64) / (TABLE_STEPS - 1)


@pytest.mark.parametrize("name", DIFFUSERS)
def test_levels_are_those_of_diffusers(name):
    table = DDPMScheduler(
        num_train_timesteps=TABLE_STEPS, beta_schedule=DIFFUSERS[name]
    ).alphas_cumprod.double()
    alpha, sigma = SCHEDULES[name].levels(ENTRIES)
    np.testing.assert_allclose(alpha.double() ** 2, table, rtol=0, atol=1e-6)
    np.testing.assert_allclose(sigma.double() ** 2, 1 - table, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(SCHEDULES[name].timestep(ENTRIES), np.arange(TABLE_STEPS))


def test_the_linear_table_is_the_one_of_ddpm():
    """Ho et al. 2006.11239: alpha_bar_0 = 1 - 1e-4, and a terminal SNR of 4e-5."""
    log_snr = SCHEDULES["linear"].log_snr(torch.tensor([0.0, 1.0]))
    product = np.prod(1 - np.linspace(1e-4, 0.02, 1000))
    np.testing.assert_allclose(torch.sigmoid(log_snr), [1 - 1e-4, product], rtol=1e-10)
    assert product == pytest.approx(4.036e-5, rel=1e-4)


@given(preserving, st.lists(st.floats(0, 1), min_size=1, max_size=20))
@laws
def test_variance_is_preserved_and_levels_are_those_of_the_log_snr(name, times):
    t = torch.tensor(times, dtype=torch.float64)
    alpha, sigma = SCHEDULES[name].levels(t)
    assert alpha.dtype == sigma.dtype == torch.float32
    assert alpha.shape == sigma.shape == t.shape
    alpha, sigma = alpha.double(), sigma.double()
    np.testing.assert_allclose(alpha**2 + sigma**2, 1, rtol=0, atol=2e-7)
    np.testing.assert_allclose(2 * torch.log(alpha / sigma), SCHEDULES[name].log_snr(t), rtol=0, atol=1e-6)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
@laws
def test_the_edm_schedule_has_alpha_1_and_a_sigma_whose_logarithm_is_linear(times):
    t = torch.tensor(times, dtype=torch.float64)
    alpha, sigma = SCHEDULES["edm"].levels(t)
    assert alpha.dtype == sigma.dtype == torch.float32
    assert alpha.shape == sigma.shape == t.shape
    assert torch.all(alpha == 1)
    expected = np.log(0.002) + np.array(times) * (np.log(80) - np.log(0.002))
    np.testing.assert_allclose(torch.log(sigma.double()), expected, rtol=0, atol=2e-7)
    np.testing.assert_allclose(SCHEDULES["edm"].log_snr(t), -2 * expected, rtol=0, atol=1e-12)


def test_the_edm_schedule_ends_at_sigma_of_0_002_and_80():
    _, sigma = SCHEDULES["edm"].levels(torch.tensor([0.0, 1.0]))
    np.testing.assert_allclose(sigma, [0.002, 80], rtol=1e-6)


def test_edm_trains_on_a_log_normal_sigma_and_the_others_on_a_uniform_t():
    """Karras et al., table 1: ln sigma ~ N(-1.2, 1.2^2), here cut at the ends of the schedule."""
    u = torch.linspace(0, 1, 1001, dtype=torch.float64)
    for name in DIFFUSERS:
        assert torch.equal(SCHEDULES[name].training_time(u), u)
    _, sigma = SCHEDULES["edm"].levels(SCHEDULES["edm"].training_time(u))
    normal = np.array([NormalDist().inv_cdf(p) for p in u[1:-1].tolist()])
    expected = np.clip(-1.2 + 1.2 * normal, np.log(0.002), np.log(80))
    np.testing.assert_allclose(torch.log(sigma[1:-1].double()), expected, rtol=0, atol=1e-5)


@given(schedules, st.lists(st.floats(0, 1), min_size=1, max_size=20), st.booleans())
@laws
def test_times_of_inverts_log_snr_elementwise(name, times, in_rows):
    t = torch.tensor(times, dtype=torch.float64)
    t = t[:, None] if in_rows else t
    back = SCHEDULES[name].times_of(SCHEDULES[name].log_snr(t))
    assert back.dtype == torch.float64
    assert back.shape == t.shape
    np.testing.assert_allclose(back, t, rtol=0, atol=1e-9)
    assert [SCHEDULES[name].time_of(float(level)) for level in SCHEDULES[name].log_snr(t).flatten()] == (
        back.flatten().tolist()
    )


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_levels_of_one_time_are_one_graph(name):
    """What the host reads would divide a compiled denoiser; `backend` only traces."""
    t = torch.tensor(0.3, dtype=torch.float64)
    levels = torch.compile(SCHEDULES[name].levels, fullgraph=True, backend="eager")
    assert all(map(torch.equal, levels(t), SCHEDULES[name].levels(t)))


@given(schedules, st.floats(0, 1), st.floats(0, 1))
@laws
def test_log_snr_falls_in_t(name, a, b):
    low, high = sorted((a, b))
    of_low, of_high = SCHEDULES[name].log_snr(torch.tensor([low, high], dtype=torch.float64))
    assert of_low >= of_high
    if high - low > 1e-9:
        assert of_low > of_high


@pytest.mark.parametrize("name", SCHEDULES)
def test_log_snr_falls_strictly_over_the_table_and_is_straight_between_entries(name):
    log_snr = SCHEDULES[name].log_snr
    assert torch.all(log_snr(ENTRIES).diff() < 0)
    middle = (ENTRIES[1:] + ENTRIES[:-1]) / 2
    np.testing.assert_allclose(
        log_snr(middle), (log_snr(ENTRIES[1:]) + log_snr(ENTRIES[:-1])) / 2, rtol=0, atol=1e-9
    )


@given(schedules, st.floats(0, 1))
@laws
def test_time_of_inverts_log_snr(name, t):
    schedule = SCHEDULES[name]
    assert schedule.time_of(float(schedule.log_snr(torch.tensor(t, dtype=torch.float64)))) == pytest.approx(
        t, abs=1e-6
    )


@given(schedules, st.floats(0, 1))
@laws
def test_log_snr_inverts_time_of(name, share):
    schedule = SCHEDULES[name]
    top, bottom = schedule.log_snr(torch.tensor([0.0, 1.0])).tolist()
    level = bottom + share * (top - bottom)
    t = torch.tensor(schedule.time_of(level), dtype=torch.float64)
    assert float(schedule.log_snr(t)) == pytest.approx(level, abs=1e-6)


@pytest.mark.parametrize("name", SCHEDULES)
def test_times_are_clamped_to_the_table(name):
    schedule = SCHEDULES[name]
    top, bottom = schedule.log_snr(torch.tensor([0.0, 1.0])).tolist()
    assert schedule.time_of(top) == schedule.time_of(top + 3) == schedule.time_of(1e9) == 0
    assert schedule.time_of(bottom) == schedule.time_of(bottom - 3) == schedule.time_of(-1e9) == 1
    outside = schedule.log_snr(torch.tensor([-0.5, 1.5]))
    np.testing.assert_array_equal(outside, [top, bottom])


def test_an_unknown_schedule_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="cosin") as caught:
        make_schedule("cosin")
    assert "cosine" in caught.value.hint
