"""YAML in and out: safe, without aliases or duplicate keys."""

import sys
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from sagd_cli.errors import ConfigError

MAX_YAML_BYTES = 1_000_000


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses aliases (they can expand without bound) and duplicate keys (one would be lost)."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(problem="aliases are not allowed", problem_mark=self.get_mark())
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = key_node.value
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key is not a name", problem_mark=key_node.start_mark)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"duplicate key {key!r}", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str, source: str) -> Any:
    """Parse one YAML document; raise ConfigError, which names `source`, line and column, when it is not valid."""
    if len(text) > MAX_YAML_BYTES:
        raise ConfigError(
            f"{source} is larger than {MAX_YAML_BYTES:,} bytes", "It does not look like a configuration."
        )
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{source}{place}: {error.problem or 'not valid YAML'}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        problem = " ".join(str(error).split()) or "nested too deeply"
        raise ConfigError(f"{source} is not valid YAML: {problem}") from None


def read_mapping(path: Path | str) -> dict[str, Any]:
    """Read a YAML mapping from a file, or from standard input for `-`; raise ConfigError otherwise."""
    source = "standard input" if str(path) == "-" else str(path)
    try:
        text = sys.stdin.read(MAX_YAML_BYTES + 1) if str(path) == "-" else _read(Path(path))
    except UnicodeDecodeError:
        raise ConfigError(f"{source} is not a text file in UTF-8") from None
    except OSError as error:
        raise ConfigError(f"cannot read {source}: {(error.strerror or str(error)).lower()}") from None
    document = parse_yaml(text, source)
    if not isinstance(document, dict):
        found = "empty" if document is None else f"a {type(document).__name__}"
        raise ConfigError(f"{source} is {found}, not a YAML mapping of keys to values")
    return document


def _read(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.read(MAX_YAML_BYTES + 1)


class _ReadableDumper(yaml.SafeDumper):
    """SafeDumper that keeps a list of plain values, such as the pair of a knot, on one line."""


def _list_node(dumper: yaml.SafeDumper, values: list[Any]) -> yaml.SequenceNode:
    plain = not any(isinstance(value, list | dict) for value in values)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=plain)


_ReadableDumper.add_representer(list, _list_node)


def dump_yaml(document: dict[str, Any]) -> str:
    """Render a mapping as YAML, keys in their order."""
    return yaml.dump(
        document,
        Dumper=_ReadableDumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        width=100,
    )
