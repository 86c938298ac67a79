"""Features kept on disk, with one row for each image, so that memory does not grow with their number."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """Features (N, D), float32, in a .npy file; `part` is the range of rows that count."""

    path: Path
    part: range

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.part)

    def check(self) -> None:
        """Raise OSError or ValueError when the file does not hold them."""
        if np.load(self.path, mmap_mode="r").shape[0] < self.part.stop:
            raise ValueError(f"{self.path} holds fewer than {self.part.stop} rows")

    def take(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the rows at `places` (M,), counted from the start of the part, as an array (M, D)."""
        # The map is dropped at once, or all that was ever read would count as this process's memory.
        return np.asarray(np.load(self.path, mmap_mode="r")[self.part.start + places])

    def all(self) -> Tensor:
        """Return the whole part, (N, D)."""
        return torch.from_numpy(self.take(np.arange(len(self.part))))

    def parts(self, count: int) -> "list[Rows]":
        """Divide the rows into `count` equal parts of neighbours."""
        size = len(self) // count
        return [Rows(self.path, self.part[k * size : (k + 1) * size]) for k in range(count)]


class RowsWriter:
    """Writes features to a .npy file as they come."""

    def __init__(self, path: Path, count: int, dimensions: int) -> None:
        """Begin the file of `count` rows of `dimensions` features."""
        self._rows = Rows(path, range(count))
        self._file = path.open("wb")
        form = {"descr": "<f4", "fortran_order": False, "shape": (count, dimensions)}
        npy.write_array_header_1_0(self._file, form)

    def add(self, features: NDArray[Any]) -> None:
        """Append features (B, D)."""
        self._file.write(features.astype("<f4").tobytes())

    def close(self) -> Rows:
        """End the file and return its rows."""
        self._file.close()
        return self._rows
