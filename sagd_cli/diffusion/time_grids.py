"""Time grids: the levels at which a sampler evaluates the network (docs/theory.md, section 5)."""

import math

import numpy as np
import torch
from torch import Tensor

from sagd_cli.diffusion.catalogue import SPACINGS
from sagd_cli.diffusion.process import Level, clean_level
from sagd_cli.diffusion.schedule import Schedule
from sagd_cli.diffusion.schedule_tables import TABLE_STEPS
from sagd_cli.errors import ConfigError
from sagd_cli.spectral.grid import Array
from sagd_cli.system.choices import chosen

# Where alpha_t is almost zero, as at the end of the cosine schedule, a step in t is a huge step in log-SNR, too long
# for any solver. The DDPM table ends at -10.1 (a terminal SNR of 4e-5); no path starts lower.
LOWEST_LOG_SNR = -10.2
KARRAS_RHO = 7.0


def uniform_times(schedule: Schedule, steps: int, first: float) -> Array:
    """Equal steps in t."""
    return np.linspace(first, 0, steps + 1)[:-1]


def quadratic_times(schedule: Schedule, steps: int, first: float) -> Array:
    """Equal steps in the square root of t, shorter towards the image (Song et al. 2010.02502, appendix D.2)."""
    return np.asarray(first * np.linspace(1, 0, steps + 1)[:-1] ** 2)


def karras_times(schedule: Schedule, steps: int, first: float) -> Array:
    """Equal steps in (sigma / alpha)^(1/7), from the first level to that at t = 0 (Karras et al. 2206.00364, eq. 5)."""
    ends = schedule.log_snr(torch.tensor([first, 0.0], dtype=torch.float64)).tolist()
    high, low = (math.exp(-log_snr / 2 / KARRAS_RHO) for log_snr in ends)
    return _times(schedule, -2 * KARRAS_RHO * np.log(np.linspace(high, low, steps)))


def log_snr_times(schedule: Schedule, steps: int, first: float) -> Array:
    """Equal steps in log-SNR, from the first level to that at t = 0 (Lu et al. 2206.00927, section 3.4)."""
    high, low = schedule.log_snr(torch.tensor([first, 0.0], dtype=torch.float64)).tolist()
    return _times(schedule, np.linspace(high, low, steps))


def trailing_times(schedule: Schedule, steps: int, first: float) -> Array:
    """Entries of the table of 1000: every (1000 / steps)-th from the one at or below `first` down, rounded.

    These are the timesteps of diffusers' schedulers with timestep_spacing="trailing" (Lin et al. 2305.08891, table 2).
    Where the path starts later than t = 1, the stride stays, so many steps may be fewer than `steps`.
    """
    last = math.floor(first * (TABLE_STEPS - 1) + 1e-6) + 1
    entries = np.round(np.arange(last, 0, -TABLE_STEPS / steps)) - 1  # as they count it, to the last rounding
    return np.asarray(entries[entries >= 0] / (TABLE_STEPS - 1))


def _times(schedule: Schedule, log_snr: Array) -> Array:
    """Return the time of each log-SNR (steps,)."""
    return schedule.times_of(torch.from_numpy(log_snr)).cpu().numpy()


def sampling_levels(
    schedule: Schedule, steps: int, device: torch.device | str, spacing: str = "uniform", start: float = 1.0
) -> list[Level]:
    """Return the levels of `steps` steps from the time `start` down, and the clean level at the end.

    `spacing` says how they are spaced. The first level is at `start`, or where log-SNR reaches -10.2 if that is nearer
    to the image; that of `trailing` is at the entry of the table below. Raises ConfigError on an unknown spacing and
    for less than one step.
    """
    if steps < 1:
        raise ConfigError(f"sampling takes at least 1 step, not {steps}")
    first = min(start, schedule.time_of(LOWEST_LOG_SNR))
    times = chosen("spacing", spacing, SPACINGS, ConfigError).load()(schedule, steps, first)
    return levels_at(schedule, torch.as_tensor(times, dtype=torch.float64, device=device))


def levels_at(schedule: Schedule, times: Tensor) -> list[Level]:
    """Return the levels at `times` (steps,), which fall, and the clean level at the end."""
    alpha, sigma = schedule.levels(times)
    levels = [Level(t, a, s) for t, a, s in zip(times, alpha, sigma, strict=True)]
    return [*levels, clean_level(times)]
