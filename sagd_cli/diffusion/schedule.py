"""Noise schedules: t in [0, 1] to (alpha_t, sigma_t) (docs/theory.md, section 4.1)."""

import numpy as np
import torch
from torch import Tensor

from sagd_cli.diffusion.catalogue import SCHEDULES
from sagd_cli.diffusion.schedule_tables import TABLE_STEPS, log_snr_table
from sagd_cli.errors import ConfigError
from sagd_cli.spectral.grid import Array


class Schedule:
    """alpha_t and sigma_t as functions of t, from a table of log-SNRs at T equally spaced t.

    Between the entries log-SNR is linear. It falls with t.
    """

    def __init__(
        self,
        log_snr: Array,
        preserves_variance: bool = True,
        log_sigma: tuple[float, float] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        """Take the log-SNR of the entries, of shape (T,), falling.

        With `preserves_variance`, alpha_t^2 + sigma_t^2 = 1; without it, alpha_t = 1. In training, ln sigma is normal
        with the mean and deviation `log_sigma`, or t is uniform (None). Raises ConfigError for another table.
        """
        table = np.asarray(log_snr, dtype=np.float64)
        if table.ndim != 1 or len(table) < 2 or not np.all(np.diff(table) < 0):
            raise ConfigError("a schedule is a table of at least 2 finite log-SNRs that fall")
        self._preserves_variance, self._log_sigma = preserves_variance, log_sigma
        self._log_snr = torch.as_tensor(table, device=device)

    def log_snr(self, t: Tensor) -> Tensor:
        """Return log(alpha_t^2 / sigma_t^2), with the shape of `t`, float64, on the schedule's device."""
        table = self._log_snr
        position = t.to(table).clamp(0, 1) * (len(table) - 1)
        below = position.floor().long().clamp(max=len(table) - 2)
        # Not table[below]: an index without axes is read by the host, which waits for the device and breaks a graph.
        return torch.lerp(table.take(below), table.take(below + 1), position - below)

    def times_of(self, log_snr: Tensor) -> Tensor:
        """Return the t of each log-SNR, the inverse of `log_snr`: the same shape, float64, clamped to [0, 1]."""
        rising, wanted = -self._log_snr, -log_snr.to(self._log_snr)
        above = torch.searchsorted(rising, wanted).clamp(1, len(rising) - 1)
        low, high = rising.take(above - 1), rising.take(above)
        return ((above - 1 + (wanted - low) / (high - low)) / (len(rising) - 1)).clamp(0, 1)

    def time_of(self, log_snr: float) -> float:
        """Return `times_of` one number."""
        return float(self.times_of(torch.tensor(log_snr, dtype=torch.float64)))

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return (alpha_t, sigma_t), float32 of the shape of `t`."""
        log_snr = self.log_snr(t)
        if not self._preserves_variance:
            return torch.ones_like(log_snr).float(), torch.exp(-log_snr / 2).float()
        return torch.sigmoid(log_snr).sqrt().float(), torch.sigmoid(-log_snr).sqrt().float()

    def training_time(self, u: Tensor) -> Tensor:
        """Return the training times t (B,) for uniform numbers `u` (B,) in [0, 1).

        They are the u-quantiles of the distribution of t: u itself, or the t of a log-normal sigma.
        """
        if self._log_sigma is None:
            return u
        mean, deviation = self._log_sigma
        normal = torch.special.ndtri(u.double().clamp(1e-9, 1 - 1e-9))
        return self.times_of(-2 * (mean + deviation * normal))

    @staticmethod
    def timestep(t: Tensor) -> Tensor:
        """Return the time as the network takes it: 999 t, float32."""
        return (t * (TABLE_STEPS - 1)).float()

    @staticmethod
    def time_of_timestep(timestep: Tensor) -> Tensor:
        """Return t, the inverse of `timestep`."""
        return timestep / (TABLE_STEPS - 1)


def make_schedule(name: str, device: torch.device | str = "cpu") -> Schedule:
    """Return the schedule called `name` on `device`; raise ConfigError for an unknown name."""
    table, choice = log_snr_table(name), SCHEDULES[name]
    return Schedule(table, choice.preserves_variance, choice.log_sigma, device)
