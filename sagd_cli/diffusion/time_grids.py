"""Time grids: at which levels a sampler evaluates the network (MATH: 5. Sampling)."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sagd_cli.diffusion.schedule import Schedule
from sagd_cli.errors import ConfigError, suggest
from sagd_cli.spectral.grid import Array

# Where alpha_t is all but zero, as at the end of the cosine schedule, a step in t is a huge one in log-SNR and no
# solver holds it. The DDPM table ends at -10.1 (a terminal SNR of 4e-5); no path starts lower.
LOWEST_LOG_SNR = -10.2
KARRAS_RHO = 7.0


@dataclass(frozen=True)
class Level:
    """A point of a sampler's path: the time and its alpha_t and sigma_t, scalar tensors; the last one is clean."""

    t: Tensor
    alpha: Tensor
    sigma: Tensor
    is_clean: bool = False


def _uniform(schedule: Schedule, steps: int, first: float) -> Array:
    """Equal steps in t."""
    return np.linspace(first, 0, steps + 1)[:-1]


def _quadratic(schedule: Schedule, steps: int, first: float) -> Array:
    """Equal steps in the square root of t, shorter towards the image (Song et al. 2010.02502, appendix D.2)."""
    return np.asarray(first * np.linspace(1, 0, steps + 1)[:-1] ** 2)


def _karras(schedule: Schedule, steps: int, first: float) -> Array:
    """Equal steps in (sigma / alpha)^(1/7), from the first level to that at t = 0 (Karras et al. 2206.00364, eq. 5)."""
    ends = schedule.log_snr(torch.tensor([first, 0.0], dtype=torch.float64)).tolist()
    high, low = (math.exp(-log_snr / 2 / KARRAS_RHO) for log_snr in ends)
    noise = np.linspace(high, low, steps) ** KARRAS_RHO
    return np.array([schedule.time_of(-2 * math.log(s)) for s in noise])


def _log_snr(schedule: Schedule, steps: int, first: float) -> Array:
    """Equal steps in log-SNR, from the first level to that at t = 0 (Lu et al. 2206.00927, section 3.4)."""
    high, low = schedule.log_snr(torch.tensor([first, 0.0], dtype=torch.float64)).tolist()
    return np.array([schedule.time_of(value) for value in np.linspace(high, low, steps)])


SPACINGS: dict[str, Callable[[Schedule, int, float], Array]] = {
    "uniform": _uniform,
    "quadratic": _quadratic,
    "karras": _karras,
    "log-snr": _log_snr,
}


def path(
    schedule: Schedule, steps: int, device: torch.device | str, spacing: str = "uniform", start: float = 1.0
) -> list[Level]:
    """Levels of `steps` steps from `start` down, spaced as `spacing` says, and the clean image (alpha 1, sigma 0).

    The first level is at `start` or where log-SNR reaches -10.2, whichever is later on the way. Raises ConfigError on
    an unknown spacing.
    """
    if spacing not in SPACINGS:
        raise ConfigError(f"unknown spacing {spacing!r}", suggest(spacing, SPACINGS))
    first = min(start, schedule.time_of(LOWEST_LOG_SNR))
    times = SPACINGS[spacing](schedule, steps, first)
    return path_through(schedule, torch.as_tensor(times, dtype=torch.float64, device=device))


def path_through(schedule: Schedule, times: Tensor) -> list[Level]:
    """Levels at `times` (steps,), which fall, and the clean image (alpha 1, sigma 0)."""
    alpha, sigma = schedule.levels(times)
    levels = [Level(t, a, s) for t, a, s in zip(times, alpha, sigma, strict=True)]
    clean = Level(torch.zeros_like(times[0]), torch.ones_like(alpha[0]), torch.zeros_like(sigma[0]), True)
    return [*levels, clean]
