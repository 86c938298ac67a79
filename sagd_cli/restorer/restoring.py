"""How images are restored, and what comes of one. Imports no torch."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

UNCHANGED = "unchanged"


@dataclass(frozen=True)
class Restoring:
    """How images are restored.

    `estimate`: a name in `ESTIMATES`. `samples`: posterior samples per image, each in `steps` network evaluations.
    `uncertain`: also compute the standard deviation of the samples. `returned`: how many of the samples are returned,
    from the first on (None: all of them). `noise_device`: where their noise is drawn, auto or cpu (SamplingConfig).
    """

    estimate: str = "mean"
    samples: int = 1
    uncertain: bool = False
    steps: int = 20
    seed: int = 0
    returned: int | None = None
    noise_device: str = "auto"


@dataclass(frozen=True, eq=False)
class Estimates:
    """The estimates of one image, `draws` (C, H, W) on [-1, 1], and their `deviation` if it was asked for.

    There is one estimate, or as many as posterior samples were drawn. `method` says what was done.
    """

    draws: tuple[NDArray[np.float32], ...]
    deviation: NDArray[np.float32] | None = None
    method: str = UNCHANGED
