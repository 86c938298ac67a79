"""The classes of a data set: their names, how often each occurs, and the class that a seed draws."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sagd_cli.datasets.loading import class_names
from sagd_cli.errors import UsageError, suggest
from sagd_cli.plugin.records import ImageSet
from sagd_cli.spectral.noise import random_stream


@dataclass(frozen=True)
class Classes:
    """The classes 0 to K - 1 of the training images.

    `names` (K,) and `counts` (K,): the name and the number of images of each class. `sha256`: a hash of all labels.
    """

    names: tuple[str, ...]
    counts: tuple[int, ...]
    sha256: str

    @classmethod
    def of(cls, images: ImageSet, source: str) -> "Classes":
        """Count the classes of a labelled data set; raise UsageError, naming `source`, when it has no labels."""
        if images.labels is None:
            raise UsageError(
                f"{source} has no class labels",
                "Classes are the folders in a folder that holds no image itself, or `labels` in an .npz file.",
            )
        names = class_names(images)
        counts = np.bincount(images.labels, minlength=len(names))
        sha256 = hashlib.sha256(images.labels.astype("<i8").tobytes()).hexdigest()
        return cls(names, tuple(counts.tolist()), sha256)

    @classmethod
    def read(cls, document: dict[str, Any]) -> "Classes":
        """Return the classes that `document` describes, the inverse of `document()`."""
        return cls(tuple(document["names"]), tuple(document["counts"]), document["sha256"])

    def document(self) -> dict[str, Any]:
        """Return the classes as a JSON object."""
        return {"names": list(self.names), "counts": list(self.counts), "sha256": self.sha256}

    def __len__(self) -> int:
        """Return K, which is also the label that means "no class"."""
        return len(self.names)

    def index(self, name: str) -> int:
        """Return the class called `name`. When no class name is a number, `name` may also be the class number.

        Raises UsageError when there is no such class, or no image of it was trained on.
        """
        by_number = name.isdecimal() and not any(map(str.isdecimal, self.names))
        index = self.names.index(name) if name in self.names else int(name) if by_number else len(self)
        if index >= len(self):
            raise UsageError(
                f"the run has no class {name!r} among its {len(self)}", suggest(name, self.names)
            )
        if not self.counts[index]:
            raise UsageError(f"the run was trained on no image of the class {name}")
        return index

    def chosen(self, text: str) -> list[int]:
        """Return the classes that `text` (NAME[,NAME...]) names; a name with a comma in it can only be given alone.

        Raises what `index` raises.
        """
        names = [text] if text in self.names else [name.strip() for name in text.split(",")]
        return [self.index(name) for name in names]

    def of_seed(self, seed: int, chosen: Sequence[int] = ()) -> int:
        """Return the class that `seed` draws.

        Successive seeds take the `chosen` classes in turn. Without any, a class is drawn as often as it is in the data.
        """
        if chosen:
            return chosen[seed % len(chosen)]
        shares = torch.tensor(self.counts, dtype=torch.float64)
        return int(torch.multinomial(shares, 1, generator=random_stream("cpu", seed, "class")))
