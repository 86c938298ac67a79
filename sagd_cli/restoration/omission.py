"""Omission: restore image files whose corruption lies in a known band (MATH: 6. Selective omission)."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sagd_cli.data.folders import (
    Outcome,
    check_names,
    check_output_folder,
    input_files,
    list_images,
    output_name,
    read_all,
    some_images,
)
from sagd_cli.data.images import Image, read_image, write_array, write_image
from sagd_cli.data.ranges import image_pixels, image_signal
from sagd_cli.errors import DataError, SagdError, UsageError
from sagd_cli.restoration.options import Omission
from sagd_cli.restoration.prepare import Preparation, prepare_omission
from sagd_cli.restoration.quality import file_report
from sagd_cli.spectral.band import Band
from sagd_cli.system.console import Output
from sagd_cli.system.files import refuse_existing

PIXELS_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class Places:
    """What is read and written: `source` into `folder`; `inputs` are other folders that must not be written to.

    `truth` holds true images of the same names, `uncertainty` is the folder for deviations, `run` that for the model
    that was learned.
    """

    source: Path
    folder: Path
    truth: Path | None = None
    uncertainty: Path | None = None
    run: Path | None = None
    inputs: Sequence[Path] = ()


@dataclass(frozen=True)
class RestoredImage:
    """An image before and after with its record, for a figure."""

    record: dict[str, Any]
    before: NDArray[np.float32]
    after: NDArray[np.float32]
    truth: NDArray[np.float32] | None
    deviation: NDArray[np.float32] | None


def omit_files(
    omission: Omission, places: Places, device: torch.device, force: bool, output: Output, shown: int = 0
) -> tuple[dict[str, Any], list[RestoredImage]]:
    """Restore the images of a folder into another; return the JSON object of `sagd omit` and the first images, `shown`.

    Outside the band images come back unchanged, before rounding to their depth. A file that cannot be read is
    noted and skipped. Images are read one batch at a time: memory does not grow with their number. Raises UsageError,
    before any work, on outputs or truths that do not fit; DataError when there is nothing to omit.
    """
    paths = input_files(places.source)
    truths = _match_truth(paths, places.truth)
    _check_outputs(omission, places, paths, force)
    some = some_images(paths)
    _check_truth(some, truths)
    plan = prepare_omission(omission, places.source, places.run, some, device, output)
    del some
    outcome, kept = Outcome(), list[RestoredImage]()
    with output.progress("omit", len(paths)) as bar:
        for batch in _batches(read_all(paths, outcome, output, bar.advance), plan.band, outcome, output):
            for restored in _restored(plan, places, batch, truths, outcome, output):
                outcome.files.append(restored.record)
                kept.extend([restored] if len(kept) < shown else [])
    outcome.files.sort(key=lambda record: str(record["input"]))
    return _result(plan, places, outcome), kept


def _check_outputs(omission: Omission, places: Places, paths: Sequence[Path], force: bool) -> None:
    """Raise UsageError when an output cannot be written where it is to go."""
    inputs = [places.source, *places.inputs, *([places.truth] if places.truth else [])]
    names = check_names(paths, lambda path: _draw_names(path, omission.draws_written))
    check_output_folder(places.folder, names, force, inputs)
    if places.uncertainty is not None:
        if places.uncertainty.resolve() == places.folder.resolve():
            raise UsageError("the uncertainty would lie among the images", "Choose another folder for it.")
        deviations = check_names(paths, lambda path: [_deviation_name(path)])
        check_output_folder(places.uncertainty, deviations, force, inputs)
    if places.run is not None:
        refuse_existing(places.run, False)


def _draw_names(path: Path, draws: int) -> list[str]:
    """Names of the estimate of an image and of further draws: a.png, a.2.png and so on."""
    name = Path(output_name(path))
    return [name.name, *(f"{name.stem}.{k}{name.suffix}" for k in range(2, draws + 1))]


def _deviation_name(path: Path) -> str:
    return f"{path.stem}.tiff"


def _match_truth(paths: Sequence[Path], truth: Path | None) -> dict[Path, Path]:
    """Find the true image of each file by the name without suffix."""
    if truth is None:
        return {}
    found = {path.stem: path for path in (list_images(truth) if truth.is_dir() else [truth])}
    missing = [path.name for path in paths if path.stem not in found]
    if missing:
        raise UsageError(
            f"{truth} has no image for {missing[0]} ({len(missing)} are missing)", "Names must match."
        )
    return {path: found[path.stem] for path in paths}


def _check_truth(images: Sequence[Image], truths: dict[Path, Path]) -> None:
    """Raise DataError, before any work, when a truth cannot be read or has another shape than its image."""
    for image in images if truths else ():
        _truth_of(image, truths)


def _truth_of(image: Image, truths: dict[Path, Path]) -> NDArray[np.float32] | None:
    if image.path not in truths:
        return None
    truth = read_image(truths[image.path])
    if truth.pixels.shape != image.pixels.shape:
        raise DataError(
            f"{truth.path} has the shape {truth.pixels.shape}, and {image.path} {image.pixels.shape}",
            "A true image has the size and colours of the damaged one.",
        )
    return image_signal(truth.pixels)


def _batches(images: Iterable[Image], band: Band, outcome: Outcome, output: Output) -> Iterator[list[Image]]:
    """Neighbours of one shape, of at most `PIXELS_AT_ONCE` pixels in all (one image at least)."""
    batch: list[Image] = []
    for image in images:
        if not outcome.has_band(image, band, output):
            continue
        alike = not batch or batch[0].pixels.shape == image.pixels.shape
        if batch and (not alike or (len(batch) + 1) * image.pixels.size > PIXELS_AT_ONCE):
            yield batch
            batch = []
        batch.append(image)
    if batch:
        yield batch


def _measured(
    plan: Preparation, images: list[Image], outcome: Outcome, output: Output
) -> Iterator[tuple[Image, NDArray[np.float32], float]]:
    """Yield each image with its signal and the strength of its noise; those with more than the model knows fail."""
    for image in images:
        signal = image_signal(image.pixels)
        try:
            yield image, signal, plan.strength_of(signal)
        except DataError as error:
            outcome.fail(image.path, DataError(f"{image.path}: {error.message}", error.hint), output)


def _restored(
    plan: Preparation,
    places: Places,
    images: list[Image],
    truths: dict[Path, Path],
    outcome: Outcome,
    output: Output,
) -> Iterator[RestoredImage]:
    """Restore images of one shape, write them and yield them with their records; what fails is noted."""
    measured = list(_measured(plan, images, outcome, output))
    if not measured:
        return
    images, signals, strengths = map(list, zip(*measured, strict=True))
    y = torch.from_numpy(np.stack(signals)).to(plan.device)
    try:
        restored = plan.restorer.restore(y, strengths, [image.path.name for image in images])
    except SagdError as error:
        for image in images:
            outcome.fail(image.path, SagdError(f"{image.path}: {error.message}", error.hint), output)
        return
    for i, image in enumerate(images):
        try:
            draws = [draw[i].cpu().numpy() for draw in (restored.estimate, *restored.draws)]
            names = _draw_names(image.path, len(draws))
            for name, draw in zip(names, draws, strict=True):
                write_image(image, image_pixels(draw, image.pixels.dtype), _folder(places.folder) / name)
            truth = _truth_of(image, truths)
            # What was written, rounded and clipped as it is, is what the report is about.
            after = image_signal(image_pixels(draws[0], image.pixels.dtype))
            target = places.folder / names[0]
            record = file_report(image.path, target, signals[i], after, truth, plan.band)
            if plan.omission.per_image:
                record["strength"] = strengths[i] if isfinite(strengths[i]) else None
            deviation = None
            if restored.deviation is not None and places.uncertainty is not None:
                deviation = restored.deviation[i].cpu().numpy()
                # On the scale of float images, where white is 1: half that of the signal.
                file = _folder(places.uncertainty) / _deviation_name(image.path)
                write_array((deviation / 2).astype(np.float32), file)
                record["uncertainty"] = str(file)
        except DataError as error:
            outcome.fail(image.path, error, output)
            continue
        yield RestoredImage(record, signals[i], after, truth, deviation)


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def _result(plan: Preparation, places: Places, outcome: Outcome) -> dict[str, Any]:
    """The JSON object; an infinite strength is null there, with `lost` saying so."""
    strength = plan.strength
    ends = None if strength is None else [strength.low, strength.high]
    result: dict[str, Any] = {
        "band": str(plan.band),
        "strength": strength.value if strength is not None and isfinite(strength.value) else None,
        "strength_interval": ends
        if plan.omission.strength is None and ends and all(map(isfinite, ends))
        else None,
        "lost": strength is not None and strength.lost,
        "method": plan.omission.method,
        "output": str(places.folder),
        "files": outcome.files,
    }
    if places.run is not None:
        result["run"] = str(places.run)
    for key in ("psnr_before", "psnr", "ssim_before", "ssim"):
        values = [record[key] for record in outcome.files if key in record]
        if values:
            result[f"{key}_mean"] = float(np.mean(values))
    return {**result, "failed": outcome.failed}
