"""CIFAR-10 from a local folder, read by torchvision, which first compares the files with their known hashes."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from pydantic import Field

from sagd_cli.errors import DataError
from sagd_cli.plugin import DatasetPlugin, ImageSet, Options, Split, hookimpl
from sagd_plugins.datasets._roots import default_root


class Cifar10Options(Options):
    """Where the files are."""

    root: Path = Field(default_factory=default_root, description="Folder that holds cifar-10-batches-py.")
    download: bool = Field(False, description="Fetch missing files through torchvision.", exclude=True)


def build(options: Cifar10Options, split: Split) -> ImageSet:
    """Read 50,000 (train) or 10,000 (test) RGB 32x32 images; raise DataError when they are not there or damaged."""
    from torchvision.datasets import CIFAR10

    root = options.root.parent if options.root.name == CIFAR10.base_folder else options.root
    try:
        data = CIFAR10(root, train=split == "train", download=options.download)
    except RuntimeError:
        raise DataError(
            f"CIFAR-10's python batches are not in {root / CIFAR10.base_folder}, or their hashes do not match",
            "Name the folder above them: --dataset cifar10:root=DIR or SAGD_DATA=DIR, or add --download.",
        ) from None
    images = np.ascontiguousarray(data.data.transpose(0, 3, 1, 2))
    return ImageSet(images, np.array(data.targets, dtype=np.int64), tuple(data.classes))


@hookimpl
def sagd_datasets() -> Iterable[DatasetPlugin]:
    """Provide `cifar10`."""
    yield DatasetPlugin(
        "cifar10",
        "CIFAR-10, 50,000 + 10,000 RGB 32x32 images, from the local python batches",
        Cifar10Options,
        build,
    )
