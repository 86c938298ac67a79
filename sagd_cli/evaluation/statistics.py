"""Files of statistics: mu and sigma, as ADM, EDM and pytorch-fid write them. Ours have a receipt, too."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sagd_cli.errors import DataError, UsageError
from sagd_cli.features.extractor import Extractor
from sagd_cli.features.moments import UNREADABLE, Gaussian, open_archive, read_moments, write_moments
from sagd_cli.features.survey import Side
from sagd_cli.system.console import Output
from sagd_cli.system.files import atomic_path, has_suffix, refuse_existing

NEGATIVE = 1e-5  # of the largest eigenvalue: what rounding to float32 may make of one that is 0


def is_statistics(text: str) -> bool:
    """Whether `text` names an .npz file with mu and sigma."""
    path = Path(text)
    if not has_suffix(path, ".npz") or not path.is_file():
        return False
    try:
        with open_archive(path) as archive:
            return {"mu", "sigma"} <= {*archive.files}
    except UNREADABLE:
        return False


def load_statistics(path: Path, device: torch.device) -> tuple[Gaussian, dict[str, Any]]:
    """Return the Gaussian, on `device`, and what the file says of its images and features.

    Of files that others wrote, that is the sha256 of mu and sigma alone. Raises DataError on a damaged file, on pickled
    content, which is never executed, and on a mu and sigma that cannot be moments.
    """
    try:
        mean, covariance = read_moments(path)
        about = _receipt(path)
    except UNREADABLE as error:
        raise DataError(
            f"{path} cannot be read as statistics: {error}", "It needs arrays mu and sigma."
        ) from None
    _check_moments(path, mean, covariance)
    mu, sigma = (torch.from_numpy(values).to(device) for values in (mean, (covariance + covariance.T) / 2))
    eigenvalues = torch.linalg.eigvalsh(sigma)
    if eigenvalues[0] < -NEGATIVE * eigenvalues[-1].abs():
        raise DataError(f"{path} holds a sigma with negative eigenvalues, so it is not a covariance")
    about = about or {"sha256": hashlib.sha256(mean.tobytes() + covariance.tobytes()).hexdigest()}
    count = about.get("count")
    return Gaussian(mu, sigma, count if isinstance(count, int) else None), about


def _receipt(path: Path) -> dict[str, Any]:
    """The receipt of a file of ours, empty in others; raise one of UNREADABLE."""
    with open_archive(path) as archive:
        about = json.loads(str(archive["receipt"])) if "receipt" in archive.files else {}
    if not isinstance(about, dict):
        raise ValueError("its receipt is not a JSON object")
    return about


def _check_moments(path: Path, mean: NDArray[np.float64], covariance: NDArray[np.float64]) -> None:
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
        raise DataError(f"{path} holds a mu of shape {mean.shape} and a sigma of shape {covariance.shape}")
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise DataError(f"{path} holds values that are not finite")
    if not np.allclose(covariance, covariance.T, rtol=1e-5, atol=1e-8 * np.abs(covariance).max()):
        raise DataError(f"{path} holds a sigma that is not symmetric, so it is not a covariance")


def statistics_side(
    path: Path, extractor: Extractor, layer: str, shape: tuple[int, ...], output: Output
) -> tuple[Side, dict[str, Any]]:
    """Return the side that a file of statistics stands for, and what the receipt says of it.

    `shape` is that of the images it is compared with. Raises DataError when the file is of other features.
    """
    gaussian, about = load_statistics(path, extractor.device)
    dimensions = extractor.dimensions(shape)[layer]
    if gaussian.dimensions != dimensions:
        raise DataError(
            f"{path} holds statistics of {gaussian.dimensions} features, and layer {layer} of "
            f"{extractor.plugin.name} has {dimensions}",
            "Choose the features and the --layer the statistics were made with.",
        )
    if "features" in about:
        _check_same_features(path, about, {**extractor.receipt(layer), "shape": list(shape)})
    else:
        output.warn(
            f"{path} does not say of which images and weights it is: that it fits {extractor.plugin.name} is taken on "
            "trust"
        )
    return Side([gaussian], {}, None, ""), {"path": str(path), "count": gaussian.count, **about}


def _check_same_features(path: Path, about: Mapping[str, Any], chosen: Mapping[str, Any]) -> None:
    for key in ("features", "distribution", "options", "layer", "weights_sha256", "shape"):
        if about.get(key) != chosen[key]:
            raise DataError(
                f"{path} was made with {key} {about.get(key)}, not {chosen[key]}",
                "Make it anew with --save-stats.",
            )


def save_statistics(path: Path, gaussian: Gaussian, receipt: Mapping[str, Any], force: bool) -> None:
    """Write mu and sigma, in float64, and the receipt, as JSON. The file appears whole or not at all.

    Other programs read mu and sigma. Raises UsageError when the name does not end in .npz, and when the file exists,
    unless `force`.
    """
    if not has_suffix(path, ".npz"):
        raise UsageError(f"statistics are written to an .npz file, not {path}", "Name it FILE.npz.")
    refuse_existing(path, force)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        write_moments(temporary, gaussian, receipt=np.array(json.dumps(dict(receipt))))
