"""Image files <-> NumPy arrays. Hostile files are refused here, each with one sentence that names it.

Memory holds images channels first, (C, H, W), with C = 1 (grey) or 3 (RGB). `formats` knows the formats.
"""

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sagd_cli.data.missing import Missing, split_missing
from sagd_cli.data.ranges import (
    UNIT,
    Range,
    Signal,
    changed_pixels,
    clipped_values,
    image_pixels,
    image_signal,
    type_range,
)
from sagd_cli.errors import DataError, SagdError
from sagd_cli.files.formats import (
    accepted_suffixes,
    decode,
    decoded,
    encode,
    format_in,
    format_of,
    read_metadata,
    stack_form,
)
from sagd_cli.files.layout import StackForm, check_file_size, is_store, metadata_of_axes
from sagd_cli.files.metadata import NOTHING, Metadata
from sagd_cli.system.console import output
from sagd_cli.system.failures import foreseen
from sagd_cli.system.files import atomic_path, reason_of, shown_path


class ImagePlace(NamedTuple):
    """Where an image is: a file, or image number `page` of a stack."""

    path: Path
    page: int | None = None

    @property
    def name(self) -> str:
        """The name of the file, with the number in a stack from 1 on."""
        return self.path.name if self.page is None else f"{self.path.name}, image {self.page + 1}"

    @property
    def shown(self) -> str:
        """The path as text for a message, with the number in a stack."""
        return shown_path(self.path) + ("" if self.page is None else f", image {self.page + 1},")

    def read(self) -> "Image":
        """Read the image; raise what `read_image` raises."""
        return read_image(*self)


@dataclass(frozen=True, eq=False)
class Image:
    """An image as read from `path`, or from a stack there.

    `range` says which of its values are black and white: as a file of ours states, and as is then decided for the set
    it belongs to (`ranges.RangeSurvey`); None where neither is known, and the range of the type holds.
    """

    pixels: np.ndarray  # (C, H, W), C = 1 or 3, of one of IMAGE_TYPES; finite
    alpha: np.ndarray | None  # (H, W), of the same type; straight, not multiplied into `pixels`
    path: Path
    range: Range | None = None
    metadata: Metadata = NOTHING  # what else the file holds and `write_image` carries over
    missing: Missing | None = None  # which pixels were filled, and what the file holds there
    page: int | None = None  # the number in a stack, of the form `stack`
    stack: StackForm | None = None  # also of one image, where it is written in such a form

    @property
    def place(self) -> ImagePlace:
        """Where the image is."""
        return ImagePlace(self.path, self.page)

    @property
    def values(self) -> Range:
        """Black and white."""
        return self.range or type_range(self.pixels.dtype)

    @property
    def signal(self) -> NDArray[np.float32]:
        """The pixels (C, H, W) on [-1, 1]."""
        return image_signal(self.pixels, self.range)

    def pixels_of(self, signal: Signal) -> np.ndarray:
        """Return a signal as pixels of this image's type and range; raise what `image_pixels` raises."""
        return image_pixels(signal, self.pixels.dtype, self.range)

    def changed(self, before: Signal, after: Signal) -> np.ndarray:
        """Return the pixels as they are after a change of their signal; raise what `changed_pixels` raises."""
        return changed_pixels(self.pixels, np.subtract(after, before, dtype=np.float64), self.range)

    def alone(self, pixels: np.ndarray) -> "Image":
        """Return other pixels in the place of this image, with nothing of what belongs to these but a stack's axes."""
        is_stacked = self.stack is not None and self.alpha is None
        metadata = metadata_of_axes(self.metadata) if is_stacked else NOTHING
        return Image(pixels, None, self.path, metadata=metadata, page=self.page, stack=self.stack)

    @property
    def is_empty(self) -> bool:
        """Whether it holds nothing but missing data in one of its channels, which are 0 here."""
        return self.missing is not None and self.missing.is_whole

    @property
    def float_values(self) -> Range:
        """Black and white of this image as floats: [0, 1] for integers with the range of their type, else its own."""
        return UNIT if self.values == type_range(self.pixels.dtype) else self.values

    def clipped(self, signal: Signal) -> float:
        """Return the share of the values of a signal that are clipped when they are written."""
        ends = None if self.stack is None else self.stack.ends
        if ends is None:
            return clipped_values(signal, self.pixels.dtype, self.range) / signal.size
        values = self.pixels_of(signal)
        return float(np.mean((values < ends[0]) | (values > ends[1])))

    @property
    def opaque(self) -> np.ndarray:
        """The pixels (C, H, W) as they look on a white ground, where alpha lets it through."""
        cover = self.cover
        if cover is None or (cover == 1).all():
            return self.pixels
        return self.pixels_of(cover * (self.signal - 1) + 1)

    @property
    def cover(self) -> NDArray[np.float32] | None:
        """The alpha (H, W) from 0 to 1, None without one; its full value is that of the type or white, as it fits."""
        if self.alpha is None:
            return None
        ends = sorted([type_range(self.alpha.dtype).high, self.values.high])
        full = ends[0] if self.alpha.max() <= ends[0] else ends[1]
        return np.asarray(self.alpha, np.float32) / np.float32(full)


