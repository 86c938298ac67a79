"""Images written one by one; those of a stack into one file."""

from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sagd_cli.data.images import Image, known_format, metadata_of_image, naming, samples_of, write_image
from sagd_cli.errors import DataError, SagdError
from sagd_cli.files.metadata import Metadata
from sagd_cli.system.files import atomic_path, shown_path

if TYPE_CHECKING:
    from sagd_cli.files.stacks import StackForm


@dataclass
class ImageWriter:
    """Writes images, and stacks image by image: a file appears when it is whole, or not at all.

    Used as a context, at whose end stacks that are not whole are given up.
    """

    _open: dict[Path, "_OpenStack"] = field(default_factory=dict)

    def __enter__(self) -> "ImageWriter":
        """Start to write."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give up what is not whole."""
        for path in [*self._open]:
            self._open.pop(path).give_up()

    def write(self, image_like: Image, pixels: np.ndarray, path: Path) -> None:
        """Write `pixels` as `write_image` does; those of a stack are its next image, which come in their order.

        Raises DataError besides when an image of the stack was left out.
        """
        if image_like.stack is None:
            write_image(image_like, pixels, path)
            return
        if known_format(path) != "TIFF":
            raise DataError(f"{shown_path(path)} cannot hold a stack", "Name the file .tif.")
        with naming(path):
            if path not in self._open:
                self._open[path] = _OpenStack(path, image_like.stack, pixels.nbytes)
            stack = self._open[path]
            if image_like.page != stack.written:
                raise DataError(f"{shown_path(path)} cannot be written without its image {stack.written + 1}")
            stack.add(samples_of(image_like, pixels), metadata_of_image(image_like))
            if stack.written == image_like.stack.count:
                self._open.pop(path).finish()


class _OpenStack:
    """A stack that is being written, of which `written` images are there."""

    def __init__(self, path: Path, form: "StackForm", image_bytes: int) -> None:
        from sagd_cli.files.stacks import StackWriter

        self.written = 0
        self._place: AbstractContextManager[Path] = atomic_path(path)
        self._writer: StackWriter = StackWriter(self._place.__enter__(), form, image_bytes)

    def add(self, samples: np.ndarray, metadata: Metadata) -> None:
        self._writer.add(samples, metadata)
        self.written += 1

    def finish(self) -> None:
        self._writer.close()
        self._place.__exit__(None, None, None)

    def give_up(self) -> None:
        error = SagdError("the stack is not whole")
        with suppress(SagdError, OSError):
            self._writer.close()
        with suppress(SagdError):
            self._place.__exit__(SagdError, error, None)
