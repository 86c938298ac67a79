"""The kernel distance of features, by torch-fidelity's estimator, on subsets that are read when they are needed."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch_fidelity.metric_kid import kernel_mmd

SUBSETS, LARGEST_SUBSET = 100, 1000
SUBSET_SEED = 2020  # of the subsets, as in torch-fidelity, so that figures are the same

Take = Callable[[NDArray[np.int64]], NDArray[np.float32]]


def subset_size(one: int, two: int) -> int:
    """Return how many features are compared at a time: at most half of a set, or all subsets were the same."""
    return min(LARGEST_SUBSET, max(2, min(one, two) // 2))


def kernel_distance(take_one: Take, one: int, take_two: Take, two: int) -> tuple[float, float]:
    """Return mean and deviation over subsets of the unbiased MMD^2 with the kernel (x.y / D + 1)^3.

    (Bińkowski et al. 1801.01401, equation 4.) `take_one(rows)` gives the features of `one` in all at these places.
    """
    size, random = subset_size(one, two), np.random.RandomState(SUBSET_SEED)

    def subset(take: Take, count: int) -> NDArray[np.float64]:
        return take(random.choice(count, size, replace=False)).astype(np.float64)

    distances = [kernel_mmd(subset(take_one, one), subset(take_two, two)) for _ in range(SUBSETS)]
    return float(np.mean(distances)), float(np.std(distances))
