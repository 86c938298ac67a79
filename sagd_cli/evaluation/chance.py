"""How much of a Fréchet distance is due to the counts of images alone."""

from typing import Any

from sagd_cli.evaluation.catalogue import METRICS
from sagd_cli.evaluation.frechet import frechet_floor
from sagd_cli.features.moments import Gaussian
from sagd_cli.system.console import Output

FIGURE = METRICS["fid"].figure
CLEAR = 0.1  # the share of a distance that may be chance before it is said


def add_floor(figures: dict[str, Any], reference: Gaussian, count: int, label: str, output: Output) -> None:
    """Add to the figures what chance alone would give, where the Fréchet distance is among them; warn if it is much.

    `count` is that of the images of one block, and `label` what the distance is called.
    """
    distance = figures.get(FIGURE.key)
    if distance is None or FIGURE.floor is None:
        return
    floor = figures[FIGURE.floor] = frechet_floor(reference, count)
    if floor is None:
        fewest = min(count, reference.count or count)
        output.warn(
            f"{fewest} images for {reference.dimensions} features: the covariance is singular and {label} biased "
            "upwards, by more the fewer images there are; compare it at equal counts only, or use more images, a "
            "smaller --layer or KID, which is not biased"
        )
    elif floor > CLEAR * distance:
        output.warn(
            f"of {label} = {distance:.4g} about {floor:.2g} is what so few images show by chance; compare it at "
            "equal counts only, or use KID, which is not biased"
        )
