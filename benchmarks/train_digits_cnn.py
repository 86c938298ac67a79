"""Train the weights of the `digits-cnn` features on MNIST.

    python benchmarks/train_digits_cnn.py MNIST_DIR

The same seed and number of threads on the same machine give the same weights.
"""

import gzip
import json
import math
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from safetensors.torch import save_file
from sagd_plugins.features.digits_cnn import SIDE, WEIGHTS, DigitsCNN, prepare
from sklearn.datasets import load_digits
from torch.nn import functional as F

from sagd_cli.errors import DataError, SagdError

IDX_UINT8 = 0x08
BATCH = 128
LEARNING_RATE = 4e-3
WEIGHT_DECAY = 0.02
SMALLEST_SIDE = 8
GROUPS = 4

ROTATION = math.radians(12)
SHEAR = 0.15
SHIFT = 2 * 2 / SIDE  # two pixels, in affine_grid's units: half the image's side is 1
# A wide range of sizes: MNIST's digits leave a margin of four pixels, other digits touch the border.
ZOOM = (0.9, 1.4)


def read_idx(directory: Path, stem: str) -> torch.Tensor:
    """Return the uint8 array of an idx file (LeCun's format), `stem` in `directory`, gzipped or not.

    Raises:
        DataError: if there is no such file or it is not an idx file of uint8 values.
    """
    packed, raw = directory / f"{stem}.gz", directory / stem
    if not packed.is_file() and not raw.is_file():
        raise DataError(f"{directory} has no {packed.name} or {raw.name}.", "Fetch the four MNIST files.")
    content = gzip.decompress(packed.read_bytes()) if packed.is_file() else raw.read_bytes()
    if len(content) < 4 or content[:3] != bytes((0, 0, IDX_UINT8)):
        raise DataError(f"{stem} in {directory} is not an idx file of uint8 values.", "Fetch it again.")
    start = 4 + 4 * content[3]
    shape = np.frombuffer(content[4:start], dtype=">u4").astype(int).tolist()
    if len(content) - start != math.prod(shape):
        raise DataError(f"{stem} in {directory} is cut short.", "Fetch it again.")
    return torch.from_numpy(np.frombuffer(content[start:], dtype=np.uint8).reshape(shape).copy())


