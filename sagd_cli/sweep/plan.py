"""What a sweep runs: the cells of a grid, each a configuration, and how every run is measured. Imports no torch."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from sagd_cli.config.arguments import parse_dataset, parse_filter, split_list
from sagd_cli.config.filter import FilterConfig
from sagd_cli.config.layers import resolve
from sagd_cli.config.run import DatasetConfig, RunConfig
from sagd_cli.errors import UsageError
from sagd_cli.plugin.registry import registry
from sagd_cli.system.yaml import parse_yaml

LONGEST_NAME = 80
SEED_KEY = "training.seed"
CELLS = "cells"
OF_FILTERS = ("normalize", "units", "omit")  # what makes a filter another one, besides its family and options

Grid = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class Evaluation:
    """How runs are compared: the `metric` (fd or kid) of `count` samples, in features, against a reference.

    `weights` is a file's path and `weights_sha256` the hash of its bytes, which is what counts. `rung_count` samples
    are taken where a run may be stopped early.
    """

    metric: str
    count: int
    reference: DatasetConfig
    features: str | None = None
    layer: str | None = None
    weights: str | None = None
    weights_sha256: str | None = None

    def document(self) -> dict[str, Any]:
        """Return it as plain values, without the path of the weights, which may be another on another machine."""
        rest = {key: value for key, value in vars(self).items() if key != "weights"}
        return {**rest, "reference": self.reference.document()}

    @property
    def rung_count(self) -> int:
        """Samples at a rung: a quarter, at least 100."""
        return min(self.count, max(100, self.count // 4))


@dataclass(frozen=True)
class Halving:
    """Successive halving: at each of `rungs`, in steps, only the best 1 / `factor` of the runs seen there go on.

    The first rung is after `first_images` images.
    """

    factor: int
    rungs: tuple[int, ...]
    first_images: int

    @classmethod
    def of(cls, configs: Sequence[RunConfig], factor: int) -> "Halving":
        """Rungs at budget / factor^2 and budget / factor.

        Raises UsageError when the runs do not have one budget and batch size, or have too few steps for that.
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
    """A point of the grid: its name, the values of the swept keys and the configuration, but for the seed."""

    name: str
    values: Mapping[str, Any]
    config: RunConfig

    def with_seed(self, seed: int) -> RunConfig:
        """The configuration of one run."""
        training = self.config.training.model_copy(update={"seed": seed})
        return self.config.model_copy(update={"training": training})

    def told_apart(self) -> "Cell":
        """The same cell by a longer name, which a hash of its values makes its own."""
        return replace(self, name=f"{self.name}-{_digest(self.values)}")

    def is_white(self, shape: tuple[int, ...]) -> bool:
        """Whether its filter is white on fields of `shape`, whatever it is called, and stays so in training."""
        if registry().get("filter", self.config.filter.type).basis is not None:
            return False
        weight = self.config.filter.weights(shape).weight
        return bool(weight.max() - weight.min() <= 1e-9 * weight.max())


@dataclass(frozen=True)
class Plan:
    """A sweep: the settings all runs share, the cells, the seeds, the measure and where it is all written.

    Without seeds, they are those that the output has already. `storage` is the address of a database, None for a file
    in the output.
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
        """Of its halving; None where nothing is stopped early."""
        return None if self.halving is None else self.halving.factor

    @property
    def identity(self) -> dict[str, Any]:
        """What may not change when a sweep is gone on with; cells and seeds may be added."""
        return {
            "base": self.base.document(),
            "evaluation": self.evaluation.document(),
            "halving": self.factor,
        }

    @property
    def study(self) -> str:
        """Name of its study in the storage, which other sweeps may share."""
        return f"sagd-{_digest(self.identity)}"

    def run_path(self, cell: Cell, seed: int) -> Path:
        """Where a run is, relative to the output."""
        return Path(CELLS) / cell.name / f"seed-{seed}"


def hash_file(path: Path) -> str:
    """Return the sha256 of the bytes of a file; raise UsageError when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from None


