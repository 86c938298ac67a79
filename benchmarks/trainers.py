"""What benchmarks/training.py times: our loop, the noise's work in it alone, and the training loops of the peers.

Each runs the same network on the same images, with `run(steps)` as its one method. Why they are set as they are is in
the docstring of benchmarks/training.py.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from sagd_cli.config.filter import FilterConfig
from sagd_cli.config.layers import resolve
from sagd_cli.config.run import RunConfig, TrainingConfig
from sagd_cli.data.tensors import tensor_signal
from sagd_cli.model.network import new_backbone
from sagd_cli.model.state import TrainingState
from sagd_cli.spectral.noise import SpectralNoise
from sagd_cli.system.devices import choose_device
from sagd_cli.training.batches import Batches
from sagd_cli.training.loop import Callbacks, run_loop
from sagd_cli.training.losses import make_loss

SHAPES = {"digits": (1, 8, 8), "cifar10": (3, 32, 32)}
ENDLESS = 10**12  # images: more than any run of the benchmark takes


class Contestant(Protocol):
    """Something that does training steps."""

    def run(self, steps: int) -> None:
        """Do `steps` steps; the device's queue may still be at work on return."""
        ...


@dataclass(frozen=True)
class Case:
    """A network and its images: what the preset `name` trains, on `count` random images."""

    name: str
    batch_size: int
    precision: str
    device_name: str
    count: int

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of the images."""
        return SHAPES[self.name]

    @property
    def device(self) -> torch.device:
        """Where the training is."""
        return choose_device(self.device_name)

    @property
    def config(self) -> RunConfig:
        """The preset with this case's batch and precision, and a budget that does not end."""
        return resolve(
            {
                "training.images": ENDLESS,
                "training.batch_size": self.batch_size,
                "training.precision": self.precision,
            },
            preset=self.name,
        )

    @cached_property
    def pixels(self) -> NDArray[np.uint8]:
        """The images (N, C, H, W)."""
        return np.random.default_rng(0).integers(0, 256, (self.count, *self.shape), dtype=np.uint8)

    def network(self) -> nn.Module:
        """Return the network, of the same initial weights each time."""
        return new_backbone(self.config.backbone, self.shape, seed=0)

    def write_images(self, folder: Path) -> None:
        """Write the images as PNG files, in a folder of their own: ImageFolder takes it for a class."""
        (folder / "images" / "all").mkdir(parents=True)
        for i, image in enumerate(self.pixels):
            field = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
            Image.fromarray(field).save(folder / "images" / "all" / f"{i:06d}.png")


class Ours:
    """`sagd train` without its files: Batches, TrainingState and fit."""

    def __init__(self, case: Case, noise: FilterConfig | None = None) -> None:
        """Train on the noise of the preset, or on `noise`."""
        config = case.config if noise is None else case.config.model_copy(update={"filter": noise})
        side = case.shape[1:]
        weights = config.filter.weights(side)
        self._settings: TrainingConfig = config.training
        self._state = TrainingState(case.network(), config.training, case.device)
        self._loss = make_loss(config, weights, None, np.ones_like(weights.weight), case.device)
        images = torch.from_numpy(case.pixels).to(case.device)
        self._batches = Batches(images, case.batch_size, config.training.seed)

    def run(self, steps: int) -> None:
        """Do `steps` steps of fit."""
        end = self._state.step + steps
        until = Callbacks(stop_requested=lambda: self._state.step >= end)
        run_loop(self._state, self._batches.at, self._loss, self._settings, until)


class NoiseAlone:
    """What SpectralNoise does in a step: the draw, the projection with its gradient, the whitened error."""

    def __init__(self, case: Case, noise: FilterConfig) -> None:
        """Work on a batch of the case."""
        self._noise = SpectralNoise(noise.weights(case.shape[1:]), case.device)
        self._generator = torch.Generator(case.device).manual_seed(0)
        self._said = torch.zeros(case.batch_size, *case.shape, device=case.device, requires_grad=True)

    def run(self, steps: int) -> None:
        """Do the work of `steps` steps."""
        for _ in range(steps):
            eps = self._noise.draw(self._said.shape, self._generator)
            projected = self._noise.project(self._said)
            if projected is not self._said:  # a filter that leaves frequencies out
                torch.autograd.grad(projected, self._said, eps)
            with torch.no_grad():
                self._noise.whiten(eps)


class _Adapter(nn.Module):
    """UNet2DModel with the attributes and the call that GaussianDiffusion expects of its own Unet."""

    def __init__(self, network: nn.Module, channels: int) -> None:
        super().__init__()
        self.network = network
        self.channels = self.out_dim = channels
        self.self_condition = False

    def forward(self, x: Tensor, time: Tensor, x_self_cond: Tensor | None = None) -> Tensor:
        sample: Tensor = self.network(x, time).sample
        return sample


