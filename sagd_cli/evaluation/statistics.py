"""Files of statistics: mu and sigma, as ADM, EDM and pytorch-fid write them, and ours, which say of what they are."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sagd_cli.errors import DataError, UsageError
from sagd_cli.features.moments import UNREADABLE, Gaussian, open_archive, read_moments, write_moments
from sagd_cli.system.files import atomic_path, refuse_existing

NEGATIVE = 1e-5  # of the largest eigenvalue: what rounding to float32 may leave of one that is 0


def is_statistics(text: str) -> bool:
    """Whether `text` names an archive with mu and sigma."""
    path = Path(text)
    if path.suffix.lower() != ".npz" or not path.is_file():
        return False
    try:
        with open_archive(path) as archive:
            return {"mu", "sigma"} <= {*archive.files}
    except UNREADABLE:
        return False


def load_statistics(path: Path, device: torch.device) -> tuple[Gaussian, dict[str, Any]]:
    """Return the Gaussian, on `device`, and what the file says of its images and features.

    Of others' files that is the sha256 of mu and sigma alone. Raises DataError on a damaged file, on one with pickled
    content, which is never executed, and on a mu and sigma that are no moments.
    """
    try:
        mean, covariance = read_moments(path)
        with open_archive(path) as archive:
            about = json.loads(str(archive["receipt"])) if "receipt" in archive.files else {}
        if not isinstance(about, dict):
            raise ValueError("its receipt is no JSON object")
    except UNREADABLE as error:
        raise DataError(
            f"{path} cannot be read as statistics: {error}", "It needs arrays mu and sigma."
        ) from None
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
        raise DataError(f"{path} holds a mu of shape {mean.shape} and a sigma of shape {covariance.shape}")
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise DataError(f"{path} holds values that are not finite")
    if not np.allclose(covariance, covariance.T, rtol=1e-5, atol=1e-8 * np.abs(covariance).max()):
        raise DataError(f"{path} holds a sigma that is not symmetric, so it is no covariance")
    mu, sigma = (torch.from_numpy(values).to(device) for values in (mean, (covariance + covariance.T) / 2))
    eigenvalues = torch.linalg.eigvalsh(sigma)
    if eigenvalues[0] < -NEGATIVE * eigenvalues[-1].abs():
        raise DataError(f"{path} holds a sigma with negative eigenvalues, so it is no covariance")
    about = about or {"sha256": hashlib.sha256(mean.tobytes() + covariance.tobytes()).hexdigest()}
    count = about.get("count")
    return Gaussian(mu, sigma, count if isinstance(count, int) else None), about


def save_statistics(path: Path, gaussian: Gaussian, receipt: Mapping[str, Any], force: bool) -> None:
    """Write mu, sigma (float64) and the receipt, as JSON, whole or not at all; other programs read mu and sigma.

    Raises UsageError unless the name ends in .npz and is free (or `force`).
    """
    if path.suffix.lower() != ".npz":
        raise UsageError(f"statistics are written to an .npz file, not {path}", "Name it FILE.npz.")
    refuse_existing(path, force)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        write_moments(temporary, gaussian, receipt=np.array(json.dumps(dict(receipt))))
