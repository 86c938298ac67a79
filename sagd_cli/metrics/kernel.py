"""The kernel distance of features (KID), by torch-fidelity's estimator; each subset is read when it is needed."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch_fidelity.metric_kid import kernel_mmd

from sagd_cli.metrics.catalogue import ROWS
from sagd_cli.metrics.figures import Block

SUBSETS, LARGEST_SUBSET = 100, 1000
SUBSET_SEED = 2020  # of the subsets, as in torch-fidelity, so that figures are the same

Take = Callable[[NDArray[np.int64]], NDArray[np.float32]]


def kernel_figures(generated: Block, reference: Block) -> dict[str, float]:
    """Return the distance of the rows of the two blocks, and its deviation over subsets."""
    mine, theirs = generated.rows[ROWS], reference.rows[ROWS]
    distance, deviation = kernel_distance(mine.take, len(mine), theirs.take, len(theirs))
    return {"kid": distance, "kid_std": deviation}


def subset_size(one: int, two: int) -> int:
    """Return how many features of sets of `one` and `two` are compared at a time.

    It is at most half of a set, or all subsets would be the same.
    """
    return min(LARGEST_SUBSET, max(2, min(one, two) // 2))


def kernel_distance(take_one: Take, one: int, take_two: Take, two: int) -> tuple[float, float]:
    """Return mean and deviation over subsets of the unbiased MMD^2 with the kernel (x.y / D + 1)^3.

    This is equation 4 of Bińkowski et al. 1801.01401. `take_one(places)` gives the features at these places of the
    first set, which has `one` of them; `take_two` does so for the second.
    """
    size, random = subset_size(one, two), np.random.RandomState(SUBSET_SEED)

    def subset(take: Take, count: int) -> NDArray[np.float64]:
        return take(random.choice(count, size, replace=False)).astype(np.float64)

    distances = [kernel_mmd(subset(take_one, one), subset(take_two, two)) for _ in range(SUBSETS)]
    return float(np.mean(distances)), float(np.std(distances))
