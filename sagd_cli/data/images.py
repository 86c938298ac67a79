"""Image files <-> NumPy arrays. Hostile files are refused here, each with one sentence that names it.

Memory holds images channels first, (C, H, W), with C = 1 (grey) or 3 (RGB). `formats` knows the formats.
"""

import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sagd_cli.data.formats import (
    MAX_FILE_BYTES,
    accepted_suffixes,
    decode,
    encode,
    format_in,
    format_of,
    read_metadata,
)
from sagd_cli.data.metadata import NOTHING, Metadata
from sagd_cli.data.ranges import image_pixels, image_signal, to_bytes
from sagd_cli.errors import DataError, SagdError, UsageError
from sagd_cli.system.files import atomic_path, reason_of, shown_path


@dataclass(frozen=True, eq=False)
class Image:
    """An image as read from `path`."""

    pixels: np.ndarray  # (C, H, W), C = 1 or 3, uint8 | uint16 | float32
    alpha: np.ndarray | None  # (H, W), of the same type; straight, not multiplied into `pixels`
    path: Path
    metadata: Metadata = NOTHING  # what else the file holds and `write_image` carries over


def read_image(path: Path) -> Image:
    """Read an image file of any format at its own depth, upright as its EXIF says.

    Palettes and fewer than 8 bits become grey, RGB or RGBA of 8 bits.

    Its content says which format it is in, whatever its suffix. Raises `DataError` on what `formats.decode` refuses,
    and when it is not a regular file, cannot be opened or is in no known format.
    """
    try:
        data = _contents(path)
        name = format_in(data)
        samples = decode(data, name)
    except DataError as error:
        raise DataError(f"{shown_path(path)} {error.message}", error.hint) from error
    channels = 1 if samples.shape[2] < 3 else 3
    pixels = np.ascontiguousarray(np.moveaxis(samples[..., :channels], 2, 0))
    alpha = None if samples.shape[2] == channels else np.ascontiguousarray(samples[..., channels])
    return Image(pixels, alpha, path, metadata=read_metadata(data, name))


def write_image(image_like: Image, pixels: np.ndarray, path: Path) -> None:
    """Write `pixels` (C, H, W) to `path`, whose suffix names a lossless format, with the rest of `image_like`.

    The rest is its alpha, and as much of its metadata as the format can hold. The file appears whole or not at all, and
    an old one stays until then. Raises ValueError when the shape or type of `pixels` is not that of `image_like`,
    `DataError` when the format cannot hold them unchanged, and `SagdError` when the disk is full or the folder cannot
    be written to.
    """
    like = image_like.pixels
    if pixels.shape != like.shape or pixels.dtype != like.dtype:
        raise ValueError(f"pixels are {pixels.dtype}{pixels.shape}, the image is {like.dtype}{like.shape}")
    planes = pixels if image_like.alpha is None else np.concatenate([pixels, image_like.alpha[None]])
    try:
        data = encode(np.moveaxis(planes, 0, 2), _known_format(path), image_like.metadata)
    except DataError as error:
        raise DataError(f"{shown_path(path)} {error.message}", error.hint) from error
    _write_atomically(data, path)


def write_array(pixels: np.ndarray, path: Path) -> None:
    """Write `pixels` (C, H, W), of a type that an `Image` has, as a new image without alpha.

    Raises what `write_image` raises.
    """
    write_image(Image(pixels, None, path), pixels, path)


def contact_sheet(images: np.ndarray) -> np.ndarray:
    """Lay out images (N, C, H, W) of uint8 on one sheet, row by row, with grey margins; return it as (C, H', W').

    Small images are enlarged by a whole factor, so that 8x8 digits can be looked at. A pixel becomes a square.
    """
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


def read_alike(paths: Sequence[Path], size: int | None = None) -> Iterator[np.ndarray]:
    """Yield the images at `paths` as training data, (C, H, W) of uint8 without their alpha, one at a time.

    With `size`, `resized_square` brings them to size x size pixels. Raises `DataError` on a file that cannot be read,
    and on images of different sizes, or of grey and RGB, where it names two files; `UsageError` when `size` is below 1.
    """
    if size is not None and size < 1:
        raise UsageError(f"the size is {size}, and must be at least 1 pixel")
    first = None
    for path in paths:
        pixels = read_image(path).pixels
        image = to_bytes(pixels if size is None else resized_square(pixels, size))
        first = image if first is None else first
        _check_alike(first, image, paths[0], path)
        yield image


def _known_format(path: Path) -> str:
    name = format_of(path)
    if name is None:
        raise DataError(
            "does not have the suffix of an accepted format", f"Accepted are {accepted_suffixes()}."
        )
    return name


def _contents(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for a writer for ever
            raise DataError("is a folder" if path.is_dir() else "is not a regular file")
        if status.st_size > MAX_FILE_BYTES:
            raise DataError(f"is larger than {MAX_FILE_BYTES // 2**30} GiB, the most that is read")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be opened: {reason_of(error)}") from error


def _write_atomically(data: bytes, path: Path) -> None:
    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        hint = "Free some space, or choose another output folder."
        raise SagdError(f"{shown_path(path)} cannot be written: {reason_of(error)}", hint) from error


def resized_square(pixels: np.ndarray, size: int) -> np.ndarray:
    """Return the central square of `pixels` (C, H, W) resized to (C, size, size), of the same type.

    The filter is Lanczos's, which averages when it reduces, and can go beyond black and white; floats keep that.
    """
    import PIL.Image as Pillow

    height, width = pixels.shape[1:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image_signal(pixels[:, top : top + side, left : left + side])
    resized = [
        np.asarray(Pillow.fromarray(plane).resize((size, size), Pillow.Resampling.LANCZOS))
        for plane in square
    ]
    return image_pixels(np.stack(resized), pixels.dtype)


def _check_alike(first: np.ndarray, other: np.ndarray, first_path: Path, path: Path) -> None:
    names = shown_path(first_path), shown_path(path)
    if first.shape[0] != other.shape[0]:
        kinds = ["grey" if image.shape[0] == 1 else "RGB" for image in (first, other)]
        raise DataError(
            f"{names[0]} is {kinds[0]} and {names[1]} is {kinds[1]}: the images of a set are of one kind",
            "Convert them all to grey or all to RGB.",
        )
    if first.shape != other.shape:
        sizes = [f"{image.shape[2]} x {image.shape[1]}" for image in (first, other)]
        raise DataError(
            f"{names[0]} is {sizes[0]} pixels and {names[1]} is {sizes[1]}: the images of a set have one size",
            "Add --size N (train, data prepare) to cut and resize them all to N x N.",
        )
