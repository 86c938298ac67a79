"""The kernel distance of features (KID), on the device of their moments; each subset is read when it is needed."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sagd_cli.metrics.catalogue import ROWS
from sagd_cli.metrics.figures import Block

SUBSETS, LARGEST_SUBSET = 100, 1000
SUBSET_SEED = 2020  # of the subsets, as in torch-fidelity, so that figures are the same

Take = Callable[[NDArray[np.int64]], NDArray[np.float32]]


def kernel_figures(generated: Block, reference: Block) -> dict[str, float]:
    """Return the distance of the rows of the two blocks, and its deviation over subsets."""
    mine, theirs = generated.rows[ROWS], reference.rows[ROWS]
    device = generated.gaussian.mean.device
    distance, deviation = kernel_distance(mine.take, len(mine), theirs.take, len(theirs), device)
    return {"kid": distance, "kid_std": deviation}


def subset_size(one: int, two: int) -> int:
    """Return how many features of sets of `one` and `two` are compared at a time.

    It is at most half of a set, or all subsets would be the same.
    """
    return min(LARGEST_SUBSET, max(2, min(one, two) // 2))


def kernel_distance(
    take_one: Take, one: int, take_two: Take, two: int, device: torch.device | str = "cpu"
) -> tuple[float, float]:
    """Return mean and deviation over subsets of the unbiased MMD^2 with the kernel (x.y / D + 1)^3.

    This is equation 4 of Bińkowski et al. 1801.01401. `take_one(places)` gives the features at these places of the
    first set, which has `one` of them; `take_two` does so for the second.
    """
    size, random = subset_size(one, two), np.random.RandomState(SUBSET_SEED)

    def subset(take: Take, count: int) -> Tensor:
        return torch.from_numpy(take(random.choice(count, size, replace=False))).to(device).double()

    distances = torch.stack([_mmd(subset(take_one, one), subset(take_two, two)) for _ in range(SUBSETS)])
    deviation, mean = torch.std_mean(distances, correction=0)
    return float(mean), float(deviation)


def _mmd(one: Tensor, two: Tensor) -> Tensor:
    """Return the unbiased squared distance of features (N, D) and (N, D), float64."""
    count = len(one)
    within = sum(kernel.sum() - kernel.trace() for kernel in (_kernel(one, one), _kernel(two, two)))
    return within / (count * (count - 1)) - 2 * _kernel(one, two).mean()


def _kernel(one: Tensor, two: Tensor) -> Tensor:
    inner = torch.addmm(one.new_ones(()), one, two.T, alpha=1 / one.shape[1])
    return inner.square().mul_(inner)
