"""The Fréchet distance between two Gaussians in feature space, and how much of it is chance."""

from typing import Any

import torch

from sagd_cli.features.moments import Gaussian
from sagd_cli.metrics.catalogue import METRICS
from sagd_cli.metrics.figures import Block
from sagd_cli.system.console import Output

CLEAR = 0.1  # the share of a distance that may be chance before it is said
_FIGURE = METRICS["fid"].figure


def frechet_figures(generated: Block, reference: Block) -> dict[str, float]:
    """Return the distance between the moments of the two blocks."""
    return {"fd": frechet_distance(generated.gaussian, reference.gaussian)}


def frechet_distance(one: Gaussian, two: Gaussian) -> float:
    """Return ||mu_1 - mu_2||^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2)) (Heusel et al. 1706.08500, equation 6).

    The last trace is the sum of the roots of the eigenvalues of A^T S_2 A, where A A^T = S_1. This matrix is symmetric,
    so two symmetric eigendecompositions, on the device of the moments, take the place of a matrix square root. The
    distance of equal moments is 0, and no distance is below, whatever the rounding of its terms.
    """
    if torch.equal(one.mean, two.mean) and torch.equal(one.covariance, two.covariance):
        return 0.0
    values, vectors = torch.linalg.eigh(one.covariance)
    rounding = values.max() * len(values) * torch.finfo(values.dtype).eps
    factor = vectors.mul_(torch.where(values > rounding, values, 0.0).sqrt())
    cross = torch.linalg.eigvalsh(factor.T @ (two.covariance @ factor)).clamp(min=0).sqrt().sum()
    spread = torch.trace(one.covariance) + torch.trace(two.covariance) - 2 * cross
    return float(((one.mean - two.mean).square().sum() + spread).clamp(min=0))


def frechet_floor(reference: Gaussian, generated: int) -> float | None:
    """Return the distance to expect by chance alone: that of two samples of one Gaussian.

    `generated` is the number of features of the one sample, and `reference` is the Gaussian of the other one. The
    figure holds to first order in 1/n, for covariances of n > D features. Each side adds tr(S) / n for the mean, and
    sum_ij l_i l_j (1 + [i = j]) / (l_i + l_j) / (2 n) for the covariance. The latter is the curvature of the Bures
    distance at S, with eigenvalues l, under the covariance of a Wishart matrix. Return None where a covariance is
    singular, of n <= D features: the distance is then larger than any such figure.
    """
    counts = [generated, *([] if reference.count is None else [reference.count])]
    if min(counts) <= reference.dimensions:
        return None
    values = torch.linalg.eigvalsh(reference.covariance).clamp(min=0)
    pairs = values[:, None] * values / (values[:, None] + values).clamp(min=torch.finfo(values.dtype).tiny)
    per_feature = values.sum() + (pairs.sum() + pairs.diagonal().sum()) / 2
    return float(per_feature) * sum(1 / count for count in counts)


def add_floor(figures: dict[str, Any], reference: Gaussian, count: int, label: str, output: Output) -> None:
    """Add to the figures what chance alone would give, where the Fréchet distance is among them; warn if it is much.

    `count` is that of the images of one block, and `label` what the distance is called.
    """
    distance = figures.get(_FIGURE.key)
    if distance is None or _FIGURE.floor is None:
        return
    floor = figures[_FIGURE.floor] = frechet_floor(reference, count)
    if floor is None:
        fewest = min(count, reference.count or count)
        output.warn(
            f"{fewest} images for {reference.dimensions} features: the covariance is singular and {label} biased "
            "upwards, by more the fewer images there are; compare it at equal counts only, or use more images, a "
            "smaller --layer or KID, which is not biased"
        )
    elif floor > CLEAR * distance > 0:
        output.warn(
            f"of {label} = {distance:.4g} about {floor:.2g} is what so few images show by chance; compare it at "
            "equal counts only, or use KID, which is not biased"
        )
