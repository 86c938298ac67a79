"""The Gaussian of features: its moments from a stream, and files of mu and sigma."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Mean (D,) and covariance (D, D) of features, float64, from `count` of them; None when that is unknown."""

    mean: Tensor
    covariance: Tensor
    count: int | None

    @property
    def dimensions(self) -> int:
        """The number of features, D."""
        return len(self.mean)


class Moments:
    """Mean and covariance of features that are seen once, in float64. Memory does not grow with their number.

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
        """Return the Gaussian of the features that were added, at least 2; the covariance is the unbiased one."""
        mean = self._sum / self.count
        covariance = torch.addr(self._products, self._sum, mean, alpha=-1).div_(self.count - 1)
        return Gaussian(self._shift + mean, covariance, self.count)


# What NumPy and JSON raise on a file that is empty, damaged, encrypted or not an archive, or that lacks an array.
UNREADABLE = (OSError, ValueError, EOFError, TypeError, KeyError, RuntimeError, BadZipFile)


@contextmanager
def open_archive(path: Path) -> Iterator[Any]:
    """Open an .npz file; pickled content raises ValueError. NumPy itself does not close a damaged one."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        yield archive


def read_moments(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mu and sigma of an .npz file; raise one of UNREADABLE."""
    with open_archive(path) as archive:
        return np.asarray(archive["mu"], np.float64), np.asarray(archive["sigma"], np.float64)


def write_moments(path: Path, gaussian: Gaussian, **more: NDArray[Any]) -> None:
    """Write mu, sigma and `more` arrays to an .npz file."""
    with path.open("wb") as file:  # to a path, NumPy adds .npz where it ends in .NPZ
        np.savez(file, mu=gaussian.mean.cpu().numpy(), sigma=gaussian.covariance.cpu().numpy(), **more)  # type: ignore[arg-type]
