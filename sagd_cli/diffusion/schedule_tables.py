"""Schedules as tables of log-SNR, in NumPy: filters are designed without torch (docs/theory.md, section 4.1)."""

import math

import numpy as np

from sagd_cli.diffusion.catalogue import SCHEDULES
from sagd_cli.errors import ConfigError
from sagd_cli.spectral.grid import Array
from sagd_cli.system.choices import chosen

TABLE_STEPS = 1000
EDM_SIGMAS = (0.002, 80.0)


def log_snr_table(name: str) -> Array:
    """Return log(alpha_t^2 / sigma_t^2) of a schedule at T equally spaced t from 0 to 1, (T,).

    T is the table's own. Between the entries it is linear in t. Raises ConfigError for an unknown name.
    """
    table: Array = chosen("schedule", name, SCHEDULES, ConfigError).load()()
    return table


def snr_level(name: str, t: float) -> float:
    """Return alpha_t^2 / sigma_t^2 at t in [0, 1]; between the entries log-SNR is linear."""
    table = log_snr_table(name)
    return math.exp(np.interp(t * (len(table) - 1), np.arange(len(table)), table))


def linear_table() -> Array:
    """The DDPM table (Ho et al. 2006.11239): beta from 1e-4 to 0.02 in 1000 steps."""
    return _log_snr(np.asarray(np.cumprod(1 - np.linspace(1e-4, 0.02, TABLE_STEPS))))


def cosine_table() -> Array:
    """Nichol & Dhariwal 2102.09672, eq. 17: alpha_bar ~ cos^2, each beta at most 0.999."""
    t = np.arange(TABLE_STEPS + 1) / TABLE_STEPS
    alpha_bar = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
    return _log_snr(np.asarray(np.cumprod(1 - np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], 0.999))))


def edm_table() -> Array:
    """Karras et al. 2206.00364: alpha = 1, sigma from 0.002 to 80, its logarithm linear in t."""
    return np.asarray(-2 * np.log(np.array(EDM_SIGMAS)))


def _log_snr(alpha_bar: Array) -> Array:
    """Return log-SNR where alpha_t^2 = alpha_bar and sigma_t^2 = 1 - alpha_bar."""
    return np.asarray(np.log(alpha_bar) - np.log1p(-alpha_bar))
