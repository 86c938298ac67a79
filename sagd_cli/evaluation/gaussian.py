"""Gaussians in feature space: their moments from a stream, the distance between two, and how much of it is chance."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Mean (D,) and covariance (D, D) of features, float64, from `count` of them; None where that is unknown."""

    mean: Tensor
    covariance: Tensor
    count: int | None

    @property
    def dimensions(self) -> int:
        """The number of features, D."""
        return len(self.mean)


class Moments:
    """Mean and covariance of features that are seen once, in float64; memory does not grow with their number.

    Sums are taken about the mean of the first batch, so that features far from 0 lose no digits.
    """

    def __init__(self) -> None:
        """Start without features."""
        self.count = 0
        self._shift = self._sum = self._products = torch.zeros(())

    def add(self, features: Tensor) -> None:
        """Take in features (B, D), B at least 1, of any floating type."""
        values = features.double()
        if self.count == 0:
            self._shift = values.mean(dim=0)
            self._sum = torch.zeros_like(self._shift)
            self._products = torch.zeros((len(self._sum), len(self._sum))).to(values)
        values = values - self._shift
        self._sum += values.sum(dim=0)
        self._products.addmm_(values.T, values)
        self.count += len(values)

    def result(self) -> Gaussian:
        """Return the Gaussian of what was added, at least 2 features; the covariance is the unbiased one."""
        mean = self._sum / self.count
        covariance = torch.addr(self._products, self._sum, mean, alpha=-1).div_(self.count - 1)
        return Gaussian(self._shift + mean, covariance, self.count)


def frechet_distance(one: Gaussian, two: Gaussian) -> float:
    """Return ||mu_1 - mu_2||^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2)) (Heusel et al. 1706.08500, equation 6).

    The last trace is the sum of the roots of the eigenvalues of A^T S_2 A with A A^T = S_1, which is symmetric: two
    symmetric eigendecompositions, on the device of the moments, in place of a matrix square root.
    """
    values, vectors = torch.linalg.eigh(one.covariance)
    rounding = values.max() * len(values) * torch.finfo(values.dtype).eps
    factor = vectors.mul_(torch.where(values > rounding, values, 0.0).sqrt())
    cross = torch.linalg.eigvalsh(factor.T @ (two.covariance @ factor)).clamp(min=0).sqrt().sum()
    spread = torch.trace(one.covariance) + torch.trace(two.covariance) - 2 * cross
    return float((one.mean - two.mean).square().sum() + spread)


def frechet_floor(reference: Gaussian, generated: int) -> float | None:
    """Return the distance to expect between `generated` features and those of `reference`, were both of one Gaussian.

    To first order in 1/n, for covariances of n > D features: of each side, tr(S) / n for the mean and
    sum_ij l_i l_j (1 + [i = j]) / (l_i + l_j) / (2 n) for the covariance, the curvature of the Bures distance at S with
    eigenvalues l under the covariance of a Wishart matrix. None where a covariance is singular, of n <= D features:
    the distance is then larger than any such figure.
    """
    counts = [generated, *([] if reference.count is None else [reference.count])]
    if min(counts) <= reference.dimensions:
        return None
    values = torch.linalg.eigvalsh(reference.covariance).clamp(min=0)
    pairs = values[:, None] * values / (values[:, None] + values).clamp(min=torch.finfo(values.dtype).tiny)
    per_feature = values.sum() + (pairs.sum() + pairs.diagonal().sum()) / 2
    return float(per_feature) * sum(1 / count for count in counts)
