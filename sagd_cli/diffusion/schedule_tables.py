"""Schedules as tables of log-SNR, in NumPy, so that a filter can be designed without torch (MATH: 4.)."""

import math

import numpy as np

from sagd_cli.errors import ConfigError, suggest
from sagd_cli.spectral.grid import Array

TABLE_STEPS = 1000
EDM_SIGMAS = (0.002, 80.0)


def log_snr_table(name: str) -> Array:
    """log(alpha_t^2 / sigma_t^2) of the schedule `linear`, `cosine` or `edm` at T equal steps of t from 0 to 1, (T,).

    Between the entries it is linear in t. Raises ConfigError for another name.
    """
    if name not in _TABLES:
        raise ConfigError(f"unknown schedule {name!r}", suggest(name, _TABLES))
    return _TABLES[name]()


def snr_level(name: str, t: float) -> float:
    """alpha_t^2 / sigma_t^2 at t in [0, 1]; in between the entries log-SNR is linear."""
    table = log_snr_table(name)
    return math.exp(np.interp(t * (len(table) - 1), np.arange(len(table)), table))


def _linear() -> Array:
    """The DDPM table (Ho et al. 2006.11239): beta from 1e-4 to 0.02 in 1000 steps."""
    return np.asarray(np.cumprod(1 - np.linspace(1e-4, 0.02, TABLE_STEPS)))


def _cosine() -> Array:
    """Nichol & Dhariwal 2102.09672, eq. 17: alpha_bar ~ cos^2, each beta at most 0.999."""
    t = np.arange(TABLE_STEPS + 1) / TABLE_STEPS
    alpha_bar = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.asarray(np.cumprod(1 - np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], 0.999)))


def _edm() -> Array:
    """Karras et al. 2206.00364: alpha = 1, sigma from 0.002 to 80, its logarithm linear in t."""
    return np.asarray(-2 * np.log(np.array(EDM_SIGMAS)))


def _log_snr(alpha_bar: Array) -> Array:
    """Of a variance-preserving schedule with alpha_t^2 = alpha_bar."""
    return np.asarray(np.log(alpha_bar) - np.log1p(-alpha_bar))


_TABLES = {"linear": lambda: _log_snr(_linear()), "cosine": lambda: _log_snr(_cosine()), "edm": _edm}
