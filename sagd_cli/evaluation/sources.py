"""What is compared: images of a data set, images drawn from a run as they are needed, or statistics of images."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sagd_cli.arguments import parse_dataset
from sagd_cli.config import DatasetConfig, SamplingConfig
from sagd_cli.console import Output
from sagd_cli.datasets import open_images
from sagd_cli.errors import DataError, UsageError
from sagd_cli.evaluation.statistics import is_statistics
from sagd_cli.plugin.registry import registry
from sagd_cli.training.folder import Run, open_run
from sagd_cli.training.generator import ImageGenerator, sampling_of
from sagd_cli.training.store import CONFIG

DRAWN = 2000  # images of a run, unless told otherwise
DRAWN_AT_ONCE = 250

Image = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class ImageSource:
    """`count` uint8 images of one `shape` (C, H, W) and the `name` the user knows them by.

    `read` yields them in their order, each time it is called. `sampling` says how those of a run are drawn: reading
    them again draws them again. None is for images that are stored.
    """

    name: str
    count: int
    shape: tuple[int, ...]
    read: Callable[[Output], Iterator[Image]]
    sampling: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        """Raise DataError when they are neither grey nor RGB."""
        if len(self.shape) != 3 or self.shape[0] not in (1, 3):
            raise DataError(f"{self.name} holds fields of shape {self.shape}, not grey or RGB images")

    @property
    def is_stored(self) -> bool:
        """Whether the images are read from somewhere, and not drawn."""
        return self.sampling is None


Reference = ImageSource | Path  # the path of a file of statistics


def open_source(
    text: str,
    count: int | None,
    repeats: int,
    seed: int,
    sampling: Mapping[str, Any],
    device: torch.device,
    output: Output,
) -> ImageSource:
    """Return what GENERATED names: `repeats` blocks of `count` samples of a run, or so many first images of DATA.

    Without a count: 2,000 samples, or all images. `sampling` are settings of `sagd sample`, None where they are the
    run's. Raises UsageError when they are given for what is no run, and what opening raises.
    """
    chosen = {key: value for key, value in sampling.items() if value is not None}
    if is_run(text):
        run = open_run(Path(text), output)
        return run_source(run, (count or DRAWN) * repeats, seed, device, sampling_of(run.config, chosen))
    if chosen or seed:
        raise UsageError(f"{text} is no run, and settings of sampling are for the samples of one")
    if is_statistics(text):
        raise UsageError(
            f"{text} holds statistics, and GENERATED has to be images", "Give statistics as REFERENCE."
        )
    return data_source(parse_dataset(text), text, None if count is None else count * repeats)


def open_reference(text: str) -> Reference:
    """Return what REFERENCE names: DATA, or the path of a file of statistics; raise UsageError when it is a run."""
    if is_run(text):
        raise UsageError(
            f"{text} is a run, and REFERENCE has to be images or statistics",
            "Draw its samples with `sagd sample`, or save their statistics with `sagd fid RUN --save-stats FILE.npz`.",
        )
    return Path(text) if is_statistics(text) else data_source(parse_dataset(text), text)


def data_source(config: DatasetConfig, name: str | None = None, count: int | None = None) -> ImageSource:
    """Return the images of a data set, or the first `count` of them; `name` is what the user calls it.

    Raises UsageError when it holds no pixels or fewer images, DataError when they are neither grey nor RGB. Reading
    raises DataError on images that are not alike.
    """
    name = name or _name(config)
    images = open_images(config).images
    if images.dtype != np.uint8:
        raise UsageError(
            f"{name} is {images.dtype} data, which has no black and white, and this takes images",
            "Give uint8 images; latents have to be decoded first.",
        )
    if count is not None and count > len(images):
        raise UsageError(
            f"{name} has {len(images)} images, fewer than the {count} asked for", "Lower --count."
        )
    wanted = len(images) if count is None else count

    def read(output: Output) -> Iterator[Image]:
        return islice(images, wanted)

    return ImageSource(name, wanted, images.shape[1:], read)


def _name(config: DatasetConfig) -> str:
    split = "" if config.split == "train" else f":{config.split}"
    return str(config.options.get("path", f"{config.name}{split}"))


def array_source(name: str, images: NDArray[np.uint8]) -> ImageSource:
    """Return images that are in memory, uint8 (N, C, H, W)."""
    return ImageSource(name, len(images), images.shape[1:], lambda output: iter(images))


def run_source(
    run: Run,
    count: int = DRAWN,
    seed: int = 0,
    device: torch.device | None = None,
    sampling: SamplingConfig | None = None,
) -> ImageSource:
    """Return `count` images of a run, drawn from the seeds `seed`, `seed` + 1 and so on; nothing is written.

    Raises UsageError when the run does not draw grey or RGB images.
    """
    model = run.model(device or torch.device("cpu"))
    if not model.is_drawable:
        raise UsageError(
            f"{run.path} draws {model.dtype} fields of shape {model.shape}, and this takes images",
            "Decode its samples first.",
        )
    generator = ImageGenerator(model, sampling or run.config.sampling)
    seeds = range(seed, seed + count)

    def read(output: Output) -> Iterator[Image]:
        for _, images in generator.batches(seeds, DRAWN_AT_ONCE, output):
            yield from images

    return ImageSource(str(run.path), count, model.shape, read, _sampling_receipt(run, generator, seeds))


def _sampling_receipt(run: Run, generator: ImageGenerator, seeds: range) -> dict[str, Any]:
    """What the images of a run are a function of."""
    return {
        "checkpoint": run.checkpoint.path.name,
        "checkpoint_sha256": run.checkpoint.manifest["digest"],
        "filter_sha256": run.filter.sha256(),
        "seeds": [seeds.start, seeds.stop - 1],
        "ema_half_life_images": generator.model.ema_images,
        **generator.sampling.document(),
    }


def is_run(text: str) -> bool:
    """Whether `text` names the folder of a run; a name of a data set is that, and ./NAME the folder."""
    try:
        return text not in registry().names("dataset") and (Path(text) / CONFIG).is_file()
    except (OSError, ValueError):
        return False
