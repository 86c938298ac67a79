"""Writing the images drawn from a run: to folders, archives and contact sheets."""

import hashlib
import json
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sagd_cli import __version__
from sagd_cli.data.images import contact_sheet, write_array
from sagd_cli.datasets.alike import byte_images
from sagd_cli.datasets.writing import format_for
from sagd_cli.diffusion.catalogue import SAMPLERS
from sagd_cli.errors import UsageError
from sagd_cli.latents.decoding import decoder_receipt
from sagd_cli.run.folder import Run
from sagd_cli.run.manifest import CHECKPOINTS
from sagd_cli.sampling.generator import RESOLVED, ImageGenerator
from sagd_cli.sampling.sample_folder import SampleFolder, SampleWriter
from sagd_cli.system.console import Output
from sagd_cli.system.distributed import World
from sagd_cli.system.files import has_suffix, refuse_existing, shown_path
from sagd_cli.system.signals import stop_at_once

GRID_IMAGES = 100
WRITERS = 4  # threads; as many batches wait for them in memory
SAMPLE_FORMATS = ("png", "tiff", "npz")


@dataclass(frozen=True)
class SampleTarget:
    """Where samples are written: into `folder`, as image files, png or tiff, or one samples.npz (`format`).

    `grid` is the PNG file of a contact sheet, or None. An existing one is replaced only with `force`.
    """

    folder: Path
    format: str = "png"
    grid: Path | None = None
    force: bool = False

    def check(self, generator: ImageGenerator, run: Path) -> None:
        """Raise UsageError, before anything is drawn, when what is drawn cannot be written to this target.

        The folder of its `run` and those of the checkpoints are none.
        """
        folder, checkpoints = self.folder.resolve(), (run / CHECKPOINTS).resolve()
        if folder == run.resolve() or checkpoints in (folder, *folder.parents):
            raise UsageError(f"{self.folder} is a folder of the run itself", "Choose another --output.")
        if self.format not in SAMPLE_FORMATS:
            raise UsageError(f"unknown format {self.format!r}", "Formats are png, tiff and npz.")
        if not generator.is_drawable and (self.format != "npz" or self.grid is not None):
            raise UsageError(
                f"fields of {generator.dtype} of shape {generator.shape} cannot be drawn as images",
                "Use --format npz without --grid; latents are decoded with --autoencoder DIR.",
            )
        if self.format == "png" and not generator.has_pixels:
            raise UsageError(
                f"PNG files would clip samples of {generator.dtype} data",
                "Use --format tiff, the default of such a run.",
            )
        if self.grid is not None:
            if not has_suffix(self.grid, ".png"):
                raise UsageError(f"the contact sheet {self.grid} must be a .png file")
            if self.grid.resolve().parent == self.folder.resolve():
                raise UsageError(
                    "the contact sheet would lie among the images", "Choose another folder for --grid."
                )
            refuse_existing(self.grid, self.force)


def sample_folder(
    run: Run, generator: ImageGenerator, target: SampleTarget, seeds: range, batch_size: int
) -> SampleFolder:
    """Return the folder of `target`, which knows all that decides the images; the batches do by their rounding."""
    prior = generator.prior
    settings = {
        "version": __version__,
        "checkpoint": f"{run.checkpoint.path.name} ({run.checkpoint.manifest.digest[:16]})",
        "filter": run.filter.sha256()[:16],
        "--ema": generator.model.ema_images,
        **{
            f"sampling.{name}" if name in RESOLVED else f"--{name}": value
            for name, value in generator.settings.items()
        },
        "--fill": generator.fill,
        "--class": ",".join(map(str, generator.chosen)) or None,
        "--autoencoder": None if generator.decoder is None else generator.decoder.sha256[:16],
        "--prior": None if prior is None else f"{prior.name} ({prior.digest})",
        "--seed": seeds.start,
        "--batch-size": batch_size,
        "--format": target.format,
        "--device": generator.model.device.type,
    }
    return SampleFolder(target.folder, target.format, seeds, json.loads(json.dumps(settings)))


def save_samples(
    generator: ImageGenerator,
    folder: SampleFolder,
    batches: Sequence[range],
    force: bool,
    world: World,
    output: Output,
) -> int:
    """Draw those of `batches` that are not in `folder` and write them; return how many images are not there then.

    The processes of `world` draw together, and threads write while the next batch is drawn. Raises UsageError when the
    folder holds other images, SagdError when the processes would draw others, and Interrupted when a signal has stopped
    this.
    """

    def begin() -> list[tuple[int, int]]:
        return [(part.start, part.stop) for part in folder.begin(batches, force)]

    world.check_alike({"checkpoint or settings of sampling": folder.settings})
    world.from_first(lambda: folder.check(force))
    # A launcher stops the other processes.
    with stop_at_once(lambda: shown_path(folder.path)) if world.is_first else nullcontext():
        left = [range(*ends) for ends in world.from_first(begin)]
        _say_what_is_left(left, batches, world, output)
        if left:
            with folder.writing(f"{batches[0].start}-{world.rank}") as writer:
                _draw(generator, writer, world.share(left), output)
        world.wait()
        missing: int = world.from_first(
            lambda: folder.finish(_about(generator, folder.seeds) if folder.format == "npz" else {})
        )
    return missing


