"""The clean images that an omission is given, from a data set or a folder."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sagd_cli.config.arguments import parse_dataset
from sagd_cli.config.run import DatasetConfig
from sagd_cli.data.datasets import load_pixels
from sagd_cli.data.folders import list_images, some_images
from sagd_cli.data.ranges import image_signal
from sagd_cli.errors import DataError, UsageError


@dataclass(frozen=True)
class CleanImages:
    """Clean images: `signals`, each (C, H, W) on the [-1, 1] range, and `data`, where they are from."""

    data: DatasetConfig
    signals: list[NDArray[np.float32]]


def clean_images(text: str) -> CleanImages:
    """Read the clean images that `text` (DATA) names.

    DATA is a data set of grey or RGB images of one size, or a folder of images of any sizes. Raises what reading the
    data raises, DataError when no image of a folder can be read, and UsageError when the data are no images.
    """
    data = parse_dataset(text)
    folder = Path(data.options.get("path", ""))
    if data == DatasetConfig(name="folder", options={"path": str(folder)}) and folder.is_dir():
        images = some_images(list_images(folder))
        if not images:
            raise DataError(f"no image of {text} can be read")
        return CleanImages(data, [image_signal(image.pixels) for image in images])
    pixels = load_pixels(data).images
    if pixels.ndim != 4 or pixels.shape[1] not in (1, 3):
        raise UsageError(f"the reference {text} holds no images of 1 (grey) or 3 (RGB) channels")
    return CleanImages(data, list(image_signal(pixels)))
