"""What people type: FILTER, DATA and sizes, as the command line takes them (docs/cli.md)."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sagd_cli.config.filter import FilterConfig
from sagd_cli.config.layers import parse_options
from sagd_cli.config.run import DatasetConfig
from sagd_cli.config.validation import validate
from sagd_cli.errors import ConfigError, UsageError, suggest
from sagd_cli.plugin.registry import registry
from sagd_cli.system.yaml import read_mapping

LARGEST_FIELD = 2**28


def parse_filter(text: str) -> FilterConfig:
    """Read FILE | TYPE[:k=v,...] | - (standard input)."""
    name, _, options = text.partition(":")
    if name in registry().names("filter"):
        return FilterConfig(type=name, options=parse_options(split_list(options)))
    if text == "-" or text.endswith((".yaml", ".yml")) or _is(Path.is_file, text):
        return check_filter_file(read_mapping(text), "standard input" if text == "-" else text)
    if _is(Path.is_dir, text):
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
    """Read DATA: NAME[:test][,k=v,...] | FOLDER | IMAGE | FILE.npy | FILE.npz; a folder `digits` is ./digits."""
    name, _, rest = text.partition(":")
    if name not in registry().names("dataset"):
        if text.endswith((".npy", ".npz")):
            return DatasetConfig(name="npy", options={"path": text})
        if _is(Path.exists, text):
            return DatasetConfig(name="folder", options={"path": text})
        if not text or "/" in text:
            raise UsageError(
                f"{text!r} is not a folder of images, an image, a .npy file or a data set",
                "See `sagd data list`.",
            )
        hint = suggest(name, registry().names("dataset"))
        raise UsageError(f"unknown dataset {name!r}, and there is no folder or .npy file of that name", hint)
    words = split_list(rest)
    splits = [word for word in words if "=" not in word]
    options = parse_options(word for word in words if "=" in word)
    if len(splits) > 1 or any(split not in ("train", "test") for split in splits):
        raise UsageError(f"{text!r}: a split is train or test", f"For example {name}:test")
    return validate(
        DatasetConfig, {"name": name, "split": (splits or ["train"])[0], "options": options}, "dataset"
    )


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


def _is(test: Callable[[Path], bool], text: str) -> bool:
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
