"""What people type: FILTER, DATA and sizes, as the command line takes them (docs/cli.md)."""

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sagd_cli.config.filter import FilterConfig
from sagd_cli.config.layers import parse_options
from sagd_cli.config.run import DatasetConfig
from sagd_cli.config.validation import validate
from sagd_cli.errors import ConfigError, UsageError, suggest
from sagd_cli.plugin.registry import registry
from sagd_cli.system.console import output
from sagd_cli.system.files import has_suffix
from sagd_cli.system.yaml import read_mapping

LARGEST_FIELD = 2**28


def parse_filter(text: str) -> FilterConfig:
    """Read FILE | TYPE[:k=v,...] | - (standard input)."""
    name, _, options = text.partition(":")
    if name in registry().names("filter"):
        return FilterConfig(type=name, options=parse_options(split_list(options)))
    if text == "-" or has_suffix(text, ".yaml", ".yml") or is_path(Path.is_file, text):
        return check_filter_file(read_mapping(text), "standard input" if text == "-" else text)
    if is_path(Path.is_dir, text):
        raise UsageError(
            f"{text} is a folder, not a filter file",
            f"The filter of a run is written by: sagd filter show {text} --output FILE.yaml",
        )
    return FilterConfig(type=name)


def check_filter_file(document: Mapping[str, Any], source: str) -> FilterConfig:
    """Validate the contents of a filter file; raise ConfigError that names `source`, also where `type` is missing."""
    if "type" not in document:
        raise ConfigError(f"{source} names no type of filter", "A filter file begins with `type: FAMILY`.")
    try:
        return validate(FilterConfig, document, source)
    except ConfigError as error:
        message = error.message if error.message.startswith(source) else f"{source}: {error.message}"
        raise ConfigError(message, error.hint) from None


def parse_dataset(text: str) -> DatasetConfig:
    """Read DATA: NAME[:test][,k=v,...], or a PATH that a data set accepts, with [,k=v,...].

    A folder `digits` is ./digits. Any other path that exists is read as it is, commas and colons included.
    """
    name = re.split("[:,]", text, maxsplit=1)[0]
    if name not in registry().names("dataset") or (name != text and is_path(Path.exists, text)):
        path, options = _path_and_options(text)
        return _checked(_accepting(path) or "folder", "train", {**options, "path": path})
    if is_path(Path.is_dir, name):
        output().once(f"{name} is the data set; there is also a folder of this name: ./{name}")
    words = split_list(text[len(name) + 1 :])
    splits = [word for word in words if "=" not in word]
    options = parse_options(word for word in words if "=" in word)
    if len(splits) > 1 or any(split not in ("train", "test") for split in splits):
        raise UsageError(f"{text!r}: a split is train or test", f"For example {name}:test")
    return _checked(name, (splits or ["train"])[0], options)


def as_pictures(config: DatasetConfig, **options: Any) -> DatasetConfig:
    """Return `config` with those `options` that are not None; they bring image files to one size or mode.

    Raises UsageError when the data set has no image files, and ConfigError on values that it does not take.
    """
    given = {key: value for key, value in options.items() if value is not None}
    missing = given.keys() - registry().get("dataset", config.name).options.model_fields.keys()
    if missing:
        raise UsageError(
            f"--{min(missing)} is for image files, and {config.subject} holds none",
            "Its images are taken as they are.",
        )
    return _checked(config.name, config.split, {**config.options, **given})


def _checked(name: str, split: str, options: Mapping[str, Any]) -> DatasetConfig:
    return validate(DatasetConfig, {"name": name, "split": split, "options": options}, "dataset")


def _path_and_options(text: str) -> tuple[str, dict[str, Any]]:
    """Return the path that `text` begins with, the longest one that exists, and the options that come after it."""
    words = re.split(r",(?=\w+=)", text)
    paths = {count: ",".join(words[:count]) for count in range(len(words), 0, -1)}
    count = next((count for count, path in paths.items() if is_path(Path.exists, path)), 1)
    path, name = paths[count], text.partition(":")[0]
    if is_path(Path.exists, path) or _accepting(path):
        return path, parse_options(words[count:])
    if not path or "/" in path:
        raise UsageError(
            f"{path!r} is not a folder of images, an image, a file of many images or a data set",
            "See `sagd data list`.",
        )
    hint = suggest(name, registry().names("dataset"))
    raise UsageError(f"unknown dataset {name!r}, and there is no file or folder of that name", hint)


def _accepting(path: str) -> str | None:
    """Return the name of the first data set that accepts a path."""
    found = registry().records("dataset")
    takers = (each.name for each in found if each.accepts and is_path(each.load("accepts"), path))
    return next(takers, None)


def parse_size(text: str) -> tuple[int, ...]:
    """Read the size of a field: N, HxW or DxHxW."""
    parts = text.lower().split("x")
    if not 1 <= len(parts) <= 3 or not all(
        part.isdecimal() and len(part) < 10 and int(part) for part in parts
    ):
        raise UsageError(f"{text!r} is not a size", "Sizes are 64, 28x28 or 8x9x10.")
    size = tuple(int(part) for part in parts)
    if math.prod(size) > LARGEST_FIELD:
        raise UsageError(
            f"a field of {text} has more than {LARGEST_FIELD:,} samples", "Choose a smaller --size."
        )
    return size


def is_path(test: Callable[[Path], bool], text: str) -> bool:
    """Ask something of the path `text`, which may be no possible path at all (empty, or too long)."""
    try:
        return bool(text) and test(Path(text))
    except (OSError, ValueError):
        return False


def split_list(text: str) -> list[str]:
    """Split at the commas that are not inside brackets; empty parts are left out."""
    parts, depth, start = [], 0, 0
    for i, char in enumerate(text):
        depth += (char in "[{(") - (char in "]})")
        if char == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    return [part for part in [*parts, text[start:]] if part.strip()]
