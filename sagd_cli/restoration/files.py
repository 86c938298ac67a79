"""Walking over the image files of a command: a bad one is reported and its neighbours are done."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sagd_cli.console import Output
from sagd_cli.errors import SagdError
from sagd_cli.images import Image, list_images, read_image


@dataclass
class Outcome:
    """What became of a folder's files: a record for each done one, an error for each failed one."""

    files: list[dict[str, Any]] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)

    def fail(self, path: Path, error: SagdError, output: Output) -> None:
        """Note a file that could not be done, and say so."""
        self.failed.append({"input": str(path), "error": error.message})
        output.warn(error.message)


def raise_if_failed(result: dict[str, Any]) -> None:
    """Raise SagdError, exit code 1, when any file of a command's result failed."""
    if result["failed"]:
        message = f"{len(result['files'])} ok, {len(result['failed'])} failed"
        raise SagdError(message, "The warnings above name the files.")


def input_files(path: Path) -> list[Path]:
    """Return the images of a folder, or the one file; raise UsageError when there is none."""
    return list_images(path) if path.is_dir() or not path.exists() else [path]


def read_all(paths: Iterable[Path], outcome: Outcome, output: Output) -> Iterator[Image]:
    """Yield each image that can be read; the others are noted as failed."""
    for path in paths:
        try:
            yield read_image(path)
        except SagdError as error:
            outcome.fail(path, error, output)
