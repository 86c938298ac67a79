"""The grid of a sweep: read from the command line and made into cells. No torch."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

from sagd_cli.config.arguments import parse_dataset, parse_filter, split_list
from sagd_cli.config.filter import FilterConfig
from sagd_cli.config.layers import resolve
from sagd_cli.errors import UsageError
from sagd_cli.sweep.plan import Cell, short_hash
from sagd_cli.system.yaml import parse_yaml

LONGEST_NAME = 80
SEED_KEY = "training.seed"
PARSED = ("filter", "dataset")  # whose values are FILTER and DATA
OF_FILTERS = ("normalize", "units", "omit")  # settings of a filter besides its family and options

Grid = Mapping[str, Sequence[Any]]


def parse_grid(texts: Iterable[str]) -> dict[str, list[Any]]:
    """Read KEY=V,V,... of each text. Values are YAML, and commas inside brackets do not divide them.

    Values of `filter` and `dataset` may also be FILTER and DATA, as the command line takes them. Raises UsageError on a
    text of another form, on a key or value that comes twice, and on training.seed.
    """
    grid: dict[str, list[Any]] = {}
    for text in texts:
        key, values = _key_and_values(text)
        if key in grid:
            raise UsageError(f"the key {key!r} is swept twice", "Give all its values in one --grid.")
        grid[key] = values
    if not grid:
        raise UsageError("there is nothing to sweep", "For example --grid filter.options.alpha=-0.1,0,0.1")
    return grid


def _key_and_values(text: str) -> tuple[str, list[Any]]:
    key, equals, listed = text.partition("=")
    key, words = key.strip(), list[str]()
    for word in split_list(listed):
        if words and key in PARSED and re.match(r"\w+=", word):
            words[-1] += f",{word}"  # a further option of the value before
        else:
            words.append(word)
    if not equals or not key or not words:
        raise UsageError(
            f"{text!r} is not KEY=VALUE,VALUE", "For example --grid filter.options.alpha=-0.1,0,0.1"
        )
    if key == SEED_KEY:
        raise UsageError("seeds are no part of the grid", "Give them with --seeds 0,1,2.")
    values = [_value(key, word.strip()) for word in words]
    if len({json.dumps(value, sort_keys=True, default=str) for value in values}) < len(words):
        raise UsageError(f"the key {key!r} is given a value twice")
    return key, values


def _value(key: str, text: str) -> Any:
    if key == "filter" and not text.startswith("{"):
        return parse_filter(text).model_dump(mode="json")
    if key == "dataset" and not text.startswith("{"):
        return parse_dataset(text).document()
    return parse_yaml(text, f"a value of {key}")


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read N,N,...; raise UsageError unless it is a list of different seeds."""
    words = [word.strip() for word in split_list(text)]
    if (
        not words
        or not all(re.fullmatch("[0-9]{1,9}", word) for word in words)
        or len({*map(int, words)}) < len(words)
    ):
        raise UsageError(f"{text!r} is not a list of different seeds", "For example --seeds 0,1,2")
    return tuple(map(int, words))


def make_cells(
    grid: Grid,
    flags: Mapping[str, Any],
    overrides: Sequence[str],
    config: str | Mapping[str, Any] | None,
    preset: str | None,
) -> tuple[Cell, ...]:
    """Return the cells of the grid; the other arguments are settings as `config.layers.resolve` takes them.

    Raises ConfigError on invalid settings, UsageError when two cells are the same run.
    """
    cells: list[Cell] = []
    for values in product(*grid.values()):
        resolved = resolve({**flags, **dict(zip(grid, values, strict=True))}, overrides, config, preset)
        # From the configuration, where 1 and 1.0 are one value.
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
    """Return a name such as alpha=-0.1,batch_size=64, in characters that any file system takes.

    A name that had to be changed or cut ends with a hash of the values.
    """
    text = ",".join(f"{_last(key)}={_shown(value)}" for key, value in values.items())
    safe = re.sub(r"[^A-Za-z0-9._=,+-]+", "_", text)[:LONGEST_NAME].lstrip(".")
    return safe if safe == text else f"{safe}-{short_hash(values)}"


def _last(key: str) -> str:
    return key.rpartition(".")[2]


def _shown(value: Any) -> str:
    """Return a value as a name shows it: a filter is shown as its family and the settings that are not the default."""
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
