"""The clean images that an omission is given, from a data set or a folder."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sagd_cli.config.arguments import parse_dataset
from sagd_cli.config.run import DatasetConfig
from sagd_cli.data.datasets import load_drawable
from sagd_cli.data.folders import collect, list_images
from sagd_cli.data.images import Image
from sagd_cli.data.ranges import Range
from sagd_cli.restoration.truth import clean_signals
from sagd_cli.system.console import output


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
