"""Writing the images drawn from a run: to folders, archives and contact sheets."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sagd_cli.data.alike import byte_images
from sagd_cli.data.folders import check_output_folder
from sagd_cli.data.images import contact_sheet, write_array
from sagd_cli.data.writing import format_for, write_drawable
from sagd_cli.diffusion.catalogue import SAMPLERS
from sagd_cli.errors import UsageError
from sagd_cli.model.model import Model
from sagd_cli.run.folder import Run
from sagd_cli.run.manifest import CHECKPOINTS
from sagd_cli.sampling.generator import ImageGenerator
from sagd_cli.system.console import Output
from sagd_cli.system.files import atomic_path, has_suffix, refuse_existing

GRID_IMAGES = 100
ARCHIVE = "samples.npz"
SAMPLE_FORMATS = ("png", "tiff", "npz")


@dataclass(frozen=True)
class SampleTarget:
    """Where samples are written: into `folder`, as image files, png or tiff, or one samples.npz (`format`).

    `grid` is the PNG file of a contact sheet, or None. Existing outputs are replaced only with `force`.
    """

    folder: Path
    format: str = "png"
    grid: Path | None = None
    force: bool = False

    def name(self, seed: int) -> str:
        """Return the name of the image file of a seed."""
        return f"{seed:06d}.{self.format}"

    def check(self, model: Model, seeds: range, run: Path) -> None:
        """Raise UsageError, before anything is drawn, when images of `model` cannot be written to this target.

        The folder of its `run` and those of the checkpoints are none.
        """
        folder, checkpoints = self.folder.resolve(), (run / CHECKPOINTS).resolve()
        if folder == run.resolve() or checkpoints in (folder, *folder.parents):
            raise UsageError(f"{self.folder} is a folder of the run itself", "Choose another --output.")
        if self.format not in SAMPLE_FORMATS:
            raise UsageError(f"unknown format {self.format!r}", "Formats are png, tiff and npz.")
        if not model.is_drawable and (self.format != "npz" or self.grid is not None):
            raise UsageError(
                f"fields of {model.dtype} of shape {model.shape} cannot be drawn as images",
                "Use --format npz without --grid.",
            )
        if self.format == "png" and not model.has_pixels:
            raise UsageError(
                f"PNG files would clip samples of {model.dtype} data",
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
        names = [ARCHIVE] if self.format == "npz" else map(self.name, seeds)
        check_output_folder(self.folder, names, self.force)


def save_samples(
    generator: ImageGenerator, seeds: range, batch_size: int, target: SampleTarget, output: Output
) -> list[NDArray[Any]]:
    """Draw one image for each seed and write them to `target`, which was checked before.

    Return the images of its contact sheet in batches, none without one.
    """
    target.folder.mkdir(parents=True, exist_ok=True)
    kept: list[NDArray[Any]] = []
    for part, pixels in generator.batches(seeds, batch_size, output):
        if target.format != "npz":
            for seed, image in zip(part, pixels, strict=True):
                write_drawable(image, target.folder / target.name(seed))
        if target.format == "npz" or (target.grid is not None and sum(map(len, kept)) < GRID_IMAGES):
            kept.append(pixels)
    if target.format == "npz":
        labels = generator.labels(seeds)
        arrays: dict[str, Any] = {"images": np.concatenate(kept), "seeds": np.array(seeds)}
        if labels is not None and generator.classes is not None:
            arrays |= {"labels": labels, "class_names": np.array(generator.classes.names)}
        with atomic_path(target.folder / ARCHIVE) as temporary:
            np.savez_compressed(temporary, **arrays)
    return [] if target.grid is None else kept


def save_grid(grid: Path, images: list[NDArray[Any]]) -> None:
    """Write the contact sheet of the first `images`, which come in batches. A note counts what is clipped of floats."""
    grid.parent.mkdir(parents=True, exist_ok=True)
    shown = byte_images(np.concatenate(images)[:GRID_IMAGES], f"the images of {grid}")
    write_array(contact_sheet(np.stack([*shown])), grid)


def suited_format(model: Model) -> str:
    """Return the format that holds samples of `model` unchanged: png for bytes, tiff for floats, npz for no images."""
    return format_for(model.dtype) if model.is_drawable else "npz"


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
        **{name: generator.settings[name] for name in ("precision", "noise_device")},
        "seeds": [seeds.start, seeds.stop - 1],
        "ema_half_life_images": generator.model.ema_images,
        "filter_sha256": run.filter.sha256(),
        **({} if generator.fill is None else {"fill": generator.fill}),
        **({} if generator.prior is None else {"prior": generator.prior.name}),
        **(
            {"guidance": generator.sampling.guidance, "labels": labels.tolist()} if labels is not None else {}
        ),
    }
