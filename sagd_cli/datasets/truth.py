"""True and clean images beside damaged ones: one unit, or two whose black and white are the same."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sagd_cli.config.arguments import parse_dataset
from sagd_cli.config.run import DatasetConfig
from sagd_cli.data.folders import KEPT_BYTES, collect, list_images
from sagd_cli.data.images import Image, ImagePlace, images_in, read_image
from sagd_cli.data.ranges import Range, Ranges, RangeSurvey, Signal, image_signal
from sagd_cli.datasets.loading import load_drawable
from sagd_cli.errors import DataError, UsageError
from sagd_cli.system.console import output

NEARER = 0.9  # of the mean squared difference, when another reading of the truth is nearer to its image


@dataclass(frozen=True, eq=False)
class Truth:
    """A true image: its `signal` (C, H, W) on the range of the image it belongs to, and its black and white there."""

    signal: NDArray[np.float32]
    ends: tuple[float, float] = (-1.0, 1.0)

    @classmethod
    def of(cls, truth: Image, image: Image) -> "Truth":
        """Return `truth` as the truth of `image`.

        Their values have one unit, unless the two are nearer when black and white of one are taken for those of the
        other. Raises DataError where that is so and black and white of one are not known.
        """
        same, matched = image_signal(truth.pixels, image.values), truth.signal
        if _difference(matched, image.signal) < NEARER * _difference(same, image.signal):
            _check_known(truth, image)
            return cls(matched)
        values = image.values if image.values.given and truth.values.found else truth.values
        ends = image_signal(np.array(values.ends), image.values)
        return cls(same, (float(ends[0]), float(ends[1])))

    def on_its_range(self, signal: Signal) -> Signal:
        """Return a signal of the image, for which black and white of the truth become -1 and 1."""
        black, white = self.ends
        if (black, white) == (-1, 1):
            return signal
        return (signal - black) * (2 / (white - black)) - 1


@dataclass
class TrueImages:
    """The true images, by the path of the damaged file; `given` is the range of their values, where the user says it.

    Those that `check` read are kept, up to `KEPT_BYTES`, until `of` returns them.
    """

    paths: dict[Path, Path]
    given: Range | None = None
    ranges: Ranges = field(default_factory=lambda: Ranges({}))
    kept: dict[ImagePlace, Image] = field(default_factory=dict)

    @classmethod
    def found(cls, paths: Sequence[Path], truth: Path | None, given: Range | None) -> "TrueImages":
        """Find the true image of each damaged file by its name without suffix, in `truth`, a folder or a file.

        Raises UsageError when one is missing.
        """
        if truth is None:
            return cls({})
        found = {path.stem: path for path in list_images(truth)}
        missing = [path.name for path in paths if path.stem not in found]
        if missing:
            raise UsageError(
                f"{truth} has no image for {missing[0]} ({len(missing)} are missing)", "Names must match."
            )
        return cls({path: found[path.stem] for path in paths}, given)

    def check(self, images: Sequence[Image]) -> None:
        """Look at the true images of `images`, and decide where their black and white lie.

        Raises DataError, before any work, when one cannot be read, has another shape than its image, or has other units
        and it is not known which.
        """
        size, survey = 0, RangeSurvey()
        for image in images if self.paths else ():
            truth = self._read(image)
            survey.add(truth.pixels, truth.range)
            size += truth.pixels.nbytes
            if size <= KEPT_BYTES:
                self.kept[image.place] = truth
        self.ranges = _truth_ranges(survey.decided(), images, self.given)
        for image in images:
            if image.place in self.kept:
                self._beside(self.kept[image.place], image)

    def of(self, image: Image) -> Truth | None:
        """Return the truth of `image`, or None when no true images were given; raise what `check` raises."""
        if image.path not in self.paths:
            return None
        truth = self.kept.pop(image.place, None) or self._read(image)
        return self._beside(truth, image)

    def _beside(self, truth: Image, image: Image) -> Truth:
        return Truth.of(replace(truth, range=self.ranges.of(truth.pixels.dtype, truth.range)), image)

    def _read(self, image: Image) -> Image:
        path = self.paths[image.path]
        if image.stack is not None and len(images_in(path)) != image.stack.count:
            raise DataError(
                f"{path} holds {len(images_in(path))} image(s), and {image.path} {image.stack.count}",
                "The truth of a stack is a stack of as many images.",
            )
        truth = read_image(path, image.page)
        if truth.pixels.shape != image.pixels.shape:
            raise DataError(
                f"{truth.path} has the shape {truth.pixels.shape}, and {image.path} {image.pixels.shape}",
                "A true image has the size and colours of the damaged one.",
            )
        return truth


def clean_signals(clean: Sequence[Image], damaged: Sequence[Image]) -> list[NDArray[np.float32]]:
    """Return the signals (C, H, W) of clean images, as those of images like the `damaged` ones.

    Black and white are the same where both are known. Otherwise values of one type, integers or floats, have one unit.
    Raises DataError where they are of two types.
    """
    if not damaged:
        return [image.signal for image in clean]
    # Damaged images have one range for each type, so one of them whose range was found stands for all.
    other = next((image for image in damaged if image.values.found), damaged[0])
    return [_as_those_of(other, image) for image in clean]


def _as_those_of(other: Image, image: Image) -> NDArray[np.float32]:
    if not (image.values.found or other.values.found):
        return image.signal
    if image.pixels.dtype != other.pixels.dtype:
        _check_known(image, other)
    return image_signal(image.pixels, other.values)


def _truth_ranges(own: Ranges, images: Sequence[Image], given: Range | None) -> Ranges:
    """Return the ranges of true images, whose `own` were decided without what the user says of the damaged `images`.

    What is `given` holds for the types of images that it is given for, where the true images do not tell better.
    """
    if given is None:
        return own
    told = {image.pixels.dtype.name for image in images if image.values.given}
    told = {name for name in told if name in own.by_type and own.by_type[name].found}
    return Ranges({**own.by_type, **Ranges.told(given, told).by_type}, own.remarks)


def _difference(one: Signal, other: Signal) -> float:
    return float(np.mean((one.astype(np.float64) - other) ** 2))


def _check_known(true: Image, image: Image) -> None:
    unknown = next((one for one in (image, true) if one.values.found), None)
    if unknown is not None:
        hint = (
            "Say them with --range LO:HI."
            if unknown is image
            else "Give true images in the units of the damaged ones."
        )
        raise DataError(
            f"{true.path} has other units than {image.path}, and black and white of {unknown.path} are not known "
            f"(its values are on {unknown.values})",
            hint,
        )


@dataclass(frozen=True)
class CleanImages:
    """Clean `images`, and `data`, where they are from. Where they are floats of a data set, they have no unit."""

    data: DatasetConfig
    images: Sequence[Image]
    have_unit: bool = True

    def signals(self, damaged: Sequence[Image]) -> list[NDArray[np.float32]]:
        """Return the signals (C, H, W), on the range of the `damaged` images where the units are theirs."""
        if not self.have_unit:
            return [image.signal for image in self.images]
        return clean_signals(self.images, damaged)


def clean_images(text: str) -> CleanImages:
    """Read the clean images that `text` (DATA) names.

    DATA is a data set of grey or RGB images of one size, or a folder of images of any sizes, where no option brings
    them to one. Floats of a data set are signals on [-1, 1]. Raises what reading the data raises, DataError when no
    image of a folder can be read, and UsageError when the data are no images.
    """
    data = parse_dataset(text)
    given = {key for key, value in data.options.items() if value is not None}
    folder = Path(data.options.get("path", ""))
    if data.name == "folder" and given == {"path"} and folder.exists():
        images = collect(list_images(folder), None, output()).some
        return CleanImages(data, [replace(image, pixels=image.opaque, alpha=None) for image in images])
    loaded = load_drawable(data).images
    if loaded.dtype == np.uint8:
        return CleanImages(data, [Image(image, None, Path(text)) for image in loaded])
    signals = loaded.astype(np.float32, copy=False)
    return CleanImages(
        data, [Image(image, None, Path(text), Range(-1, 1)) for image in signals], have_unit=False
    )
