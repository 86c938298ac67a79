"""Samplers: walk x_t from t = 1 to the clean image, one network evaluation a step (MATH: 5. Sampling).

For a weight that is constant in t the deterministic solvers keep their scalar coefficients; stochastic steps
replace white noise by the shaped noise the caller passes in.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from sagd_cli.diffusion.denoiser import Denoiser
from sagd_cli.diffusion.schedule import Schedule

Draw = Callable[[], Tensor]


@dataclass(frozen=True)
class Level:
    """A point of a sampler's path: the time and its alpha_t and sigma_t, scalar tensors."""

    t: Tensor
    alpha: Tensor
    sigma: Tensor


# A step maps (x_t, x0, eps, now, next) to x at the next level.
Step = Callable[[Tensor, Tensor, Tensor, Level, Level], Tensor]


# Where alpha_t is all but zero, as at the end of the cosine schedule, a step in t is a huge one in log-SNR and no
# solver holds it. The DDPM table ends at -10.1 (a terminal SNR of 4e-5); no path starts lower.
LOWEST_LOG_SNR = -10.2


def path(schedule: Schedule, steps: int, device: torch.device | str, start: float = 1.0) -> list[Level]:
    """Levels of `steps` evaluations, uniform in t from `start` down, and the clean image (alpha 1, sigma 0).

    The first level is at `start` or where log-SNR reaches -10.2, whichever is later on the way.
    """
    first = min(start, schedule.time_of(LOWEST_LOG_SNR))
    times = torch.linspace(first, 0, steps + 1, dtype=torch.float64, device=device)[:-1]
    alpha, sigma = schedule.levels(times)
    levels = [Level(t, a, s) for t, a, s in zip(times, alpha, sigma, strict=True)]
    clean = Level(torch.zeros_like(times[0]), torch.ones_like(alpha[0]), torch.zeros_like(sigma[0]))
    return [*levels, clean]


def ddim(eta: float, draw: Draw) -> Step:
    """Song et al. 2010.02502, eq. 12: eta = 0 is deterministic DDIM, eta = 1 is ancestral DDPM sampling."""

    def step(x_t: Tensor, x0: Tensor, eps: Tensor, now: Level, then: Level) -> Tensor:
        if eta == 0:
            return then.alpha * x0 + then.sigma * eps
        ratio = (now.alpha * then.sigma) / (then.alpha * now.sigma)
        deviation = eta * then.sigma * (1 - ratio**2).clamp(min=0).sqrt()
        kept = (then.sigma**2 - deviation**2).clamp(min=0).sqrt()
        return then.alpha * x0 + kept * eps + deviation * draw()

    return step


def dpmpp() -> Step:
    """DPM-Solver++(2M), Lu et al. 2211.01095, algorithm 2; the last step, to sigma = 0, is of first order."""
    last: list[tuple[Tensor, Tensor]] = []

    def step(x_t: Tensor, x0: Tensor, eps: Tensor, now: Level, then: Level) -> Tensor:
        h = torch.log(then.alpha / then.sigma) - torch.log(now.alpha / now.sigma)
        direction = x0
        if last:
            h_last, x0_last = last.pop()
            slope = torch.where(torch.isfinite(h), h / (2 * h_last), 0.0)
            direction = (1 + slope) * x0 - slope * x0_last
        last.append((h, x0))
        return then.sigma / now.sigma * x_t - then.alpha * torch.expm1(-h) * direction

    return step


SAMPLERS: dict[str, Callable[[Draw], Step]] = {
    "dpmpp": lambda draw: dpmpp(),
    "ddim": lambda draw: ddim(0.0, draw),
    "ddpm": lambda draw: ddim(1.0, draw),
}


def integrate(
    denoiser: Denoiser,
    step: Step,
    x: Tensor,
    levels: list[Level],
    on_step: Callable[[], None] = lambda: None,
) -> Tensor:
    """Walk `x` (B, C, *spatial), at the first of `levels`, to the last; `on_step` is called after each step."""
    for now, then in pairwise(levels):
        x0, eps = denoiser(x, now.t)
        x = step(x, x0, eps, now, then)
        on_step()
    return x
