"""An array of images (N, C, *spatial) and their labels: a .npy file with what lies beside it, or an .npz archive."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from sagd_cli.data.missing import NO_DATA, refuse_missing
from sagd_cli.data.ranges import Range, image_signal
from sagd_cli.datasets.alike import ChangedImages
from sagd_cli.datasets.beside import read_beside
from sagd_cli.errors import DataError, UsageError
from sagd_cli.plugin import DatasetPlugin, LazyImageSet, Options, Split, hookimpl
from sagd_cli.plugin.records import Images
from sagd_cli.system.console import output
from sagd_plugins.datasets._arrays import read_arrays
from sagd_plugins.datasets._layouts import LAYOUTS, arranged, check_layout, described, likely_layouts
from sagd_plugins.datasets._range_option import RangeText, parsed

FIRST_VALUES = 2**22  # that are looked at
FARTHEST_SIGNAL = 100  # neither signals nor latents go further


class NpyOptions(Options):
    """Which file, which of its arrays, and what the axes of it are."""

    path: Path = Field(
        Path("images.npy"),
        description="A .npy file (N, C, *spatial), uint8 or float, labels beside it, or .npz with `images`, `labels`.",
    )
    layout: Annotated[str | None, AfterValidator(check_layout)] = Field(
        None, description=f"The {LAYOUTS}; null: (N, C, *spatial), where the shape leaves no doubt."
    )
    array: str | None = Field(None, description="Array of an .npz to read; null: `images`.")
    labels: str | None = Field(None, description="Labels in an .npz; null: `labels`, where it has them.")

    range: RangeText | None = Field(
        None,
        description="LO:HI, the values of black and white; null: bytes have 0 and 255, floats are signals on [-1, 1].",
    )

    later: ClassVar[tuple[str, ...]] = ("layout", "array", "labels", "range")


def build(options: NpyOptions, split: Split) -> LazyImageSet:
    """Map a .npy file into memory, and what lies beside it, or read an .npz archive; its images are (N, C, *spatial).

    Raises UsageError when there is no such file. Raises DataError when it holds no array of images, when its shape
    leaves in doubt what the axes are, on pickled content, and when what lies beside it does not fit.
    """
    arrays = _read(options, split)
    images = _images(options, arrays["images"], ["nt", "hw"])
    if isinstance(arrays["images"], np.memmap):
        return read_beside(options.path, images)
    names = tuple(map(str, np.atleast_1d(arrays.get("class_names", ()))))
    return LazyImageSet(images, arrays.get("labels"), names)


def stream(options: NpyOptions, split: Split) -> Images:
    """Map an array of any type into memory; (T,) is one signal of length T, (N, T) are N such signals.

    Raises what `build` raises. Of unsigned integers, (N, T) are in doubt: they may be an image (H, W).
    """
    array = _read(options, split)["images"]
    return _images(options, array, ["nt", "hw"] if array.dtype.kind in "bu" else ["nt"])


def _read(options: NpyOptions, split: Split) -> dict[str, NDArray[Any]]:
    """Return the array as `images`; an archive may also have `labels` and `class_names`."""
    if split == "test":
        raise UsageError(f"{options.path} has no held-out split", "Name the file of the test images.")
    given = {"images": options.array, "labels": options.labels}
    names = {**{key: name or key for key, name in given.items()}, "class_names": "class_names"}
    return read_arrays(options.path, names, {"images", *(key for key, name in given.items() if name)})


def _images(options: NpyOptions, array: NDArray[Any], of_two_axes: list[str]) -> Images:
    """Return `array` as (N, C, *spatial), of bytes where it is of truth values, of signals where the range is given.

    `of_two_axes` are the layouts that an array of two axes may have.
    """
    images, values = arranged(array, _layout(options, array, of_two_axes)), parsed(options.range)
    if values is not None and images.dtype.kind in "uif":
        return ChangedImages(
            images, lambda index, image: _signal(image, values, f"image {index} of {options.path}")
        )
    _check_values(images, options.path)
    if images.dtype != np.bool_:
        return images
    return ChangedImages(images, lambda index, image: image * np.uint8(255))


def _signal(image: NDArray[Any], values: Range, subject: str) -> NDArray[np.float32]:
    refuse_missing(image, subject)
    return image_signal(image, values)


def _check_values(images: NDArray[Any], path: Path) -> None:
    """Look at the first values of an array whose range is not given: are they what arrays of their type hold?

    Raises DataError on missing data, and on integers of more than 8 bits that use a small part of their type; those of
    16 bits with a sign, which hold sound, may be quiet. A note tells of floats that do not look like signals.
    """
    first = images[: max(1, FIRST_VALUES // images[0].size)]
    kind = images.dtype.kind
    if kind not in "uif" or not first.size or images.dtype.itemsize == 1:
        return
    low, high = float(first.min()), float(first.max())
    says = f"{path},range={low:.7g}:{high:.7g}"
    if kind == "f":
        if low in NO_DATA:
            refuse_missing(first, str(path))
        if low < high and (low >= 0 or max(-low, high) > FARTHEST_SIGNAL):
            output().once(
                f"the values of {path} go from {low:.7g} to {high:.7g} and are taken as they are, as signals of which "
                f"black is -1 and white 1 ({says} says otherwise)"
            )
    elif images.dtype != np.int16 and 0 < 4 * max(-low, high) <= np.iinfo(images.dtype).max:
        raise DataError(
            f"{path} is {images.dtype} with values from {low:.7g} to {high:.7g}, a small part of its type",
            f"Say which values are black and white, for example {says}.",
        )


def _layout(options: NpyOptions, array: NDArray[Any], of_two_axes: list[str]) -> str:
    """Return the layout that is given, or the only one that is likely."""
    path, shape, layout = options.path, array.shape, options.layout
    if not 1 <= len(shape) <= 5 or 0 in shape:
        raise DataError(f"{path} is {array.dtype} of shape {shape}, not (N, C, *spatial)")
    if layout is not None:
        if len(layout) != len(shape):
            raise UsageError(f"{path} has {len(shape)} axes, {shape}, and layout={layout} {len(layout)}")
        return layout
    likely = of_two_axes if len(shape) == 2 else likely_layouts(shape)
    if len(likely) > 1:
        readings = " or ".join(f"{described(layout, shape)} ({layout})" for layout in likely)
        typed = options.model_dump(include={*options.later}, exclude_none=True) | {"layout": likely[1]}
        chosen = ",".join(f"{name}={value}" for name, value in typed.items())
        hint = f"Say which by its name, for example {path},{chosen}."
        raise DataError(f"{path} of shape {shape} may be {readings}", hint)
    return likely[0]


@hookimpl
def sagd_datasets() -> Iterable[DatasetPlugin]:
    """Provide `npy`."""
    yield DatasetPlugin(
        "npy",
        "a .npy file (N, C, *spatial), uint8 or float, labels beside it, or .npz with both; layout=, array=",
        NpyOptions,
        build,
        stream=stream,
    )