def images_in(path: Path) -> list[ImagePlace]:
    """Return where the images of a file are; those with a suffix of JPEG, of which sets have millions, hold one."""
    form = None if format_of(path) == "JPEG" else stack_form(path)
    is_one = form is None or form.count == 1
    return [ImagePlace(path)] if is_one or form is None else [ImagePlace(path, k) for k in range(form.count)]


def read_image(path: Path, page: int | None = None) -> Image:
    """Read an image file of any format at its own depth, upright as its EXIF says, or image `page` of a stack.

    Palettes and fewer than 8 bits become grey, RGB or RGBA of 8 bits. Missing data are filled, with a note. Its content
    says its format. Raises `DataError` on what `formats.decode` refuses, and when it is no regular file, cannot be
    opened, is in no known format or holds no data.
    """
    image = read_even_empty(path, page)
    if image.is_empty:
        raise DataError(f"{image.place.shown} holds nothing but missing data in one of its channels")
    return image


def read_even_empty(path: Path, page: int | None = None) -> Image:
    """Read an image as `read_image` does, also one that holds nothing but missing data."""
    place = ImagePlace(path, page)
    try:
        form = stack_form(path)
        if form is None or (page is None and form.count > 1):
            return image_in(_contents(path), path)
        samples, metadata = decoded(form.format, partial(form.decode, page or 0))
        return replace(_image(path, samples, metadata), page=page, stack=form)
    except DataError as error:
        raise DataError(f"{place.shown} {error.message}", error.hint) from error


def image_in(data: bytes, path: Path) -> Image:
    """Return the image in `data`, the bytes of a file at `path`, also an empty one; errors lack their subject."""
    name = format_in(data)
    return _image(path, decode(data, name), read_metadata(data, name))


def _image(path: Path, samples: np.ndarray, metadata: Metadata) -> Image:
    channels = 1 if samples.shape[2] < 3 else 3
    pixels = np.ascontiguousarray(np.moveaxis(samples[..., :channels], 2, 0))
    alpha = None if samples.shape[2] == channels else np.ascontiguousarray(samples[..., channels])
    if alpha is not None and alpha.dtype.kind == "f" and not np.isfinite(alpha).all():
        raise DataError("has alpha that is no finite number", "Replace its NaN and infinite values.")
    pixels, missing = split_missing(pixels, metadata.no_data)
    if metadata.has_copies:
        output().once(
            "smaller copies of images in their files, such as the levels of a pyramid, are left out"
        )
    if missing is not None and not missing.is_whole:
        what = f"missing data ({missing.shown})"
        output().once(f"{what} are filled from what lies around them; images that are written keep them")
    stated = Range(*metadata.values) if metadata.values and Range.is_sound(*metadata.values) else None
    return Image(pixels, alpha, path, stated, metadata, missing)


