"""Folders of images: which files are read, how outputs are named, and what became of each file."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from sagd_cli.data.formats import accepted_suffixes, format_of, is_lossless
from sagd_cli.data.images import Image, read_image
from sagd_cli.errors import SagdError, UsageError
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.system.console import Output
from sagd_cli.system.files import reason_of, refuse_existing, shown_path

MOST_IMAGES, MOST_IMAGE_VALUES = 10_000, 1 << 28


def output_name(path: Path) -> str:
    """Return the name to write the processed `path` under: its own if its format is lossless, else one in .png."""
    name = format_of(path)
    return path.name if name is not None and is_lossless(name) else f"{path.stem}.png"


def list_images(folder: Path) -> list[Path]:
    """Return the files in `folder` that have the suffix of a format, sorted by name, without hidden ones.

    `folder` may also be one file, which is returned, whatever its suffix. Raises `UsageError` when `folder` is missing,
    cannot be read or holds no image.
    """
    if folder.exists() and not folder.is_dir():
        return [folder]
    try:
        entries = sorted(folder.iterdir(), key=lambda path: path.name)  # a path that is compared grows
    except (OSError, ValueError) as error:
        raise UsageError(f"{shown_path(folder)} is not a folder of images: {reason_of(error)}") from error
    images = [path for path in entries if format_of(path) and not path.name.startswith(".")]
    if not images:
        raise UsageError(f"{shown_path(folder)} holds no image", f"Accepted are {accepted_suffixes()}.")
    return images


def check_output_folder(folder: Path, names: Iterable[str], force: bool, inputs: Iterable[Path] = ()) -> None:
    """Raise `UsageError` unless `folder` can take files called `names`.

    It must be empty or not there. With `force`, it may hold images of those very names, which will be replaced.
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
        if (format_of(path) or path.suffix.lower() == ".npz") and path.name not in expected:
            raise UsageError(
                f"{shown_path(folder)} holds {path.name}, which is not part of the new output and would mix with it",
                "Remove the folder or choose another --output; --force only replaces files of the same names.",
            )


@dataclass
class Outcome:
    """What became of the files of a folder: the records of those that were done, the errors of those that failed."""

    files: list[dict[str, Any]] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)

    def fail(self, path: Path, error: SagdError, output: Output) -> None:
        """Note that the file at `path` failed with `error`, and warn of it."""
        self.failed.append({"input": str(path), "error": error.message})
        output.warn(error.message)

    def has_band(self, image: Image, band: Band, output: Output) -> bool:
        """Tell whether `band` has frequencies at the image's size; note the file as failed when it has none."""
        try:
            band.mask(FrequencyGrid(image.pixels.shape[1:]))
        except SagdError as error:
            self.fail(image.path, SagdError(f"{image.path}: {error.message}"), output)
            return False
        return True


def check_names(paths: Iterable[Path], target_names: Callable[[Path], Iterable[str]]) -> list[str]:
    """Return the names that the files of `paths` are written under; `target_names` gives those of one file.

    Raises UsageError when two files would be written under one name.
    """
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


def read_all(
    paths: Iterable[Path],
    outcome: Outcome,
    output: Output,
    on_file: Callable[[], None] = lambda: None,
    known: Mapping[Path, Image] = MappingProxyType({}),
) -> Iterator[Image]:
    """Yield the images at `paths` that can be read; note the others as failed in `outcome`.

    `on_file` is called once for each file. `known` holds images that were read before; they are not read again.
    """
    for path in paths:
        on_file()
        try:
            yield known[path] if path in known else read_image(path)
        except SagdError as error:
            outcome.fail(path, error, output)


def some_images(paths: Sequence[Path]) -> list[Image]:
    """Read images to learn from, drawn from all `paths`, as many as memory should hold.

    They come in the order of `paths`, and which they are is a function of the number of paths. Files that cannot be
    read are left out.
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
