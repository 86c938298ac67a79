"""Folders of images: which files are read, how outputs are named, and what became of each file."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sagd_cli.data.formats import FORMATS, SUFFIXES, is_lossless
from sagd_cli.data.images import Image, read_image
from sagd_cli.errors import SagdError, UsageError
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.system.console import Output
from sagd_cli.system.files import reason_of, refuse_existing, shown_path

MOST_IMAGES, MOST_IMAGE_VALUES = 10_000, 1 << 28


def output_name(path: Path) -> str:
    """Return the name to write the processed `path` under: its own if lossless, else with suffix .png."""
    return path.name if is_lossless(FORMATS.get(path.suffix.lower(), "")) else f"{path.stem}.png"


def list_images(folder: Path) -> list[Path]:
    """Return what has an image's suffix in `folder` itself, sorted by name, without hidden files; or the one file.

    Raises `UsageError` when `folder` is missing, cannot be read or holds no image.
    """
    if folder.is_file():
        return [folder]
    try:
        entries = sorted(folder.iterdir(), key=lambda path: path.name)  # a path that is compared grows
    except (OSError, ValueError) as error:
        raise UsageError(f"{shown_path(folder)} is not a folder of images: {reason_of(error)}") from error
    images = [path for path in entries if path.suffix.lower() in FORMATS and not path.name.startswith(".")]
    if not images:
        raise UsageError(f"{shown_path(folder)} holds no image", f"Accepted are {SUFFIXES}.")
    return images


def check_output_folder(folder: Path, names: Iterable[str], force: bool, inputs: Iterable[Path] = ()) -> None:
    """Raise `UsageError` unless `folder` can take files called `names`.

    It must be empty or not there; with `force`, it may hold images of those very names, which will be replaced.
    Nothing is ever deleted, and images of an earlier output never mix with new ones. `inputs` are what the
    command reads: none of them may be in `folder`.
    """
    for path in inputs:
        if folder.resolve() in (path.resolve(), path.resolve().parent):
            raise UsageError(f"{shown_path(folder)} is where the input is", "Choose another --output.")
    if folder.exists() and not folder.is_dir():
        raise UsageError(
            f"{shown_path(folder)} is a file, and the output is a folder", "Choose another --output."
        )
    refuse_existing(folder, force)
    expected = set(names)
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.suffix.lower() in (*FORMATS, ".npz") and path.name not in expected:
            raise UsageError(
                f"{shown_path(folder)} holds {path.name}, which is not part of the new output and would mix with it",
                "Remove the folder or choose another --output; --force only replaces files of the same names.",
            )


@dataclass
class Outcome:
    """What became of a folder's files: a record for each done one, an error for each failed one."""

    files: list[dict[str, Any]] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)

    def fail(self, path: Path, error: SagdError, output: Output) -> None:
        """Note a file that could not be done, and say so."""
        self.failed.append({"input": str(path), "error": error.message})
        output.warn(error.message)

    def has_band(self, image: Image, band: Band, output: Output) -> bool:
        """Whether the band has frequencies at the image's size; note the file as failed when it has none."""
        try:
            band.mask(FrequencyGrid(image.pixels.shape[1:]))
        except SagdError as error:
            self.fail(image.path, SagdError(f"{image.path}: {error.message}"), output)
            return False
        return True


def check_names(paths: Iterable[Path], target_names: Callable[[Path], Iterable[str]]) -> list[str]:
    """Return the names that files are written under; raise UsageError when one would be written twice."""
    names: dict[str, Path] = {}
    for path in paths:
        for name in target_names(path):
            other = names.setdefault(name, path)
            if other is not path:
                raise UsageError(
                    f"{other.name} and {path.name} would both be written to {name}", "Rename one of them."
                )
    return list(names)


def raise_if_failed(result: dict[str, Any]) -> None:
    """Raise SagdError, exit code 1, when any file of a command's result failed."""
    if result["failed"]:
        message = f"{len(result['files'])} ok, {len(result['failed'])} failed"
        raise SagdError(message, "The warnings above name the files.")


def input_files(path: Path) -> list[Path]:
    """Return the images of a folder, or the one file; raise UsageError when there is none."""
    return list_images(path) if path.is_dir() or not path.exists() else [path]


def read_all(
    paths: Iterable[Path], outcome: Outcome, output: Output, on_file: Callable[[], None] = lambda: None
) -> Iterator[Image]:
    """Yield each image that can be read; the others are noted as failed. `on_file` is called once a file."""
    for path in paths:
        on_file()
        try:
            yield read_image(path)
        except SagdError as error:
            outcome.fail(path, error, output)


def some_images(paths: Sequence[Path]) -> list[Image]:
    """Read images to learn from, drawn from all `paths`, as many as memory should hold; bad files are left out.

    They are in the order of `paths`, and a function of them.
    """
    order = np.random.default_rng(len(paths)).permutation(len(paths))[:MOST_IMAGES]
    images, values = dict[int, Image](), 0
    for index in order.tolist():
        try:
            images[index] = read_image(paths[index])
        except SagdError:
            continue
        values += images[index].pixels.size
        if values >= MOST_IMAGE_VALUES:
            break
    return [images[index] for index in sorted(images)]