def parse_grid(texts: Iterable[str]) -> dict[str, list[Any]]:
    """Read KEY=V,V,... of each text; values are YAML, and commas inside brackets divide nothing.

    Values of `filter` may also be FILTER as the command line takes it. Raises UsageError on what is no such list, a key
    that comes twice, or training.seed.
    """
    grid: dict[str, list[Any]] = {}
    for text in texts:
        key, equals, values = text.partition("=")
        key = key.strip()
        words = split_list(values)
        if not equals or not key or not words:
            raise UsageError(
                f"{text!r} is not KEY=VALUE,VALUE", "For example --grid filter.options.alpha=-0.1,0,0.1"
            )
        if key in grid:
            raise UsageError(f"the key {key!r} is swept twice", "Give all its values in one --grid.")
        if key == SEED_KEY:
            raise UsageError("seeds are no part of the grid", "Give them with --seeds 0,1,2.")
        grid[key] = [_value(key, word.strip()) for word in words]
        if len({json.dumps(value, sort_keys=True, default=str) for value in grid[key]}) < len(words):
            raise UsageError(f"the key {key!r} is given a value twice")
    if not grid:
        raise UsageError("there is nothing to sweep", "For example --grid filter.options.alpha=-0.1,0,0.1")
    return grid


def _value(key: str, text: str) -> Any:
    if key == "filter" and not text.startswith("{"):
        return parse_filter(text).model_dump(mode="json")
    if key == "dataset" and not text.startswith("{"):
        return parse_dataset(text).document()
    return parse_yaml(text, f"a value of {key}")


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read N,N,...; raise UsageError on what is no list of different seeds."""
    words = [word.strip() for word in split_list(text)]
    if (
        not words
        or not all(re.fullmatch("[0-9]{1,9}", word) for word in words)
        or len({*map(int, words)}) < len(words)
    ):
        raise UsageError(f"{text!r} is no list of different seeds", "For example --seeds 0,1,2")
    return tuple(map(int, words))


def default_output(base: RunConfig, cells: Sequence[Cell]) -> Path:
    """Where a sweep goes when nothing is said: a name made of its settings and keys, so that cells may be added."""
    return Path("sweeps") / f"{base.default_name}-{_digest([*cells[0].values])[:6]}"


def make_cells(
    grid: Grid,
    flags: Mapping[str, Any],
    overrides: Sequence[str],
    config: str | Mapping[str, Any] | None,
    preset: str | None,
) -> tuple[Cell, ...]:
    """Return the cells of the grid over settings as `config.resolve` takes them.

    Raises ConfigError on invalid ones, UsageError when two are the same run.
    """
    cells: list[Cell] = []
    for values in product(*grid.values()):
        resolved = resolve({**flags, **dict(zip(grid, values, strict=True))}, overrides, config, preset)
        # As the configuration has them: 1e-3, a text in YAML, is a number there.
        chosen = {key: _at(resolved.document(), key) for key in grid}
        cells.append(Cell(_cell_name(chosen), chosen, resolved))
    counts = Counter(cell.config.sha256() for cell in cells)
    twice = [cell.name for cell in cells if counts[cell.config.sha256()] > 1]
    if twice:
        raise UsageError(f"cells of the grid are the same run: {', '.join(twice)}", "Give every value once.")
    if len({cell.name for cell in cells}) < len(cells):
        cells = [cell.told_apart() for cell in cells]
    return tuple(cells)


def _at(document: Mapping[str, Any], key: str) -> Any:
    for part in key.split("."):
        document = document[part]
    return document


def _cell_name(values: Mapping[str, Any]) -> str:
    """alpha=-0.1,channels=… in signs that any file system takes; what is changed or cut is told apart by a hash."""
    text = ",".join(f"{_last(key)}={_shown(value)}" for key, value in values.items())
    safe = re.sub(r"[^A-Za-z0-9._=,+-]+", "_", text)[:LONGEST_NAME].lstrip(".")
    return safe if safe == text else f"{safe}-{_digest(values)}"


def _last(key: str) -> str:
    return key.rpartition(".")[2]


def _shown(value: Any) -> str:
    """A value in a name: of a filter its family and what about it is not usual."""
    if isinstance(value, dict) and "type" in value:
        usual = FilterConfig(type=value["type"]).document()
        given = {**value["options"], **{key: value[key] for key in OF_FILTERS if value.get(key) is not None}}
        known = {**usual["options"], **usual}
        return "_".join(
            [value["type"], *(f"{key}{item}" for key, item in given.items() if item != known.get(key))]
        )
    if isinstance(value, dict):
        held_out = ["test"] if value.get("split") == "test" else []
        options = [str(option) for option in value.get("options", {}).values()]
        return "_".join([str(value.get("name", "")), *held_out, *options])
    text = json.dumps(value) if isinstance(value, list | bool) or value is None else str(value)
    return text.removesuffix(".0") if isinstance(value, float) else text


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:12]
