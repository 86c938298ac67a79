"""Images written one by one; those of a stack into one file."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np

from sagd_cli.data.images import Image, known_format, metadata_of_image, naming, samples_of, write_image
from sagd_cli.data.kept_images import KeptImages
from sagd_cli.errors import DataError, SagdError
from sagd_cli.files.layout import StackForm
from sagd_cli.files.metadata import Metadata
from sagd_cli.system.files import atomic_folder, atomic_path, real_path, shown_path


@dataclass
class ImageWriter:
    """Writes images, and stacks image by image: a file appears when it is whole, or not at all.

    Used as a context, at whose end stacks that are not whole are given up. With the folder `kept`, their images stay
    there. A stack at PATH in `begun` goes on after so many of them.
    """

    kept: Path | None = None
    begun: Mapping[str, int] = field(default_factory=dict)
    _open: dict[Path, "_OpenStack"] = field(default_factory=dict)

    def __enter__(self) -> "ImageWriter":
        """Start to write."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give up what is not whole."""
        for path in [*self._open]:
            self._open.pop(path).give_up()

    def write(self, image_like: Image, pixels: np.ndarray, path: Path) -> bool:
        """Write `pixels` as `write_image` does; those of a stack are its next image, which come in their order.

        Return whether the file is there, that is whole. Raises DataError besides when an image of the stack was left
        out.
        """
        if image_like.stack is None:
            write_image(image_like, pixels, path)
            return True
        if known_format(path) not in ("TIFF", image_like.stack.format):
            raise DataError(f"{shown_path(path)} cannot hold a stack", "Name the file .tif.")
        with naming(path):
            if path not in self._open:
                kept = None if self.kept is None else kept_images(self.kept, path)
                self._open[path] = _OpenStack(path, image_like.stack, pixels.nbytes, kept)
                self._open[path].go_on(self.begun.get(str(path), 0))
            stack = self._open[path]
            if (image_like.page or 0) != stack.written:
                raise DataError(f"{shown_path(path)} cannot be written without its image {stack.written + 1}")
            stack.add(samples_of(image_like, pixels), metadata_of_image(image_like))
            is_whole = stack.written == image_like.stack.count
            if is_whole:
                self._open.pop(path).finish()
            return is_whole


class NoWriter(ImageWriter):
    """Takes images and writes nothing."""

    def write(self, image_like: Image, pixels: np.ndarray, path: Path) -> bool:
        """Return that nothing is there."""
        return False


def kept_images(folder: Path, path: Path) -> KeptImages:
    """Return the images in `folder` that are kept of the stack that will be at `path`."""
    return KeptImages(folder / f"{sha256(real_path(path).encode()).hexdigest()[:16]}.images")


class _OpenStack:
    """A stack that is being written, of which `written` images are there; they are `kept` elsewhere too."""

    def __init__(self, path: Path, form: StackForm, image_bytes: int, kept: KeptImages | None) -> None:
        if known_format(path) != form.format:
            from sagd_cli.files.stacks import TiffForm

            form = TiffForm(path, form.count, form.values)
        self.written = 0
        self._kept = kept
        place = atomic_folder if form.is_folder else atomic_path
        self._place: AbstractContextManager[Path] = place(path)
        self._writer = form.writer(self._place.__enter__(), image_bytes)

    def go_on(self, count: int) -> None:
        """Write the first `count` images that are kept."""
        for image in self._kept.first(count) if self._kept is not None else ():
            self._writer.add(*image)
            self.written += 1

    def add(self, samples: np.ndarray, metadata: Metadata) -> None:
        self._writer.add(samples, metadata)
        if self._kept is not None:
            self._kept.add(samples, metadata)
        self.written += 1

    def finish(self) -> None:
        self._writer.close()
        self._place.__exit__(None, None, None)

    def give_up(self) -> None:
        error = SagdError("the stack is not whole")
        with suppress(Exception):  # there is another error that tells why
            self._writer.close()
        with suppress(SagdError):
            self._place.__exit__(SagdError, error, None)
