"""Squares cut from photographs of any size, at random places."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sagd_cli.data.folders import list_images
from sagd_cli.data.images import read_image
from sagd_cli.errors import DataError, UsageError
from sagd_cli.plugin import DatasetPlugin, ImageSet, Options, Split, hookimpl


class PatchOptions(Options):
    """Which photographs, and how many patches of what size."""

    path: Path = Field(Path("photographs"), description="Folder of images of 8 bits.")
    mode: Literal["L", "RGB"] | None = Field(
        None,
        description="RGB: grey photographs get three equal colours; L: all become grey; null: they are alike.",
    )
    exclude: Path | None = Field(
        None, description="Text file that names images to leave out, one on each line; null: none."
    )
    size: int = Field(128, ge=8, description="Side of a patch.")
    count: int = Field(
        2000, ge=1, description="Number of patches, from each image in proportion to its area."
    )
    seed: int = Field(0, ge=0, description="Seed of their places.")


def build(options: PatchOptions, split: Split) -> ImageSet:
    """Cut the patches, which are a function of the options and the images.

    Raises UsageError for the test split, DataError on an image that is too small or deeper than 8 bits, and on grey
    and RGB images together.
    """
    if split == "test":
        raise UsageError(f"the patches of {options.path} have no held-out split", "Name another folder.")
    left_out = set() if options.exclude is None else set(options.exclude.read_text(encoding="utf-8").split())
    paths = [path for path in list_images(options.path) if path.name not in left_out]
    images = [_of_mode(_checked(path, options.size), options.mode) for path in paths]
    for image, path in zip(images, paths, strict=True):
        if image.shape[0] != images[0].shape[0]:
            raise DataError(f"{path} has other colours than the first image", "Add mode=RGB or mode=L.")
    areas = np.array([image[0].size for image in images], dtype=float)
    random = np.random.default_rng(options.seed)
    sources = random.choice(len(images), options.count, p=areas / areas.sum())
    return ImageSet(np.stack([_cut(images[source], options.size, random) for source in sources]))


def _checked(path: Path, size: int) -> NDArray[np.uint8]:
    pixels = read_image(path).opaque
    if pixels.dtype != np.uint8 or min(pixels.shape[1:]) < size:
        raise DataError(
            f"{path} is {pixels.shape[2]} x {pixels.shape[1]} pixels of {pixels.dtype}, and patches are {size} pixels "
            "of 8 bits",
            "Leave it out, or choose a smaller size.",
        )
    return pixels


def _of_mode(image: NDArray[np.uint8], mode: str | None) -> NDArray[np.uint8]:
    if mode == "RGB":
        return np.repeat(image, 3, axis=0) if len(image) == 1 else image
    if mode == "L" and len(image) == 3:
        return np.asarray(np.rint(image.mean(axis=0, keepdims=True)), dtype=np.uint8)
    return image


def _cut(image: NDArray[np.uint8], size: int, random: np.random.Generator) -> NDArray[np.uint8]:
    top, left = (int(random.integers(side - size + 1)) for side in image.shape[1:])
    return image[:, top : top + size, left : left + size]


@hookimpl
def sagd_datasets() -> Iterable[DatasetPlugin]:
    """Provide `patches`."""
    yield DatasetPlugin(
        "patches", "squares at random places of the photographs in a folder", PatchOptions, build
    )
