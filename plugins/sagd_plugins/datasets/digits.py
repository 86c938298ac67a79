"""The embedded data set: scikit-learn's 1,797 real 8x8 digits (UCI optical recognition of handwritten digits)."""

from collections.abc import Iterable

import numpy as np

from sagd_cli.plugin import DatasetPlugin, ImageSet, Options, Split, hookimpl

TRAIN = 1500


def build(options: Options, split: Split) -> ImageSet:
    """Return the first 1,500 digits for training, the last 297 for testing, grey 8x8."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    part = slice(None, TRAIN) if split == "train" else slice(TRAIN, None)
    images = np.rint(digits.images[part, None] * (255 / 16)).astype(np.uint8)
    return ImageSet(images, digits.target[part].astype(np.int64))


@hookimpl
def sagd_datasets() -> Iterable[DatasetPlugin]:
    """Provide `digits`."""
    yield DatasetPlugin(
        "digits", "1,797 real 8x8 grey digits, embedded (1,500 train, 297 test)", Options, build
    )