class DenoisingDiffusion:
    """denoising-diffusion-pytorch's own Trainer and GaussianDiffusion."""

    def __init__(self, case: Case, folder: Path) -> None:
        """Put its Trainer on the images in `folder`."""
        from denoising_diffusion_pytorch import GaussianDiffusion, Trainer

        channels, *side = case.shape
        diffusion = GaussianDiffusion(
            _Adapter(case.network(), channels),
            image_size=tuple(side),
            objective="pred_noise",
            beta_schedule="linear",
        )
        with _silence():
            self._trainer = Trainer(
                diffusion,
                str(folder / "images"),
                train_batch_size=case.batch_size,
                augment_horizontal_flip=False,
                save_and_sample_every=ENDLESS,
                calculate_fid=False,
                results_folder=str(folder / "results"),
                amp=case.precision == "bf16",
                mixed_precision_type="bf16",
            )

    def run(self, steps: int) -> None:
        """Do `steps` steps of its train()."""
        self._trainer.train_num_steps = self._trainer.step + steps
        with _silence():
            self._trainer.train()


class Diffusers:
    """A loop in the manner of diffusers' unconditional_image_generation example."""

    def __init__(self, case: Case, folder: Path) -> None:
        """Prepare everything with an Accelerator, as the example does."""
        from accelerate import Accelerator
        from diffusers import DDPMScheduler
        from diffusers.optimization import get_scheduler
        from diffusers.training_utils import EMAModel

        self._accelerator = Accelerator(mixed_precision="bf16" if case.precision == "bf16" else "no")
        network = case.network()
        optimizer = torch.optim.AdamW(
            network.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8
        )
        rates = get_scheduler(
            "cosine", optimizer, num_warmup_steps=500, num_training_steps=ENDLESS // case.batch_size
        )
        self._network, self._optimizer, self._rates = self._accelerator.prepare(network, optimizer, rates)
        self._network.train()
        self._schedule = DDPMScheduler(num_train_timesteps=1000)
        self._ema = EMAModel(
            self._network.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75
        )
        self._ema.to(self._accelerator.device)
        self._images = self._loaded(case, folder)

    def _loaded(self, case: Case, folder: Path) -> Iterator[Tensor]:
        """Batches of the files in `folder`."""
        loader: Iterable[Any] = self._accelerator.prepare(_file_loader(case, folder))
        return (images for images, _ in _cycled(loader))

    def run(self, steps: int) -> None:
        """Do `steps` steps."""
        for _ in range(steps):
            self._step(next(self._images))

    def _step(self, x0: Tensor) -> float:
        noise = torch.randn(x0.shape, device=x0.device)
        times = torch.randint(0, 1000, (len(x0),), device=x0.device)
        x_t = self._schedule.add_noise(x0, noise, times)
        with self._accelerator.accumulate(self._network):
            loss = F.mse_loss(self._network(x_t, times).sample.float(), noise)
            self._accelerator.backward(loss)
            if self._accelerator.sync_gradients:
                self._accelerator.clip_grad_norm_(self._network.parameters(), 1.0)
            self._optimizer.step()
            self._rates.step()
            self._optimizer.zero_grad()
        self._ema.step(self._network.parameters())
        return loss.detach().item()  # the example logs it at every step


class DiffusersInMemory(Diffusers):
    """The same loop without files or workers: the images are on the device, as ours are."""

    def _loaded(self, case: Case, folder: Path) -> Iterator[Tensor]:
        images = torch.from_numpy(case.pixels).to(self._accelerator.device)
        while True:
            for chosen in torch.randperm(len(images), device=images.device).split(case.batch_size):
                yield tensor_signal(images[chosen])


PEERS: dict[str, Callable[[Case, Path], Contestant]] = {
    "denoising-diffusion-pytorch": DenoisingDiffusion,
    "diffusers example": Diffusers,
    "diffusers example, images in memory": DiffusersInMemory,
}


def _file_loader(case: Case, folder: Path) -> DataLoader[Any]:
    """The example's augmentations, without the flip, over the files, in as many workers as there are cores."""
    mode = "L" if case.shape[0] == 1 else "RGB"
    prepare = transforms.Compose(
        [
            transforms.Resize(case.shape[1:]),
            transforms.CenterCrop(case.shape[1:]),
            transforms.ToTensor(),
            transforms.Normalize([0.5], [0.5]),
        ]
    )
    data = ImageFolder(str(folder / "images"), prepare, loader=lambda path: Image.open(path).convert(mode))
    return DataLoader(data, case.batch_size, shuffle=True, num_workers=os.cpu_count() or 0, pin_memory=True)


def _cycled(loader: Iterable[Any]) -> Iterator[Any]:
    while True:
        yield from loader


@contextmanager
def _silence() -> Iterator[None]:
    """Send the peers' bars and notes nowhere; they are drawn all the same, which is part of their step."""
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield
