"""Omission: restore image files whose corruption lies in a known band (docs/theory.md, section 6)."""

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sagd_cli.data.folders import check_names, check_output_folder, collect, list_images
from sagd_cli.data.image_writer import ImageWriter
from sagd_cli.data.restored import RestoredImage
from sagd_cli.errors import UsageError
from sagd_cli.restoration.folder_work import FolderWork, Places, deviation_name, draw_names
from sagd_cli.restoration.options import Omission
from sagd_cli.restoration.prepare import Preparation
from sagd_cli.restoration.truth import TrueImages
from sagd_cli.run.manifest import has_run
from sagd_cli.system.console import Output
from sagd_cli.system.files import refuse_existing

if TYPE_CHECKING:
    import torch


def omit_files(
    omission: Omission,
    places: Places,
    device: "Callable[[], torch.device]",
    force: bool,
    output: Output,
    shown: int = 0,
) -> tuple[dict[str, Any], list[RestoredImage]]:
    """Restore the images of one folder into another, as `omission` says.

    Return the JSON object of `sagd omit` and the first `shown` restored images. Outside the band the images come back
    unchanged, except for rounding to their bit depth. A file that cannot be read is noted and skipped. Images are read
    a few at a time, so memory does not grow with their number. `device` gives the device of the model, if one is used.
    An existing output is replaced only with `force`. Raises UsageError, before any work, when an output or a true image
    does not fit. Raises DataError when there is nothing to omit.
    """
    paths = list_images(places.source)
    truths = TrueImages.found(paths, places.truth, omission.given)
    _check_outputs(omission, places, paths, force)
    images = collect(paths, omission.given, output)
    truths.check(images.some)
    for remark in truths.ranges.remarks:
        output.note(f"true images: {remark}")
    prepared = Preparation(
        omission, places.source, images.some, device, output, places.workspace, places.run
    ).prepared()
    images = images.trimmed()
    kept = list[RestoredImage]()
    with output.progress("omit", len(images.places)) as bar, ImageWriter() as writer:
        work = FolderWork(prepared, places, truths, output, writer)
        for restored in work.restored(images.read(work.outcome, output, bar.advance)):
            kept.extend([restored] if len(kept) < shown else [])
    work.outcome.say_clipped(output)
    work.outcome.say_copied(output)
    if prepared.learned_in is not None and work.outcome.failed:
        output.note(
            f"what was learned is kept in {places.workspace}, for the same command again, with --force"
        )
    elif prepared.learned_in is not None:
        shutil.rmtree(prepared.learned_in, ignore_errors=True)
        with suppress(OSError):  # what another command learns may lie there too
            places.workspace.rmdir()
    return work.result(), kept


def _check_outputs(omission: Omission, places: Places, paths: Sequence[Path], force: bool) -> None:
    """Raise UsageError when an output would overwrite something, or would lie in a folder of inputs."""
    inputs = [places.source, *places.inputs, *([places.truth] if places.truth else [])]
    names = check_names(paths, lambda path: draw_names(path, omission.draws_written))
    check_output_folder(places.folder, names, force, inputs)
    written = {places.folder.resolve(), *(places.folder.resolve() / name for name in names)}
    if places.uncertainty is not None:
        if places.uncertainty.resolve() == places.folder.resolve():
            raise UsageError("the uncertainty would lie among the images", "Choose another folder for it.")
        deviations = check_names(paths, lambda path: [deviation_name(path)])
        check_output_folder(places.uncertainty, deviations, force, inputs)
        folder = places.uncertainty.resolve()
        written |= {folder, *(folder / name for name in deviations)}
    for option, path in places.extras.items():
        if path is not None and path.parent.resolve() / path.name in written:
            raise UsageError(
                f"{path} would be written by {option} and among the images",
                f"Choose another name for {option}.",
            )
    if places.run is not None and not has_run(places.run):
        refuse_existing(places.run, False)
