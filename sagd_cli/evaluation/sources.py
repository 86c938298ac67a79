"""What is compared: images of a data set, images drawn from a run as they are needed, or statistics of images."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from sagd_cli.config.arguments import parse_dataset
from sagd_cli.config.run import SamplingConfig
from sagd_cli.errors import UsageError
from sagd_cli.evaluation.statistics import is_statistics
from sagd_cli.features.image_source import ImageSource, Pixels, data_source
from sagd_cli.run.folder import Run, is_run, open_run
from sagd_cli.sampling.generator import ImageGenerator, sampling_of
from sagd_cli.system.console import Output

DRAWN = 2000  # images of a run, unless told otherwise
DRAWN_AT_ONCE = 250

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

    def read(output: Output) -> Iterator[Pixels]:
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