def read_mnist(directory: Path, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images, uint8 (N, 1, 28, 28), and labels, int64 (N,), of `split` "train" or "t10k"."""
    images = read_idx(directory, f"{split}-images-idx3-ubyte")
    return images.unsqueeze(1), read_idx(directory, f"{split}-labels-idx1-ubyte").long()


def read_sklearn_digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Return scikit-learn's 1,797 digits, uint8 (1797, 1, 8, 8), and their labels, int64 (1797,)."""
    digits = load_digits()
    images = np.rint(digits.images * 255 / 16).astype(np.uint8)
    return torch.from_numpy(images).unsqueeze(1), torch.from_numpy(digits.target).long()


def reduce(images: torch.Tensor, side: int) -> torch.Tensor:
    """Return uint8 images (N, 1, H, W) at (N, 1, side, side), antialiased."""
    small = F.interpolate(images.float(), size=(side, side), mode="bilinear", antialias=True)
    return small.round().clamp(0, 255).to(torch.uint8)


def _uniform(n: int, low: float, high: float, generator: torch.Generator) -> torch.Tensor:
    return torch.empty(n).uniform_(low, high, generator=generator)


def warp(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return images (N, 1, H, W), each with its own small rotation, shear, shift and zoom along each axis."""
    n = len(x)
    angle = _uniform(n, -ROTATION, ROTATION, generator)
    shear = _uniform(n, -SHEAR, SHEAR, generator)
    zoom_x, zoom_y = (_uniform(n, *ZOOM, generator) for _ in "xy")
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = angle.cos() / zoom_x
    theta[:, 0, 1] = (shear - angle.sin()) / zoom_x
    theta[:, 1, 0] = angle.sin() / zoom_y
    theta[:, 1, 1] = angle.cos() / zoom_y
    for axis in (0, 1):
        theta[:, axis, 2] = _uniform(n, -SHIFT, SHIFT, generator)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def soften(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Reduce the first half of the images (N, 1, 28, 28) to sides from 8 to 28 pixels and enlarge them again.

    Each of four groups has one side, drawn uniformly in its logarithm: small sides lose the most.
    """
    softened = list(x[: len(x) // 2].tensor_split(GROUPS))
    for i, group in enumerate(softened):
        drawn = _uniform(1, math.log(SMALLEST_SIDE - 0.5), math.log(SIDE + 0.5), generator).exp().item()
        size = (round(drawn), round(drawn))
        small = F.interpolate(group, size=size, mode="bilinear", antialias=True)
        softened[i] = F.interpolate(small, size=(SIDE, SIDE), mode="bilinear", antialias=True)
    return torch.cat([*softened, x[len(x) // 2 :]])


@torch.no_grad()
def accuracy(model: DigitsCNN, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the part of uint8 images (N, 1, H, W) whose label, int64 (N,), the model finds."""
    found = torch.cat([model(prepare(batch)).argmax(dim=1) for batch in torch.split(images, 500)])
    return (found == labels).double().mean().item()


def train(images: torch.Tensor, labels: torch.Tensor, epochs: int, seed: int) -> DigitsCNN:
    """Return a `DigitsCNN` in evaluation mode, fitted to uint8 images (N, 1, 28, 28) and labels (N,).

    AdamW under a one-cycle learning rate (Smith and Topin 2017, arXiv 1708.07120).
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = DigitsCNN().to(memory_format=torch.channels_last)
    steps = len(images) // BATCH
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, epochs * steps, pct_start=0.2)
    for epoch in range(epochs):
        started, total = time.monotonic(), 0.0
        for batch in torch.randperm(len(images), generator=generator)[: steps * BATCH].view(steps, BATCH):
            x = soften(warp(prepare(images[batch]), generator), generator)
            loss = F.cross_entropy(model(x), labels[batch])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            total += loss.item()
        seconds = time.monotonic() - started
        typer.echo(f"epoch {epoch + 1}/{epochs}  loss {total / steps:.4f}  {seconds:.0f} s")
    return model.eval()


def evaluate(model: DigitsCNN, directory: Path) -> dict[str, float]:
    """Return the accuracies on MNIST's test images, on these reduced to 8x8, and on scikit-learn's digits."""
    images, labels = read_mnist(directory, "t10k")
    return {
        "mnist_test_28x28": accuracy(model, images, labels),
        "mnist_test_8x8": accuracy(model, reduce(images, SMALLEST_SIDE), labels),
        "sklearn_digits_8x8": accuracy(model, *read_sklearn_digits()),
    }


def main(
    mnist_dir: Annotated[Path, typer.Argument(help="Directory of the four MNIST idx files, gzipped or not.")],
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the 60,000 training images.")] = 12,
    seed: Annotated[int, typer.Option(help="Seed of the weights, the order and the augmentation.")] = 0,
    output: Annotated[
        Path, typer.Option(help="Where to write the weights.", show_default="beside the module")
    ] = WEIGHTS,
) -> None:
    """Train the digits-cnn classifier, print its accuracies and write its weights with their origin."""
    torch.use_deterministic_algorithms(True)
    try:
        model = train(*read_mnist(mnist_dir, "train"), epochs=epochs, seed=seed)
        figures = evaluate(model, mnist_dir)
    except SagdError as error:
        typer.echo(f"{error.message} {error.hint}", err=True)
        raise typer.Exit(error.exit_code) from None
    for name, figure in figures.items():
        typer.echo(f"{name}  {figure:.4f}")
    origin = {
        "training_data": "MNIST, the 60,000 training images",
        "seed": str(seed),
        "epochs": str(epochs),
        "accuracy": json.dumps({name: round(figure, 4) for name, figure in figures.items()}),
    }
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, output, origin)


if __name__ == "__main__":
    typer.run(main)
