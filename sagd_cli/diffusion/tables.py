"""Schedules as tables of log-SNR, in NumPy, so that a filter can be designed without torch (MATH: 4.)."""

import math

import numpy as np

from sagd_cli.errors import ConfigError, suggest
from sagd_cli.spectral.grid import Array

STEPS = 1000


def log_snr_table(name: str) -> Array:
    """log(alpha_t^2 / sigma_t^2) at t = i / 999 of the schedule `linear` or `cosine`, float64 of shape (1000,).

    Raises ConfigError for another name.
    """
    if name not in _ALPHA_BARS:
        raise ConfigError(f"unknown schedule {name!r}", suggest(name, _ALPHA_BARS))
    alpha_bar = _ALPHA_BARS[name]()
    return np.asarray(np.log(alpha_bar) - np.log1p(-alpha_bar))


def snr_level(name: str, t: float) -> float:
    """alpha_t^2 / sigma_t^2 at t in [0, 1]; in between the entries log-SNR is linear."""
    table = log_snr_table(name)
    return math.exp(np.interp(t * (len(table) - 1), np.arange(len(table)), table))


def _linear() -> Array:
    """The DDPM table (Ho et al. 2006.11239): beta from 1e-4 to 0.02 in 1000 steps."""
    return np.asarray(np.cumprod(1 - np.linspace(1e-4, 0.02, STEPS)))


def _cosine() -> Array:
    """Nichol & Dhariwal 2102.09672, eq. 17: alpha_bar ~ cos^2, each beta at most 0.999."""
    t = np.arange(STEPS + 1) / STEPS
    alpha_bar = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.asarray(np.cumprod(1 - np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], 0.999)))


_ALPHA_BARS = {"linear": _linear, "cosine": _cosine}
