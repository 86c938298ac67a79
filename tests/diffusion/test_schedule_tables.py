"""The NumPy tables are the schedules that torch trains with."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sagd_cli.diffusion.schedule import make_schedule
from sagd_cli.diffusion.schedule_tables import log_snr_table, snr_level
from sagd_cli.errors import ConfigError

laws = settings(deadline=None, derandomize=True, max_examples=200)
NAMES = ["cosine", "linear"]
SCHEDULES = {name: make_schedule(name) for name in NAMES}


@given(st.sampled_from(NAMES), st.floats(0, 1))
@laws
def test_levels_are_those_of_the_schedule_at_any_time(name, t):
    time = torch.tensor(t, dtype=torch.float64)
    assert snr_level(name, t) == pytest.approx(math.exp(float(SCHEDULES[name].log_snr(time))), rel=1e-10)
    alpha, sigma = map(float, SCHEDULES[name].levels(time))  # float32
    assert snr_level(name, t) == pytest.approx((alpha / sigma) ** 2, rel=1e-5)


def test_the_ends_of_the_ddpm_table():
    """beta_1 = 1e-4, so the first SNR is 9999; the last is 4.036e-5."""
    assert snr_level("linear", 0.0) == pytest.approx(9999, rel=1e-9)
    alpha_bar = np.prod(1 - np.linspace(1e-4, 0.02, 1000))
    assert alpha_bar == pytest.approx(4.036e-5, rel=1e-4)
    assert snr_level("linear", 1.0) == pytest.approx(alpha_bar / (1 - alpha_bar), rel=1e-12)


def test_the_cosine_table_is_that_of_its_paper():
    """Nichol & Dhariwal 2102.09672, eq. 17: alpha_bar_t = f(t) / f(0), but for the clipped end."""

    def f(step):
        return np.cos((step / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2

    alpha_bar = f(np.arange(1, 1000)) / f(0)
    np.testing.assert_allclose(
        log_snr_table("cosine")[:999], np.log(alpha_bar / (1 - alpha_bar)), rtol=0, atol=1e-6
    )
    assert snr_level("cosine", 1.0) == pytest.approx(alpha_bar[-1] * 1e-3, rel=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_levels_fall(name):
    levels = [snr_level(name, t) for t in np.linspace(0, 1, 777)]
    assert np.all(np.diff(levels) < 0)


def test_an_unknown_schedule_suggests():
    for ask in (log_snr_table, lambda name: snr_level(name, 0.5)):
        with pytest.raises(ConfigError, match="unknown schedule 'liner'") as error:
            ask("liner")
        assert error.value.hint.startswith("Did you mean linear")
