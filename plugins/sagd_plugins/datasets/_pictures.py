"""Image files as training data: of one size, one depth and one colour model, read one at a time."""

import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from sagd_cli.data.images import Image
from sagd_cli.data.journal import file_state
from sagd_cli.data.members import Member
from sagd_cli.data.ranges import Range, Ranges, RangeSurvey, clipped_values, to_bytes, type_range
from sagd_cli.errors import DataError, UnreadableError
from sagd_cli.files.squares import jpeg_square, resized_square
from sagd_cli.system.console import output
from sagd_cli.system.threads import in_order

Mode = Literal["rgb", "grey"]
MOST_NAMED = 20
FEW = 8  # images, for which no threads are started
JPEG_HEAD = b"\xff\xd8\xff"
LARGEST_AHEAD = 1 << 26  # bytes of a file that is read ahead
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


class Place(Protocol):
    """Where an image is: a file, a page of a stack, a member of an archive. `shown` is its name in messages."""

    @property
    def path(self) -> Path:
        """The file, or the one that it lies in."""
        ...

    @property
    def shown(self) -> str:
        """The name."""
        ...

    def read(self) -> Image:
        """Read the image; raise DataError, which names it, where it cannot be read."""
        ...


class Places(Protocol):
    """The places of the images of a set, by their numbers."""

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def __getitem__(self, number: int, /) -> Place:
        """Return the place of an image."""
        ...


@dataclass(frozen=True, eq=False)
class Pictures:
    """The images at `places`, on a white ground where they are transparent.

    With `size`, the centre square is cut and resized to that side (`files.squares`). With `mode`, grey images become
    RGB, or RGB images grey. `given` says which values are black and white; without it `RangeSurvey` decides, for which
    files that are not of bytes are read once more.
    """

    places: Places
    size: int | None = None
    mode: Mode | None = None
    given: Range | None = None
    _first: list[tuple[NDArray[Any], Place]] = field(default_factory=list, init=False)  # that was read

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.places)

    def alike(self, numbers: Sequence[int] | None = None) -> Iterator[NDArray[Any]]:
        """Yield the images (C, H, W), or those of these `numbers`: floats as signals of float32, integers as uint8.

        Raises `DataError` on files that cannot be read, which names them all; on images of different sizes, of grey and
        RGB, and of floats and integers, where it names two files.
        """
        clipped, narrow = 0, self.given
        wanted = self._numbers(numbers)
        for index, image in zip(wanted, self._images(wanted), strict=True):
            is_float = image.pixels.dtype.kind == "f"
            if image.range is not None and not is_float:
                beyond = clipped_values(image.signal, np.dtype(np.uint8))
                clipped, narrow = clipped + beyond, image.range if beyond else narrow
            picture: NDArray[Any] = image.signal if is_float else to_bytes(image.pixels, image.range)
            if not self._first:
                self._first.append((picture, self.places[index]))
            _check_alike(*self._first[0], picture, self.places[index])
            yield picture
        if clipped:
            output().once(f"{clipped:,} values are outside the range {narrow}: they became black or white")

    def as_they_are(self, numbers: Sequence[int] | None = None) -> Iterator[NDArray[Any]]:
        """Yield the images (C, H, W), or those of these `numbers`, as `DatasetPlugin.stream` has them.

        They have their own depths, and their sizes may differ. Files that cannot be read are left out, and a warning
        names each. Raises `DataError` where no other is there.
        """
        for image in self._images(self._numbers(numbers), leaves_out=True):
            is_whole = image.pixels.dtype.kind == "u" and image.values == type_range(image.pixels.dtype)
            yield image.pixels if is_whole else image.signal

    def _numbers(self, given: Sequence[int] | None) -> Sequence[int]:
        return range(len(self)) if given is None else given

    def state(self, numbers: Iterable[int]) -> str:
        """Return a digest of the names, sizes and times of the files of the images `numbers`."""
        digest = sha256()
        for place in (self.places[index] for index in numbers):
            digest.update(repr((place.shown, file_state(place.path))).encode(errors="surrogateescape"))
        return digest.hexdigest()

    def _images(self, numbers: Sequence[int], leaves_out: bool = False) -> Iterator[Image]:
        transparent, faults = 0, list[DataError]()
        for count, (index, square) in enumerate(self._squares(numbers)):
            try:
                image = self.places[index].read() if square is None else square
            except DataError as error:
                if not leaves_out:
                    raise self._all_faults(numbers[count + 1 :], error) from error
                faults.append(error)
                continue
            if image.pixels.dtype != np.uint8 or self.given is not None:
                image = replace(image, range=self._ranges.of(image.pixels.dtype, image.range))
            pixels = image.opaque
            transparent += pixels is not image.pixels
            yield self._changed(replace(image, pixels=pixels, alpha=None))
        if transparent:
            output().once(
                f"{transparent} of {len(numbers)} images are transparent somewhere: they were laid on white"
            )
        if faults and len(faults) == len(numbers):
            raise self._all(faults)
        for fault in faults:
            output().once(fault.message, warns=True)

    def _changed(self, image: Image) -> Image:
        """Return the image in the size and mode asked for, its values of the same type."""
        if self.size is not None and image.pixels.shape[1:] != (self.size, self.size):
            image = _squared(image, self.size)
        return _in_mode(image, self.mode)

    @cached_property
    def _ranges(self) -> Ranges:
        if self.given is not None:
            return Ranges.told(self.given)
        survey = RangeSurvey()
        with output().progress("range", len(self)) as bar:
            for index in range(len(self)):
                # What cannot be read will be named when its turn comes.
                with suppress(DataError):
                    image = self.places[index].read()
                    survey.add(image.pixels, image.range)
                bar.advance()
        found = survey.decided()
        for remark in found.remarks:
            output().once(f"{remark} (range=LO:HI says otherwise)")
        return found

    def _squares(self, numbers: Sequence[int]) -> Iterator[tuple[int, Image | None]]:
        """Yield each of `numbers` with its image, where that is a JPEG file's square; threads make some, ahead."""
        if self.size is None:
            return ((index, None) for index in numbers)
        if len(numbers) < FEW:
            return ((index, self._jpeg_square(index)) for index in numbers)
        return in_order(self._jpeg_square, numbers, lambda _: 0.0)

    def _jpeg_square(self, index: int) -> Image | None:
        """Return the square of a JPEG file, None where it is to be read as other files are."""
        place = self.places[index]
        try:
            data = _jpeg_of(place)
        except (DataError, OSError):  # reading it in the usual way will say why
            return None
        samples = None if data is None or self.size is None else jpeg_square(data, self.size)
        return None if samples is None else Image(_planes(samples), None, place.path)

    def _all_faults(self, further: Sequence[int], error: DataError) -> UnreadableError:
        """Return an error that names all files that cannot be read, of one image and the `further` ones."""
        found = [error]
        with output().progress("check", len(further)) as bar:
            for index in further:
                try:
                    self.places[index].read()
                except DataError as other:
                    found.append(other)
                bar.advance()
        return self._all(found)

    def _all(self, found: Sequence[DataError]) -> UnreadableError:
        """Return one error for all that were found."""
        if len(found) == 1:
            return UnreadableError(found[0].message, found[0].hint)
        named = "; ".join(fault.message for fault in found[:MOST_NAMED])
        more = f"; and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
        return UnreadableError(
            f"{len(found)} of {len(self)} images cannot be read: {named}{more}",
            "Mend them or take them away.",
        )


