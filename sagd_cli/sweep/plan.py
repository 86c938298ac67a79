"""What a sweep runs: its cells, each of which is a configuration, and how every run is measured. No torch."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sagd_cli.config.run import DatasetConfig, RunConfig
from sagd_cli.errors import UsageError
from sagd_cli.plugin.registry import registry

CELLS = "cells"  # the folder of the cells in the output


@dataclass(frozen=True)
class Evaluation:
    """How runs are compared: by a figure of `count` samples, in `features`, against a `reference`.

    `metric` is the key of that figure in a result. `weights` is the path of a file and `weights_sha256` the hash of its
    bytes, by which it is known.
    """

    metric: str
    count: int
    reference: DatasetConfig
    features: str | None = None
    layer: str | None = None
    weights: str | None = None
    weights_sha256: str | None = None

    def document(self) -> dict[str, Any]:
        """Return it as plain values, without the path of the weights, which may differ between machines."""
        rest = {key: value for key, value in vars(self).items() if key != "weights"}
        return {**rest, "reference": self.reference.document()}

    @property
    def rung_count(self) -> int:
        """How many samples are taken where a run may be stopped early: a quarter, but at least 100."""
        return min(self.count, max(100, self.count // 4))


@dataclass(frozen=True)
class Halving:
    """Successive halving: at each of `rungs` only the best 1 / `factor` of the runs that reached it go on.

    Rungs are counted in steps. The first one is reached after `first_images` images.
    """

    factor: int
    rungs: tuple[int, ...]
    first_images: int

    @classmethod
    def of(cls, configs: Sequence[RunConfig], factor: int) -> "Halving":
        """Return the halving with rungs at budget / factor^2 and budget / factor.

        Raises UsageError when the runs differ in budget or batch size, or have too few steps.
        """
        budgets = {(config.training.steps, config.training.batch_size) for config in configs}
        if len(budgets) > 1:
            raise UsageError(
                "runs of different budgets or batch sizes cannot be stopped at the same rungs",
                "Leave out --halving.",
            )
        ((steps, batch),) = budgets
        first = steps // factor**2
        if first < 1:
            raise UsageError(
                f"a budget of {steps} steps cannot be divided by {factor} twice", "Give a larger budget."
            )
        return cls(factor, (first, first * factor), first * batch)


@dataclass(frozen=True)
class Cell:
    """A point of the grid: its name, the values of the swept keys, and the configuration without the seed."""

    name: str
    values: Mapping[str, Any]
    config: RunConfig

    def with_seed(self, seed: int) -> RunConfig:
        """Return the configuration of the run with this seed."""
        training = self.config.training.model_copy(update={"seed": seed})
        return self.config.model_copy(update={"training": training})

    def told_apart(self) -> "Cell":
        """Return the same cell with a longer name: a hash of its values makes it unlike any other."""
        return replace(self, name=f"{self.name}-{short_hash(self.values)}")

    def is_white(self, shape: tuple[int, ...]) -> bool:
        """Whether its filter is white on fields of `shape`, whatever its name is, and stays white in training."""
        if registry().get("filter", self.config.filter.type).basis is not None:
            return False
        weight = self.config.filter.weights(shape).weight
        return bool(weight.max() - weight.min() <= 1e-9 * weight.max())


@dataclass(frozen=True)
class Plan:
    """A sweep.

    `base` is the configuration that all cells share, and `evaluation` how every run is measured. Without `seeds`, the
    seeds are those that the `output` has already. `storage` is the address of a database; None stands for a file in the
    output.
    """

    base: RunConfig
    cells: tuple[Cell, ...]
    seeds: tuple[int, ...]
    evaluation: Evaluation
    halving: Halving | None
    output: Path
    storage: str | None

    @property
    def keys(self) -> list[str]:
        """The swept keys."""
        return list(self.cells[0].values)

    @property
    def factor(self) -> int | None:
        """The factor of its halving; None when nothing is stopped early."""
        return None if self.halving is None else self.halving.factor

    @property
    def identity(self) -> dict[str, Any]:
        """What may not change when a sweep is continued; cells and seeds may be added."""
        return {
            "base": self.base.identity(),
            "evaluation": self.evaluation.document(),
            "halving": self.factor,
        }

    @property
    def study(self) -> str:
        """The name of its study in the storage, which other sweeps may share."""
        return f"sagd-{short_hash(self.identity)}"

    def run_path(self, cell: Cell, seed: int) -> Path:
        """Return the folder of a run, relative to the output."""
        return Path(CELLS) / cell.name / f"seed-{seed}"


def default_output(base: RunConfig, cells: Sequence[Cell]) -> Path:
    """Return the output of a sweep that names none.

    Its name is made of the settings and the keys, and not of the values, so that cells may be added.
    """
    return Path("sweeps") / f"{base.default_name}-{short_hash([*cells[0].values])[:6]}"


def hash_file(path: Path) -> str:
    """Return the sha256 of the bytes of a file; raise UsageError when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from None


def short_hash(value: Any) -> str:
    """Return the first 12 digits of the hash of plain values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:12]