def _draw(generator: ImageGenerator, writer: SampleWriter, parts: Sequence[range], output: Output) -> None:
    with ThreadPoolExecutor(WRITERS) as pool:  # which also writes what was drawn when the next batch fails
        waiting: deque[Future[None]] = deque()
        for drawn in generator.drawn(parts, output):
            waiting.append(pool.submit(writer.write, *drawn))
            if len(waiting) > WRITERS:
                waiting.popleft().result()
        for written in waiting:
            written.result()


def _say_what_is_left(left: Sequence[range], batches: Sequence[range], world: World, output: Output) -> None:
    count, total = sum(map(len, left)), sum(map(len, batches))
    if count < total:
        output.note(f"{total - count:,} of {total:,} images are there already")
    if world.size > 1 and left:
        output.note(f"{world.size} processes draw {len(left)} batches; the progress is that of the first")


def _about(generator: ImageGenerator, seeds: range) -> dict[str, NDArray[Any]]:
    """Return what an archive holds besides the images."""
    labels = generator.labels(seeds)
    arrays: dict[str, NDArray[Any]] = {"seeds": np.array(seeds)}
    if labels is not None and generator.classes is not None:
        arrays |= {"labels": labels, "class_names": np.array(generator.classes.names)}
    return arrays


def save_grid(grid: Path, folder: SampleFolder) -> None:
    """Write the contact sheet of the first images of a `folder`. A note counts what is clipped of floats."""
    grid.parent.mkdir(parents=True, exist_ok=True)
    shown = byte_images(folder.first_images(GRID_IMAGES), f"the images of {grid}")
    write_array(contact_sheet(np.stack([*shown])), grid)


def suited_format(generator: ImageGenerator) -> str:
    """Return the format that holds what is drawn unchanged: png for bytes, tiff for floats, npz for no images."""
    return format_for(generator.dtype) if generator.is_drawable else "npz"


def default_folder(run: Run, generator: ImageGenerator, seeds: range) -> Path:
    """Return RUN/samples/NAME, where NAME is made of the settings, the first seed and the number of images."""
    sampling = generator.sampling
    words = [sampling.sampler, str(sampling.steps), sampling.spacing]
    amount = SAMPLERS[sampling.sampler].amount
    words += [f"{amount}{value:g}"] if amount and (value := getattr(sampling, amount)) else []
    words += [f"guidance{sampling.guidance:g}"] if sampling.guidance != 1 else []
    words += [f"fill-{generator.fill}"] if generator.fill not in (None, "zero") else []
    words += [_short(Path(generator.prior.name).resolve().name)] if generator.prior else []
    model = generator.model
    default_ema = model.config.training.ema_half_life_images[0]
    words += [f"ema{model.ema_images}"] if model.ema_images != default_ema else []
    words += ["decoded"] if generator.decoder else []
    words += [f"class{_short('.'.join(map(str, generator.chosen)))}"] if generator.chosen else []
    return run.path / "samples" / "-".join([*words, f"seed{seeds.start}", f"n{len(seeds)}"])


def _short(text: str) -> str:
    """Return `text`; if it is too long for the name of a folder, its beginning and a hash of it."""
    return text if len(text) <= 40 else f"{text[:30]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def describe(run: Run, generator: ImageGenerator, seeds: range, target: SampleTarget) -> dict[str, Any]:
    """Return the JSON object of `sagd sample`."""
    labels = generator.labels(seeds)
    return {
        "output": str(target.folder),
        "count": len(seeds),
        "sampler": generator.sampling.sampler,
        "steps": generator.evaluations,
        "network_evaluations": generator.network_evaluations,
        **{name: generator.settings[name] for name in RESOLVED},
        "seeds": [seeds.start, seeds.stop - 1],
        "ema_half_life_images": generator.model.ema_images,
        "filter_sha256": run.filter.sha256(),
        **({} if generator.fill is None else {"fill": generator.fill}),
        **decoder_receipt(generator.decoder),
        **({} if generator.prior is None else {"prior": generator.prior.name}),
        **(
            {"guidance": generator.sampling.guidance, "labels": labels.tolist()} if labels is not None else {}
        ),
    }
