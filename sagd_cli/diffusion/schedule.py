"""Noise schedules: t in [0, 1] to (alpha_t, sigma_t) (MATH: 4. Forward process)."""

import torch
from torch import Tensor

from sagd_cli.diffusion.tables import STEPS, log_snr_table
from sagd_cli.spectral.grid import Array


class Schedule:
    """A variance-preserving schedule, x_t = alpha_t x_0 + sigma_t eps_w, from a table of T = 1000 levels.

    t = i / (T - 1) is entry i of the table; in between, log-SNR is interpolated linearly. It falls in t.
    """

    def __init__(self, log_snr: Array, device: torch.device | str = "cpu") -> None:
        """Take the log-SNR of the entries, float64 of shape (T,)."""
        self._log_snr = torch.as_tensor(log_snr, device=device)

    def log_snr(self, t: Tensor) -> Tensor:
        """log(alpha_t^2 / sigma_t^2), of the shape of `t`, float64."""
        position = t.double().clamp(0, 1) * (len(self._log_snr) - 1)
        below = position.floor().long().clamp(max=len(self._log_snr) - 2)
        return torch.lerp(self._log_snr[below], self._log_snr[below + 1], position - below)

    def time_of(self, log_snr: float) -> float:
        """Inverse of `log_snr`: the t of a level, clamped to [0, 1]."""
        rising = (-self._log_snr).contiguous()
        above = int(
            torch.searchsorted(rising, torch.tensor(-log_snr, dtype=torch.float64)).clamp(1, STEPS - 1)
        )
        low, high = float(self._log_snr[above - 1]), float(self._log_snr[above])
        return min(max((above - 1 + (low - log_snr) / (low - high)) / (STEPS - 1), 0.0), 1.0)

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return (alpha_t, sigma_t), float32 of the shape of `t`."""
        log_snr = self.log_snr(t)
        return torch.sigmoid(log_snr).sqrt().float(), torch.sigmoid(-log_snr).sqrt().float()

    @staticmethod
    def timestep(t: Tensor) -> Tensor:
        """The time as the network takes it: t times T - 1, float32."""
        return (t * (STEPS - 1)).float()


def make_schedule(name: str, device: torch.device | str = "cpu") -> Schedule:
    """Return the schedule called `linear` or `cosine`; raise ConfigError for another name."""
    return Schedule(log_snr_table(name), device)
