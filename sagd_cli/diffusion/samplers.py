"""Samplers: walk x_t from t = 1 to the clean image (docs/theory.md, section 5).

The weight of the noise is constant in t, so the deterministic solvers keep their scalar coefficients. Stochastic steps
use the shaped noise that the caller passes in instead of white noise. It is the only randomness.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from sagd_cli.diffusion.catalogue import SAMPLERS
from sagd_cli.diffusion.denoiser import Denoiser
from sagd_cli.diffusion.process import Level
from sagd_cli.diffusion.schedule import Schedule
from sagd_cli.errors import ConfigError
from sagd_cli.system.choices import chosen

MOST_GAMMA = math.sqrt(2) - 1  # Karras et al. 2206.00364, algorithm 2, line 2

Draw = Callable[[], Tensor]
# A step maps (denoiser, x_t, now, next) to x at the next level.
Step = Callable[[Denoiser, Tensor, Level, Level], Tensor]


def ddim(eta: float, draw: Draw) -> Step:
    """Song et al. 2010.02502, eq. 12: eta = 0 is deterministic DDIM, eta = 1 is ancestral DDPM sampling."""

    def step(denoiser: Denoiser, x_t: Tensor, now: Level, then: Level) -> Tensor:
        x0, eps = denoiser(x_t, now.t)
        if eta == 0:
            return then.noised(x0, eps)
        ratio = (now.alpha * then.sigma) / (then.alpha * now.sigma)
        deviation = eta * then.sigma * (1 - ratio**2).clamp(min=0).sqrt()
        kept = (then.sigma**2 - deviation**2).clamp(min=0).sqrt()
        return then.alpha * x0 + kept * eps + deviation * draw()

    return step


class _Point(NamedTuple):
    """A past point of a multistep solver, with the denoiser's x0 there."""

    level: Level
    x_t: Tensor
    x0: Tensor


def dpmpp(draw: Draw | None = None) -> Step:
    """DPM-Solver++(2M), Lu et al. 2211.01095: algorithm 2, or with `draw` its SDE form (section 5 there).

    The last step, to sigma = 0, is of first order.
    """
    past: list[_Point] = []

    def step(denoiser: Denoiser, x_t: Tensor, now: Level, then: Level) -> Tensor:
        x0, _ = denoiser(x_t, now.t)
        if then.is_clean:
            return x0
        past[:] = [*past[-1:], _Point(now, x_t, x0)]
        if draw is None:
            return _predicted(past, then)
        h = _log_ratio(now, then)
        spread = -torch.expm1(-2 * h)
        kept = then.sigma / now.sigma * torch.exp(-h) * x_t
        return kept + then.alpha * spread * _midway(past, h) + then.sigma * spread.sqrt() * draw()

    return step


def unipc() -> Step:
    """UniPC-2, Zhao et al. 2302.04867, algorithms 1 and 2 for x0 with B(h) = e^h - 1.

    It predicts as `dpmpp` does. The x0 at the new point then corrects the step that led to it; this takes no further
    evaluation.
    The last step, to sigma = 0, is of first order.
    """
    past: list[_Point] = []

    def step(denoiser: Denoiser, x_t: Tensor, now: Level, then: Level) -> Tensor:
        x0, _ = denoiser(x_t, now.t)
        if then.is_clean:
            return x0
        corrected = _corrected(past, now, x0) if past else x_t
        past[:] = [*past[-1:], _Point(now, corrected, x0)]
        return _predicted(past, then)

    return step


def _log_ratio(now: Level, then: Level) -> Tensor:
    """Return the growth of log(alpha / sigma) from `now` to `then`, in float64."""
    return torch.log(then.alpha.double() / then.sigma) - torch.log(now.alpha.double() / now.sigma)


def _midway(past: list[_Point], h: Tensor) -> Tensor:
    """Return x0 half a step `h` further in log(alpha / sigma), extrapolated linearly from its last two values."""
    now = past[-1]
    if len(past) == 1:
        return now.x0
    h_before = _log_ratio(past[-2].level, now.level)
    return now.x0 + h / (2 * h_before) * (now.x0 - past[-2].x0)


def _predicted(past: list[_Point], then: Level) -> Tensor:
    """Return x at `then`: a step from the last point with x0 constant at its value midway."""
    now, h = past[-1], _log_ratio(past[-1].level, then)
    return then.sigma / now.level.sigma * now.x_t - then.alpha * torch.expm1(-h) * _midway(past, h)


