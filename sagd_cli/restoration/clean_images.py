"""The clean images that an omission is given, from a data set or a folder."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sagd_cli.config.arguments import parse_dataset
from sagd_cli.config.run import DatasetConfig
from sagd_cli.data.datasets import load_pixels
from sagd_cli.data.folders import collect, list_images
from sagd_cli.data.images import Image
from sagd_cli.errors import UsageError
from sagd_cli.restoration.truth import clean_signals
from sagd_cli.system.console import output


@dataclass(frozen=True)
class CleanImages:
    """Clean `images`, and `data`, where they are from."""

    data: DatasetConfig
    images: Sequence[Image]

    def signals(self, damaged: Sequence[Image]) -> list[NDArray[np.float32]]:
        """Return the signals (C, H, W), on the range of the `damaged` images where the units are theirs."""
        return clean_signals(self.images, damaged)


def clean_images(text: str) -> CleanImages:
    """Read the clean images that `text` (DATA) names.

    DATA is a data set of grey or RGB images of one size, or a folder of images of any sizes. Raises what reading the
    data raises, DataError when no image of a folder can be read, and UsageError when the data are no images.
    """
    data = parse_dataset(text)
    folder = Path(data.options.get("path", ""))
    if data == DatasetConfig(name="folder", options={"path": str(folder)}) and folder.is_dir():
        images = collect(list_images(folder), None, output()).some
        return CleanImages(data, [replace(image, pixels=image.opaque, alpha=None) for image in images])
    pixels = load_pixels(data).images
    if pixels.ndim != 4 or pixels.shape[1] not in (1, 3):
        raise UsageError(f"the reference {text} holds no images of 1 (grey) or 3 (RGB) channels")
    return CleanImages(data, [Image(image, None, Path(text)) for image in pixels])
