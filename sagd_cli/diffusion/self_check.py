"""Checks of noise and samplers against closed forms, on the device of the user (docs/theory.md, sections 2, 4 and 5).

A short form of the tests, which `sagd doctor --numerics` runs on the user's machine.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sagd_cli.diffusion.catalogue import SAMPLERS, SCHEDULES
from sagd_cli.diffusion.denoiser import NetworkDenoiser
from sagd_cli.diffusion.gaussian import GaussianDenoiser
from sagd_cli.diffusion.process import ForwardProcess
from sagd_cli.diffusion.samplers import integrate, make_sampler
from sagd_cli.diffusion.schedule import make_schedule
from sagd_cli.diffusion.time_grids import sampling_levels
from sagd_cli.spectral.filter import SpectralFilter
from sagd_cli.spectral.grid import Array, FrequencyGrid
from sagd_cli.spectral.noise import SpectralNoise, random_stream
from sagd_cli.system.devices import exact_arithmetic

GRID = FrequencyGrid((16, 16))
AXES = (-2, -1)
CHECK_DRAWS = 4096
FLOAT32 = float(torch.finfo(torch.float32).eps)
# The spectrum of the data, as natural images have it: it falls as 1/r^2, from 400 at DC to about 2.
POWER: Array = 1 / (GRID.radius + 0.05) ** 2


WEIGHTS: dict[str, Array] = {
    "falling": (GRID.radius + 0.05) ** -0.5,
    "rising": (GRID.radius + 0.05) ** 0.5,
    "gap": np.where((GRID.rho >= 0.3) & (GRID.rho < 0.5), 0.0, 1.0),
}


@dataclass(frozen=True)
class Check:
    """One comparison with a closed form: what is compared, how far it is off, and how far it may be."""

    name: str
    compared: str
    value: float
    bound: float

    @property
    def ok(self) -> bool:
        """Whether the value is within the bound; NaN is not."""
        return self.value <= self.bound


def run_checks(device: torch.device) -> list[Check]:
    """Compare noise and samplers on `device` with docs/theory.md, on fields of 16x16; this takes seconds."""
    threads = torch.get_num_threads()
    torch.set_num_threads(
        1
    )  # On fields this small, more threads only wait: 25 s instead of 1 s on two cores.
    try:
        with exact_arithmetic(device):
            return list(_checks(device))
    finally:
        torch.set_num_threads(threads)


def _checks(device: torch.device) -> Iterator[Check]:
    noises = {name: _noise(weight, device) for name, weight in WEIGHTS.items()}
    yield _white_draw(device)
    yield from (_covariance(name, noise) for name, noise in noises.items())
    yield from (_whitening(name, noise) for name, noise in noises.items())
    for sampler, schedule in itertools.product(SAMPLERS, SCHEDULES):
        yield from _accuracy(sampler, schedule, noises)
    yield from (_omitted_band(sampler, noises["gap"]) for sampler in SAMPLERS)
    yield _batch_size(noises["falling"])


def _noise(weight: Array, device: torch.device) -> SpectralNoise:
    return SpectralNoise(SpectralFilter.from_weight(GRID, weight, "power"), device)


def _white_draw(device: torch.device) -> Check:
    white = _noise(np.ones(GRID.half_shape), device)
    shape = (8, 3, *GRID.shape)
    drawn = white.draw(shape, random_stream(device, 0, "white"))
    plain = torch.empty(shape, device=device).normal_(generator=random_stream(device, 0, "white"))
    different = int((drawn != plain).sum())
    return Check("white draw", "values of white noise that are not torch's own draw", different, 0)


def _covariance(name: str, noise: SpectralNoise) -> Check:
    """|X|^2 / N has mean w^2 and standard deviation w^2; sqrt(2) w^2 at frequencies that are their own mirror."""
    x = noise.draw((CHECK_DRAWS, 1, *GRID.shape), random_stream(noise.device, 0, "covariance", name))
    power = _power(x).mean(axis=(0, 1)) / GRID.size
    index = np.arange(power.size, dtype=np.float64).reshape(power.shape)
    is_own_mirror = (GRID.mirrored(index) == index) & (GRID.multiplicity == 1)
    inside, covariance = noise.filter.support, noise.filter.weight**2
    standard_error = covariance * np.sqrt((1 + is_own_mirror) / CHECK_DRAWS)
    z = np.abs(power - covariance)[inside] / standard_error[inside]
    compared = f"power of {CHECK_DRAWS} draws with w^2, standard errors at the worst frequency"
    return Check(f"covariance {name}", compared, float(z.max()), 5)


def _whitening(name: str, noise: SpectralNoise) -> Check:
    """Compare whiten(color(x)) and project(x) with P x in float64. Rounding grows with max w / min w."""
    white = _noise(np.ones(GRID.half_shape), noise.device)
    x = white.draw((64, 1, *GRID.shape), random_stream(noise.device, 0, "whiten"))
    support = torch.as_tensor(noise.filter.support, device=noise.device)
    expected = torch.fft.irfftn(torch.fft.rfftn(x.double(), dim=AXES) * support, s=GRID.shape, dim=AXES)
    both = torch.stack([noise.whiten(noise.color(x)), noise.project(x)])
    off = float((both - expected).abs().max())
    bound = 32 * FLOAT32 * noise.filter.condition**0.5
    return Check(f"whiten {name}", "whiten(color(x)) and project(x) with P x, largest distance", off, bound)


def _accuracy(sampler: str, schedule: str, noises: dict[str, SpectralNoise]) -> list[Check]:
    """Compare the worst error over frequencies and filters; samplers that add noise are costly, so with one filter."""
    accuracy = SAMPLERS[sampler].accuracy
    evaluations = 50 if accuracy.adds_noise else 100
    chosen = [noises["falling"]] if accuracy.adds_noise else list(noises.values())
    coarse, fine = (
        float(np.max([_variance_error(sampler, schedule, n, noise) for noise in chosen]))  # NaN counts
        for n in (evaluations // 2, evaluations)
    )
    compared = f"variance of samples of {evaluations} evaluations with the closed form, worst relative error"
    share = "share of that error that is left of the one at twice the step"
    return [
        Check(f"{sampler} {schedule} error", compared, fine, accuracy.error),
        Check(f"{sampler} {schedule} order", share, fine / max(coarse, FLOAT32), accuracy.left),
    ]


def _variance_error(sampler: str, schedule_name: str, evaluations: int, noise: SpectralNoise) -> float:
    """Relative distance of the samples' variance from the exact one of a path that starts from noise alone.

    The start lacks alpha_T^2 S. The ODE scales x, and ends at S / (1 + SNR_T). The stochastic path forgets x_T, and
    ends at S (1 + 2 SNR_T) / (1 + SNR_T)^2.
    With the exact denoiser of Gaussian data a sampler is linear. So the variance can be had without random draws: in
    image k, a coloured unit impulse replaces draw k and all other draws are zero. The variance is the sum of |Y|^2 over
    these images.
    """
    process = ForwardProcess(make_schedule(schedule_name, noise.device), noise)
    steps = SAMPLERS[sampler].steps(evaluations)
    levels = sampling_levels(process.schedule, steps, noise.device, "karras")
    impulse = torch.zeros(GRID.shape, device=noise.device)
    impulse[0, 0] = 1
    draws = _impulses(noise.color(impulse).double(), steps if SAMPLERS[sampler].accuracy.adds_noise else 0)
    x = next(draws) * levels[0].sigma
    step = make_sampler(sampler, lambda: next(draws), steps)
    variance = _power(integrate(_exact(process), step, x, levels)).sum(axis=(0, 1))
    inside = noise.filter.support
    power, covariance = POWER[inside], noise.filter.weight[inside] ** 2
    snr = (float(levels[0].alpha) / float(levels[0].sigma)) ** 2 * power / covariance
    expected = power / (1 + snr)
    if SAMPLERS[sampler].accuracy.adds_noise:
        expected = expected * (1 + 2 * snr) / (1 + snr)
    return float(np.abs(variance[inside] / expected - 1).max())


def _impulses(impulse: Tensor, draws: int) -> Iterator[Tensor]:
    """Batches of 1 + `draws` images, (B, 1, *spatial): `impulse` in image k of batch k, zero elsewhere."""
    for k in itertools.count():
        batch = impulse.new_zeros((1 + draws, 1, *impulse.shape))
        batch[k] = impulse
        yield batch


def _omitted_band(sampler: str, noise: SpectralNoise) -> Check:
    """Check that samples stay empty in the gap, though the network fills it with noise.

    float32 leaves about 2e-7 there at t = 1, and 1 / alpha_T times as much at the end.
    """
    process = ForwardProcess(make_schedule("linear", noise.device), noise)
    gap = ~noise.filter.support
    exact, garbage = _exact(process), _noise(gap.astype(np.float64), noise.device)
    stream = random_stream(noise.device, 0, "gap")
    shape = (4, 1, *GRID.shape)

    def network(x_t: Tensor, timestep: Tensor) -> Tensor:
        t = process.schedule.time_of_timestep(timestep[0])
        return exact(x_t.double(), t)[1].float() + 3 * garbage.draw(shape, stream)

    levels = sampling_levels(process.schedule, 20, noise.device)
    step = make_sampler(sampler, lambda: noise.draw(shape, stream), 1)
    start = process.start(levels[0], shape, stream)
    y = integrate(NetworkDenoiser(network, process), step, start, levels)
    amplitude = float(np.sqrt(_power(y)[..., gap].max() / GRID.size))
    compared = "amplitude in the gap of samples of a network that fills it"
    return Check(f"omitted band {sampler}", compared, amplitude, 8 * FLOAT32 / float(levels[0].alpha))


def _batch_size(noise: SpectralNoise) -> Check:
    """Compare seven images drawn at once with the same drawn one by one, by ddpm, which draws noise at each step."""
    process = ForwardProcess(make_schedule("linear", noise.device), noise)
    exact, levels = _exact(process), sampling_levels(process.schedule, 20, noise.device)

    def images(seeds: list[int]) -> Tensor:
        streams = [random_stream(noise.device, seed, "image") for seed in seeds]
        shape = (len(seeds), 1, *GRID.shape)
        step = make_sampler("ddpm", lambda: noise.draw(shape, streams).double(), 1)
        start = noise.draw(shape, streams).double() * levels[0].sigma
        return integrate(exact, step, start, levels)

    together, single = images(list(range(7))), torch.cat([images([seed]) for seed in range(7)])
    off = float((together - single).abs().max())
    return Check(
        "batch size", "images drawn 7 at once with the same drawn singly, largest distance", off, 1e-4
    )


def _exact(process: ForwardProcess) -> GaussianDenoiser:
    """The exact denoiser of data N(0, S), in float64."""
    device = process.noise.device
    mean = torch.zeros(GRID.shape, dtype=torch.float64, device=device)
    return GaussianDenoiser(mean, torch.as_tensor(POWER, device=device), process)


def _power(x: Tensor) -> Array:
    """|F x|^2 on the half spectrum, of shape (B, C, *half), in float64 on the CPU."""
    squares: Array = torch.fft.rfftn(x.double(), dim=AXES).abs().square().cpu().numpy()
    return squares
