"""MNIST from a local folder: the four original idx files, plain or gzipped."""

import gzip
import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sagd_cli.errors import DataError
from sagd_cli.plugin import DatasetPlugin, ImageSet, Options, Split, hookimpl
from sagd_plugins.datasets._roots import default_root

_PREFIX = {"train": "train", "test": "t10k"}


class MnistOptions(Options):
    """Where the files are."""

    root: Path = Field(default_factory=default_root, description="Folder with the idx files, or above them.")
    download: bool = Field(False, description="Fetch missing files through torchvision.", exclude=True)


def build(options: MnistOptions, split: Split) -> ImageSet:
    """Read 60,000 (train) or 10,000 (test) grey 28x28 digits; raise DataError when the files are not there."""
    if options.download:
        from torchvision.datasets import MNIST

        MNIST(options.root, download=True)
    images = read_idx(_find(options.root, f"{_PREFIX[split]}-images-idx3-ubyte"), 3)
    labels = read_idx(_find(options.root, f"{_PREFIX[split]}-labels-idx1-ubyte"), 1)
    if len(images) != len(labels):
        raise DataError(f"MNIST in {options.root} has {len(images)} images but {len(labels)} labels")
    return ImageSet(images[:, None], labels.astype(np.int64))


def read_idx(path: Path, ndim: int) -> NDArray[np.uint8]:
    """Read an idx file of unsigned bytes with `ndim` axes, gzipped or not; raise DataError on any other file."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        magic, *shape = struct.unpack_from(f">{1 + ndim}I", data)
    except (OSError, EOFError, struct.error) as error:
        raise DataError(f"{path} cannot be read as an idx file: {error}") from None
    body = np.frombuffer(data, np.uint8, offset=4 * (1 + ndim))
    if magic != 0x0800 + ndim or body.size != int(np.prod(shape)):
        raise DataError(f"{path} is not an idx file of {ndim} axes, or it is truncated")
    return body.reshape(shape).copy()


def _find(root: Path, name: str) -> Path:
    folders = [root, root / "mnist", root / "MNIST" / "raw"]
    for path in (folder / (name + suffix) for folder in folders for suffix in ("", ".gz")):
        if path.is_file():
            return path
    raise DataError(
        f"MNIST's file {name}[.gz] is not in {root}, {root}/mnist or {root}/MNIST/raw",
        "Name the folder, for example --dataset mnist:root=DIR or SAGD_DATA=DIR, or add --download.",
    )


@hookimpl
def sagd_datasets() -> Iterable[DatasetPlugin]:
    """Provide `mnist`."""
    yield DatasetPlugin(
        "mnist", "MNIST, 60,000 + 10,000 grey 28x28 digits, from local idx files", MnistOptions, build
    )