def write_image(image_like: Image, pixels: np.ndarray, path: Path) -> None:
    """Write `pixels` (C, H, W) to `path`, whose suffix names a lossless format, with the rest of `image_like`.

    The rest is its alpha, and as much of its metadata as the format can hold; a TIFF file states its range. The file
    appears whole or not at all. Raises ValueError on `pixels` of another shape or type than `image_like`, `DataError`
    when the format cannot hold them unchanged, and `SagdError` when it cannot be written.
    """
    try:
        data = encode(samples_of(image_like, pixels), known_format(path), metadata_of_image(image_like))
    except DataError as error:
        raise DataError(f"{shown_path(path)} {error.message}", error.hint) from error
    with naming(path), atomic_path(path) as temporary:
        temporary.write_bytes(data)


def samples_of(image_like: Image, pixels: np.ndarray) -> np.ndarray:
    """Return the samples (H, W, S) to write: the pixels, what is missing among them, and alpha."""
    like = image_like.pixels
    if pixels.shape != like.shape or pixels.dtype != like.dtype:
        raise ValueError(f"pixels are {pixels.dtype}{pixels.shape}, the image is {like.dtype}{like.shape}")
    if image_like.missing is not None:
        pixels = image_like.missing.put_back(pixels)
    planes = pixels if image_like.alpha is None else np.concatenate([pixels, image_like.alpha[None]])
    return np.moveaxis(planes, 0, 2)


def metadata_of_image(image: Image) -> Metadata:
    """Return the metadata to write, with black and white where they are known and not those of an integer type."""
    is_plain = image.pixels.dtype.kind == "u" and image.values == type_range(image.pixels.dtype)
    return replace(
        image.metadata,
        values=None if image.range is None or is_plain else (image.range.low, image.range.high),
    )


def write_array(pixels: np.ndarray, path: Path) -> None:
    """Write `pixels` (C, H, W), of a type that an `Image` has, as a new image without alpha.

    Raises what `write_image` raises.
    """
    write_image(Image(pixels, None, path), pixels, path)


def contact_sheet(images: np.ndarray) -> np.ndarray:
    """Lay out images (N, C, H, W) of uint8 on one sheet (C, H', W'), small ones enlarged by a whole factor."""
    count, channels, height, width = images.shape
    columns = int(np.ceil(np.sqrt(count)))
    scale, margin = max(1, 48 // max(height, width)), 2
    cell_height, cell_width = height * scale + margin, width * scale + margin
    rows = -(-count // columns)
    sheet = np.full((channels, rows * cell_height + margin, columns * cell_width + margin), 96, np.uint8)
    for i, image in enumerate(images):
        top, left = (i // columns) * cell_height + margin, (i % columns) * cell_width + margin
        enlarged = image.repeat(scale, axis=1).repeat(scale, axis=2)
        sheet[:, top : top + height * scale, left : left + width * scale] = enlarged
    return sheet


def known_format(path: Path) -> str:
    """Return the name of the format that the suffix of `path` stands for; raise DataError where it stands for none."""
    name = format_of(path)
    if name is None:
        raise DataError(
            "does not have the suffix of an accepted format", f"Accepted are {accepted_suffixes()}."
        )
    return name


def _contents(path: Path) -> bytes:
    if is_store(path):
        decode(path, "Zarr")  # raises why it is not read
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for a writer for ever
            raise DataError("is a folder" if path.is_dir() else "is not a regular file")
        check_file_size(status.st_size)
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be opened: {reason_of(error)}") from error


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Raise an OSError of the block as SagdError, which names the file at `path`."""
    try:
        yield
    except OSError as error:
        known = foreseen(error)
        raise SagdError(
            f"{shown_path(path)} cannot be written: {reason_of(error)}",
            (known and known.hint) or "Choose another output folder.",
        ) from error
