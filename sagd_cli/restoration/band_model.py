"""A network that tells noise in a band from images (MATH: 6., uses 2 and 3)."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sagd_cli.config import BackboneConfig, TrainingConfig
from sagd_cli.console import Output
from sagd_cli.diffusion.denoiser import NetworkDenoiser, as_network
from sagd_cli.diffusion.loss import DiffusionLoss
from sagd_cli.diffusion.schedule import Schedule, make_schedule
from sagd_cli.errors import Interrupted
from sagd_cli.restoration.fields import Fields
from sagd_cli.signals import stop_on_signal
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.noise import SpectralNoise, random_stream
from sagd_cli.training.backbones import new_backbone
from sagd_cli.training.data import Batch, Batches
from sagd_cli.training.loop import Callbacks, Record, TrainingState, fit

View = Callable[[Tensor], Tensor]

STRIDE = 4
HELD_OUT = 0.1
FEWEST_HELD_OUT, MOST_HELD_OUT = 8, 128
HELD_OUT_DRAWS = 256  # images seen by one comparison, held-out ones with several draws of the noise
PATIENCE = 5
# The share of images left as they are: the rest is turned and mirrored, which keeps a small set from being
# learned by heart while the images as they stand keep the largest weight.
UNTURNED = 1 / 3


@dataclass(frozen=True)
class BandModel:
    """Estimates the noise in images x + level eps_B, for the one level it was trained at."""

    network: nn.Module
    schedule: Schedule
    level: float

    @torch.inference_mode()
    def noise(self, z: Tensor, noise: SpectralNoise) -> Tensor:
        """Return E[level eps_B | z] for z = x + level eps_B (B, C, H, W), zero outside the band of `noise`."""
        t = torch.tensor(self.schedule.time_of(-2 * math.log(self.level)), device=z.device)
        alpha_t, _ = self.schedule.levels(t)
        _, eps = NetworkDenoiser(as_network(self.network), self.schedule, noise)(alpha_t * z, t)
        return self.level * eps


class Padded(nn.Module):
    """Lets a network with a stride see fields of any size, extended by reflection and cut back."""

    def __init__(self, network: nn.Module) -> None:
        """Wrap `network`."""
        super().__init__()
        self.network = network

    def forward(self, x_t: Tensor, timestep: Tensor) -> Tensor:
        """Return the network's prediction for x_t (B, C, H, W)."""
        height, width = x_t.shape[-2:]
        bottom, right = -height % STRIDE, -width % STRIDE
        prediction = as_network(self.network)(F.pad(x_t, (0, right, 0, bottom), mode="reflect"), timestep)
        return prediction[..., :height, :width]


def train_band_model(
    fields: Fields, band: Band, level: float, settings: TrainingConfig, device: torch.device, output: Output
) -> BandModel:
    """Train a network to find noise of amplitude `level` in the band of `fields`.

    A tenth of the fields is held out; the weights that do best on it are kept, and training ends when they have
    not improved for a while. Raises Interrupted when a signal asks to stop.
    """
    values = torch.from_numpy(fields.values).to(device)
    schedule = make_schedule("linear", device)
    time = schedule.time_of(-2 * math.log(level))
    loss = DiffusionLoss(schedule, fields.noise(band, device), (time, time))
    learned, held_out = fields.split(HELD_OUT, MOST_HELD_OUT, settings.seed)
    if len(held_out) < FEWEST_HELD_OUT:
        learned, held_out = np.arange(len(values)), np.arange(0)
    views = _views(loss.noise)
    batches = Batches(values[torch.from_numpy(learned)], settings.batch_size, settings.seed)
    state = TrainingState(_network(tuple(values.shape[1:]), settings.seed), settings, device)
    best = _Best(state, loss, values[torch.from_numpy(held_out)], settings.seed)
    with stop_on_signal() as stop, output.progress("learn", settings.steps, 0, settings.batch_size) as bar:

        def record(figures: Record) -> None:
            best.record()
            bar.show(loss=figures["loss"], **best.figures)

        callbacks = Callbacks(record, bar.advance, stop_requested=lambda: stop.requested() or best.is_past)
        fit(
            state,
            lambda step, places: Batch(_turned(batches.at(step, places).images, views, settings.seed, step)),
            loss,
            settings,
            callbacks,
        )
    if stop.signum is not None:
        raise Interrupted(stop.signum, "stopped while learning the images; nothing was written")
    output.detail(f"kept the weights of step {best.step} of {state.step}")
    return BandModel(best.network, schedule, level)


def _network(shape: tuple[int, ...], seed: int) -> nn.Module:
    config = BackboneConfig(
        options={"channels": [32, 64, 64] if min(shape[1:]) > 16 else [32, 64], "dropout": 0.1}
    )
    padded = (shape[0], *(side + -side % STRIDE for side in shape[1:]))
    return Padded(new_backbone(config, padded, seed))


@dataclass
class _Best:
    """The averaged weights with the smallest loss on held-out fields, at fixed noise; the newest without any."""

    state: TrainingState
    loss: DiffusionLoss
    held_out: Tensor
    seed: int
    step: int = 0
    smallest: float = math.inf
    misses: int = 0
    figures: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.network = self.state.ema.network

    @property
    def is_past(self) -> bool:
        """Whether the held-out loss has not improved for `PATIENCE` records."""
        return self.misses >= PATIENCE

    @torch.no_grad()
    def record(self) -> None:
        """Compare the present average with the best so far."""
        self.step = self.step if len(self.held_out) else self.state.step
        if not len(self.held_out):
            return
        network = as_network(self.state.ema.network)
        draws = [
            self.loss.errors(
                network, self.held_out, random_stream(self.held_out.device, self.seed, "held-out", i)
            ).eps
            for i in range(-(-HELD_OUT_DRAWS // len(self.held_out)))
        ]
        value = float(torch.stack(draws).square().mean())
        self.figures = {"held-out": value}
        self.misses += 1
        if value < self.smallest:
            self.smallest, self.misses, self.step = value, 0, self.state.step
            self.network = copy.deepcopy(self.state.ema.network)


def _views(noise: SpectralNoise) -> list[View]:
    """The mirrorings and turns that leave the law of the noise as it is: for stripes, for one, not all of them."""
    full = noise.filter.grid.full(noise.filter.weight)
    views: list[View] = []
    if np.array_equal(full, noise.filter.grid.full(noise.filter.grid.mirrored(noise.filter.weight))):
        views += [lambda v: v.flip(-1), lambda v: v.flip(-2)]
    if np.array_equal(full, full.T):
        views.append(lambda v: v.transpose(-1, -2))
    return views


def _turned(x: Tensor, views: list[View], seed: int, step: int) -> Tensor:
    """Take images (B, C, H, W) to some of their `views`, at random."""
    random = torch.rand(4, len(x), generator=random_stream("cpu", seed, "turn", step)).to(x.device)
    touched = random[0] >= UNTURNED
    for chosen, view in zip(random[1:], views, strict=False):
        x = torch.where((touched & (chosen < 0.5)).view(-1, 1, 1, 1), view(x), x)
    return x
