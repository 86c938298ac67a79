"""What is compared: images of a data set, images drawn from a run as they are needed, or statistics of images."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from sagd_cli.config.arguments import parse_dataset
from sagd_cli.config.run import SamplingConfig
from sagd_cli.datasets.alike import byte_images
from sagd_cli.errors import UsageError
from sagd_cli.evaluation.statistics import is_statistics
from sagd_cli.features.image_source import ImageSource, Pixels, data_source
from sagd_cli.latents.decoding import decoder_receipt, find_decoder
from sagd_cli.run.folder import Run, names_run, open_run
from sagd_cli.sampling.generator import ImageGenerator, sampling_of
from sagd_cli.system.console import Output

DRAWN = 2000  # images of a run, unless told otherwise
DRAWN_AT_ONCE = 250

ReferenceSource = ImageSource | Path  # the path of a file of statistics


@dataclass(frozen=True)
class GeneratedOptions:
    """How many images GENERATED gives, and how those of a run are drawn.

    `repeats` blocks of `count` images each are taken. `count` None stands for 2,000 images of a run, and for all images
    of a data set. `seed` is the first seed. `sampling` are settings of `sagd sample`; None stands for the run's own.
    `autoencoder` is a folder that decodes a run's samples; None is the one its data name.
    """

    count: int | None = None
    repeats: int = 1
    seed: int = 0
    sampling: Mapping[str, Any] = field(default_factory=dict)
    autoencoder: Path | None = None

    @property
    def chosen(self) -> dict[str, Any]:
        """The settings of sampling that are given."""
        return {key: value for key, value in self.sampling.items() if value is not None}


def open_source(text: str, options: GeneratedOptions, device: torch.device, output: Output) -> ImageSource:
    """Return what GENERATED names: samples of a run, or the first images of DATA.

    Raises UsageError when settings of sampling are given for something else than a run, and what opening raises.
    """
    count, chosen = options.count, options.chosen
    if names_run(text):
        run = open_run(Path(text), output)
        sampling = sampling_of(run.config, chosen)
        drawn = (count or DRAWN) * options.repeats
        return run_source(run, drawn, options.seed, device, sampling, options.autoencoder)
    if chosen or options.seed or options.autoencoder:
        raise UsageError(f"{text} is not a run, and settings of sampling are for the samples of a run")
    if is_statistics(text):
        raise UsageError(
            f"{text} holds statistics, and GENERATED has to be images", "Give statistics as REFERENCE."
        )
    return data_source(parse_dataset(text), text, None if count is None else count * options.repeats)


def open_reference(text: str) -> ReferenceSource:
    """Return what REFERENCE names: DATA, or the path of a file of statistics.

    Raises UsageError when it is a run, and what opening raises.
    """
    if names_run(text):
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
    autoencoder: Path | None = None,
) -> ImageSource:
    """Return `count` images of a run, drawn from the seeds `seed`, `seed` + 1 and so on. Nothing is written.

    Latents are decoded by the `autoencoder` of a folder, or by the one that the run's data name. Floats become bytes,
    and a note says how. `device` None is the CPU, and `sampling` None stands for the run's own settings. A precision of
    auto is float32. Raises UsageError when the run does not draw grey or RGB images.
    """
    device = device or torch.device("cpu")
    sampling = sampling or run.config.sampling
    if sampling.precision == "auto":
        sampling = sampling.model_copy(update={"precision": "fp32"})
    decoder = find_decoder(run.latents, run.path, autoencoder, device)
    generator = ImageGenerator(run.model(device), sampling, decoder=decoder)
    if not generator.is_drawable:
        raise UsageError(
            f"{run.path} draws {generator.dtype} fields of shape {generator.shape}, and this takes images",
            "Give the autoencoder that decodes them: --autoencoder DIR.",
        )
    seeds = range(seed, seed + count)

    def read(parts: Sequence[range], output: Output) -> Iterator[Pixels]:
        drawn = generator.drawn([seeds[part.start : part.stop] for part in parts], output)
        return byte_images((image for _, images in drawn for image in images), f"the samples of {run.path}")

    receipt = _sampling_receipt(run, generator, seeds)
    return ImageSource(str(run.path), count, generator.shape, read, receipt, DRAWN_AT_ONCE)


def _sampling_receipt(run: Run, generator: ImageGenerator, seeds: range) -> dict[str, Any]:
    """What decides the images of a run, for the receipt."""
    return {
        "checkpoint": run.checkpoint.path.name,
        "checkpoint_sha256": run.checkpoint.manifest.digest,
        "filter_sha256": run.filter.sha256(),
        "seeds": [seeds.start, seeds.stop - 1],
        "ema_half_life_images": generator.model.ema_images,
        **generator.settings,
        **decoder_receipt(generator.decoder),
    }