def _corrected(past: list[_Point], now: Level, x0: Tensor) -> Tensor:
    """Return x at `now`, corrected with the denoiser's `x0` there: the step from the last point is done again.

    x0 is the parabola in log(alpha / sigma) through its last three values; it is integrated exactly.
    """
    last, h = past[-1], _log_ratio(past[-1].level, now)
    phi = torch.expm1(-h)
    euler = now.sigma / last.level.sigma * last.x_t - now.alpha * phi * last.x0
    rise = x0 - last.x0
    if len(past) == 1:
        return euler - now.alpha * phi / 2 * rise
    h_before = _log_ratio(past[-2].level, last.level)
    first = -phi / h - 1
    second = -2 * first / h - 1
    bend = (first - second) * h / (h + h_before)
    return euler - now.alpha * (bend * h / h_before * (last.x0 - past[-2].x0) + (first - bend) * rise)


def heun(draw: Draw, gamma: float = 0.0) -> Step:
    """EDM's second-order sampler, Karras et al. 2206.00364, algorithm 2, for any schedule.

    In y = x / alpha, with s = sigma / alpha, the path is dy/ds = eps. Before each step, noise is added until s has
    grown by the factor 1 + `gamma` (0: deterministic). Each step takes two evaluations, the last step takes one.
    """

    def step(denoiser: Denoiser, x_t: Tensor, now: Level, then: Level) -> Tensor:
        if gamma > 0:
            now, x_t = _churned(denoiser.process.schedule, draw, gamma, now, x_t)
        x0, eps = denoiser(x_t, now.t)
        if then.is_clean:
            return x0
        ds = then.sigma / then.alpha - now.sigma / now.alpha
        y = x_t / now.alpha
        _, eps_then = denoiser(then.alpha * (y + ds * eps), then.t)
        return then.alpha * (y + ds * (eps + eps_then) / 2)

    return step


def _churned(schedule: Schedule, draw: Draw, gamma: float, now: Level, x_t: Tensor) -> tuple[Level, Tensor]:
    """Return the level and x_t after adding noise: s = sigma / alpha grows by 1 + gamma, up to its value at t = 1."""
    raised = schedule.log_snr(now.t) - 2 * math.log1p(gamma)
    t = schedule.times_of(raised)
    alpha, sigma = schedule.levels(t)
    added = ((sigma / alpha) ** 2 - (now.sigma / now.alpha) ** 2).clamp(min=0).sqrt()
    return replace(now, t=t, alpha=alpha, sigma=sigma), alpha * (x_t / now.alpha + added * draw())


def make_dpmpp(draw: Draw, amount: float, steps: int) -> Step:
    """Return DPM-Solver++(2M)."""
    return dpmpp()


def make_dpmpp_sde(draw: Draw, amount: float, steps: int) -> Step:
    """Return the SDE form of DPM-Solver++(2M)."""
    return dpmpp(draw)


def make_unipc(draw: Draw, amount: float, steps: int) -> Step:
    """Return UniPC-2."""
    return unipc()


def make_ddim(draw: Draw, amount: float, steps: int) -> Step:
    """Return DDIM with eta = `amount`."""
    return ddim(amount, draw)


def make_ddpm(draw: Draw, amount: float, steps: int) -> Step:
    """Return ancestral sampling."""
    return ddim(1.0, draw)


def make_heun(draw: Draw, amount: float, steps: int) -> Step:
    """Return EDM's sampler with S_churn = `amount`."""
    return heun(draw, min(amount / steps, MOST_GAMMA))


def make_sampler(name: str, draw: Draw, steps: int, amount: float = 0.0) -> Step:
    """Return the step of the sampler called `name` for one path of `steps` steps.

    A step may remember its path, so each path needs a new one. `draw` returns noise like x_t; deterministic samplers do
    not call it. `amount` is eta of ddim and churn of heun. Raises ConfigError for an unknown name.
    """
    step: Step = chosen("sampler", name, SAMPLERS, ConfigError).load()(draw, amount, steps)
    return step


def integrate(
    denoiser: Denoiser,
    step: Step,
    x: Tensor,
    levels: list[Level],
    on_step: Callable[[], None] = lambda: None,
) -> Tensor:
    """Follow `x` (B, C, *spatial) from the first of `levels` to the last and return it there.

    `on_step` is called after each step.
    """
    for now, then in pairwise(levels):
        x = step(denoiser, x, now, then)
        on_step()
    return x
