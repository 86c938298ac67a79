"""Image files as training data: of one size, one depth and one colour model, read one at a time."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from sagd_cli.data.images import Image
from sagd_cli.data.ranges import Range, Ranges, RangeSurvey, Signal, clipped_values, to_bytes, type_range
from sagd_cli.errors import DataError
from sagd_cli.system.console import output

Mode = Literal["rgb", "grey"]
MOST_NAMED = 20
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


class Place(Protocol):
    """Where an image is: a file, a page of a stack, a member of an archive. `shown` is its name in messages."""

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

    With `size`, the centre square is cut and resized to that side. With `mode`, grey images become RGB, or RGB images
    grey. `given` says which values are black and white; without it `RangeSurvey` decides, for which files that are not
    of bytes are read once more.
    """

    places: Places
    size: int | None = None
    mode: Mode | None = None
    given: Range | None = None

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.places)

    def alike(self, numbers: Sequence[int] | None = None) -> Iterator[NDArray[Any]]:
        """Yield the images (C, H, W), or those of these `numbers`: floats as signals of float32, integers as uint8.

        Raises `DataError` on files that cannot be read, which names them all; on images of different sizes, of grey and
        RGB, and of floats and integers, where it names two files.
        """
        first: NDArray[Any] | None = None
        clipped, narrow = 0, self.given
        wanted = self._numbers(numbers)
        for index, image in zip(wanted, self._images(wanted), strict=True):
            is_float = image.pixels.dtype.kind == "f"
            if image.range is not None and not is_float:
                beyond = clipped_values(image.signal, np.dtype(np.uint8))
                clipped, narrow = clipped + beyond, image.range if beyond else narrow
            picture: NDArray[Any] = image.signal if is_float else to_bytes(image.pixels, image.range)
            first = picture if first is None else first
            _check_alike(first, picture, self.places[wanted[0]], self.places[index])
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

    def _images(self, numbers: Sequence[int], leaves_out: bool = False) -> Iterator[Image]:
        transparent, faults = 0, list[DataError]()
        for index in numbers:
            try:
                image = self.places[index].read()
            except DataError as error:
                if not leaves_out:
                    raise self._all_faults(index, error) from error
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
        if self.size is None and self.mode is None:
            return image
        signal = _in_mode(image.signal, self.mode)
        signal = signal if self.size is None else _resized_square(signal, self.size)
        return replace(image, pixels=image.pixels_of(signal))

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

    def _all_faults(self, index: int, error: DataError) -> DataError:
        """Return an error that names all files that cannot be read, the first of which is number `index`."""
        found = [error]
        with output().progress("check", len(self), index + 1) as bar:
            for later in range(index + 1, len(self)):
                try:
                    self.places[later].read()
                except DataError as other:
                    found.append(other)
                bar.advance()
        return self._all(found)

    def _all(self, found: Sequence[DataError]) -> DataError:
        """Return one error for all that were found."""
        if len(found) == 1:
            return found[0]
        named = "; ".join(fault.message for fault in found[:MOST_NAMED])
        more = f"; and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
        return DataError(
            f"{len(found)} of {len(self)} images cannot be read: {named}{more}",
            "Mend them or take them away.",
        )


def _in_mode(signal: Signal, mode: Mode | None) -> Signal:
    """Return a signal (C, H, W) with the channels that `mode` asks for."""
    if mode == "rgb" and len(signal) == 1:
        return signal.repeat(3, axis=0)
    if mode == "grey" and len(signal) == 3:
        return np.tensordot(LUMA, signal, 1)[None]
    return signal


def _resized_square(signal: Signal, size: int) -> Signal:
    """Return the central square of a signal (C, H, W) resized to (C, size, size).

    The filter is Lanczos's, which averages when it reduces, and can go beyond black and white.
    """
    import PIL.Image as Pillow

    height, width = signal.shape[1:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = signal[:, top : top + side, left : left + side]
    return np.stack(
        [
            np.asarray(Pillow.fromarray(plane).resize((size, size), Pillow.Resampling.LANCZOS))
            for plane in square
        ]
    )


def _check_alike(first: np.ndarray, other: np.ndarray, first_place: Place, place: Place) -> None:
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
