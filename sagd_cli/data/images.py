"""Image files <-> NumPy arrays. Hostile files are refused here, each with one sentence that names it.

Memory holds images channels first, (C, H, W), with C = 1 (grey) or 3 (RGB). `formats` knows the formats.
"""

import stat
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

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
from sagd_cli.data.ranges import (
    UNIT,
    Range,
    Signal,
    clipped_values,
    image_pixels,
    image_signal,
    type_range,
)
from sagd_cli.errors import DataError, SagdError
from sagd_cli.system.files import atomic_path, reason_of, shown_path

# Values that stand for missing data. Others are larger than any measurement (netCDF's, the ends of float32), or lie by
# themselves: so many times the span of all others away.
NO_DATA = (-9999.0, -32768.0, -99999.0)
IMPOSSIBLE, FAR = 1e29, 10


@dataclass(frozen=True, eq=False)
class Image:
    """An image as read from `path`.

    `range` says which of its values are black and white: as a file of ours states, and as is then decided for the set
    it belongs to (`ranges.RangeSurvey`); None where neither is known, and the range of the type holds.
    """

    pixels: np.ndarray  # (C, H, W), C = 1 or 3, uint8 | uint16 | float32
    alpha: np.ndarray | None  # (H, W), of the same type; straight, not multiplied into `pixels`
    path: Path
    range: Range | None = None
    metadata: Metadata = NOTHING  # what else the file holds and `write_image` carries over

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

    @property
    def float_values(self) -> Range:
        """Black and white of this image as floats: [0, 1] for integers with the range of their type, else its own."""
        return UNIT if self.values == type_range(self.pixels.dtype) else self.values

    def clipped(self, signal: Signal) -> float:
        """Return the share of the values of a signal that `pixels_of` clips."""
        return clipped_values(signal, self.pixels.dtype, self.range) / signal.size

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
    metadata = read_metadata(data, name)
    refuse_missing(pixels, shown_path(path), metadata.no_data)
    stated = Range(*metadata.values) if metadata.values and Range.is_sound(*metadata.values) else None
    return Image(pixels, alpha, path, stated, metadata)


def refuse_missing(pixels: np.ndarray, subject: str, stated: float | None = None) -> None:
    """Raise DataError, which names `subject`, when a value in `pixels` seems to stand for missing data.

    That is the value `stated` for it: among floats always, among integers where it is far from the others. Without, it
    is an end of the floats that is one of NO_DATA, beyond all physics, or of several pixels and far from the others.
    """
    value = _missing_value(pixels, stated)
    if value is not None:
        count = int(np.count_nonzero(pixels == pixels.dtype.type(value)))
        raise DataError(
            f"{subject} holds {value:.7g} at {count} of its values, which seems to stand for missing data",
            "Fill these pixels first, for example from their neighbours.",
        )


def _missing_value(pixels: np.ndarray, stated: float | None) -> float | None:
    is_float = pixels.dtype.kind == "f"
    ends = (
        {float(pixels.min()), float(pixels.max())}
        if pixels.size and (is_float or stated is not None)
        else set()
    )
    for end in ends:
        others = pixels[pixels != end]
        low, high = (float(others.min()), float(others.max())) if others.size else (end, end)
        gap, span = max(low - end, end - high), high - low
        is_alone = gap > FAR * span > 0 and pixels.size - others.size > 1
        if is_float and (end in NO_DATA or abs(end) > IMPOSSIBLE or is_alone):
            return end
        if not is_float and end == stated and gap > span:
            return end
    return stated if is_float and stated is not None and (pixels == np.float32(stated)).any() else None


def write_image(image_like: Image, pixels: np.ndarray, path: Path) -> None:
    """Write `pixels` (C, H, W) to `path`, whose suffix names a lossless format, with the rest of `image_like`.

    The rest is its alpha, and as much of its metadata as the format can hold; a TIFF file states its range. The file
    appears whole or not at all, and an old one stays until then. Raises ValueError when the shape or type of `pixels`
    is not that of `image_like`, `DataError` when the format cannot hold them unchanged, and `SagdError` when the disk
    is full or the folder cannot be written to.
    """
    like = image_like.pixels
    if pixels.shape != like.shape or pixels.dtype != like.dtype:
        raise ValueError(f"pixels are {pixels.dtype}{pixels.shape}, the image is {like.dtype}{like.shape}")
    planes = pixels if image_like.alpha is None else np.concatenate([pixels, image_like.alpha[None]])
    try:
        data = encode(np.moveaxis(planes, 0, 2), _known_format(path), _metadata(image_like))
    except DataError as error:
        raise DataError(f"{shown_path(path)} {error.message}", error.hint) from error
    _write_atomically(data, path)


def _metadata(image: Image) -> Metadata:
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
