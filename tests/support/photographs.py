"""Real photographs for tests, from the data folder."""

from pathlib import Path

import numpy as np
from PIL import Image

CENTRE = 256


def kodak_centres(root: Path, step: int) -> list[np.ndarray]:
    """The grey centres (1, 256, 256) of every `step`-th of the Kodak photographs, on [-1, 1]."""
    centres = []
    for path in sorted((root / "kodak").glob("*.png"))[::step]:
        grey = np.asarray(Image.open(path).convert("L"), np.float32) / 127.5 - 1
        top, left = ((side - CENTRE) // 2 for side in grey.shape)
        centres.append(grey[None, top : top + CENTRE, left : left + CENTRE])
    return centres