def _jpeg_of(place: Place) -> bytes | None:
    """Return the bytes of a JPEG file that may be read ahead, None of others; raise what reading them raises.

    Its first bytes say that it is one, whatever its name.
    """
    if isinstance(place, Member):
        data = place.contents()
        return data if data.startswith(JPEG_HEAD) else None
    status = place.path.stat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST_AHEAD:
        return None
    with place.path.open("rb", buffering=0) as file:
        head = file.read(len(JPEG_HEAD))
        return head + file.readall() if head == JPEG_HEAD else None


def _in_mode(image: Image, mode: Mode | None) -> Image:
    """Return an image with the channels that `mode` asks for."""
    if mode == "rgb" and len(image.pixels) == 1:
        return replace(image, pixels=image.pixels.repeat(3, axis=0))
    if mode == "grey" and len(image.pixels) == 3:
        return replace(image, pixels=image.pixels_of(np.tensordot(LUMA, image.signal, 1)[None]))
    return image


def _squared(image: Image, size: int) -> Image:
    """Return the central square of an image resized to (C, size, size), its values of the same type."""
    if image.pixels.dtype == np.uint8:
        return replace(image, pixels=_planes(resized_square(np.moveaxis(image.pixels, 0, 2), size)))
    signal = _planes(resized_square(np.moveaxis(image.signal, 0, 2), size))
    return replace(image, pixels=image.pixels_of(signal))


def _planes(samples: NDArray[Any]) -> NDArray[Any]:
    """Return samples (H, W, S) as (S, H, W)."""
    return np.ascontiguousarray(np.moveaxis(samples, 2, 0))


def _check_alike(first: np.ndarray, first_place: Place, other: np.ndarray, place: Place) -> None:
    names = first_place.shown, place.shown
    if first.shape[0] != other.shape[0]:
        kinds = ["grey" if image.shape[0] == 1 else "RGB" for image in (first, other)]
        raise DataError(
            f"{names[0]} is {kinds[0]} and {names[1]} is {kinds[1]}: the images of a set are of one kind",
            "Add --mode rgb or --mode grey (data prepare), or mode=rgb to the options of the data set.",
        )
    if first.dtype != other.dtype:
        kinds = ["float" if image.dtype.kind == "f" else "integer" for image in (first, other)]
        raise DataError(
            f"{names[0]} holds {kinds[0]} values and {names[1]} {kinds[1]} ones: the images of a set are of one type",
            "Convert them all to one type.",
        )
    if first.shape != other.shape:
        sizes = [f"{image.shape[2]} x {image.shape[1]}" for image in (first, other)]
        raise DataError(
            f"{names[0]} is {sizes[0]} pixels and {names[1]} is {sizes[1]}: the images of a set have one size",
            "Add --size N (train, data prepare) to cut and resize them all to N x N.",
        )
