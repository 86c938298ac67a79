"""Files of statistics: mu and sigma, as ADM, EDM and pytorch-fid write them, and ours, which say of what they are."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch

from sagd_cli.errors import DataError, UsageError
from sagd_cli.evaluation.gaussian import Gaussian
from sagd_cli.files import atomic_path, refuse_existing

# What NumPy raises on an archive that is empty, damaged, encrypted or none at all.
UNREADABLE = (OSError, ValueError, EOFError, TypeError, RuntimeError, BadZipFile)


def is_statistics(text: str) -> bool:
    """Whether `text` names an archive with mu and sigma."""
    path = Path(text)
    if path.suffix.lower() != ".npz" or not path.is_file():
        return False
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {"mu", "sigma"} <= {*archive.files}
    except UNREADABLE:
        return False


def load_statistics(path: Path, device: torch.device) -> tuple[Gaussian, dict[str, Any]]:
    """Return the Gaussian, on `device`, and what the file says of its images and features: nothing in others' files.

    Raises DataError on a damaged file, on one with pickled content, which is never executed, and on a mu and sigma that
    are no moments.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            mean = np.asarray(archive["mu"], dtype=np.float64)
            covariance = np.asarray(archive["sigma"], dtype=np.float64)
            about = json.loads(str(archive["receipt"])) if "receipt" in archive.files else {}
    except (*UNREADABLE, KeyError) as error:
        raise DataError(
            f"{path} cannot be read as statistics: {error}", "It needs arrays mu and sigma."
        ) from None
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
        raise DataError(f"{path} holds a mu of shape {mean.shape} and a sigma of shape {covariance.shape}")
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise DataError(f"{path} holds values that are not finite")
    if not np.allclose(covariance, covariance.T, rtol=1e-5, atol=1e-8 * np.abs(covariance).max()):
        raise DataError(f"{path} holds a sigma that is not symmetric, so it is no covariance")
    count = about.get("count")
    mu, sigma = (torch.from_numpy(values).to(device) for values in (mean, (covariance + covariance.T) / 2))
    return Gaussian(mu, sigma, count if isinstance(count, int) else None), about


def save_statistics(path: Path, gaussian: Gaussian, receipt: Mapping[str, Any], force: bool) -> None:
    """Write mu, sigma (float64) and the receipt, as JSON, whole or not at all; other programs read mu and sigma.

    Raises UsageError unless the name ends in .npz and is free (or `force`).
    """
    if path.suffix.lower() != ".npz":
        raise UsageError(f"statistics are written to an .npz file, not {path}", "Name it FILE.npz.")
    refuse_existing(path, force)
    path.parent.mkdir(parents=True, exist_ok=True)
    mu, sigma = gaussian.mean.cpu().numpy(), gaussian.covariance.cpu().numpy()
    with atomic_path(path) as temporary:
        np.savez(temporary, mu=mu, sigma=sigma, receipt=np.array(json.dumps(dict(receipt))))
