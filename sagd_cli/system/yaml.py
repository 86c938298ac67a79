"""YAML in and out: safe, without aliases or duplicate keys, and with the plain values of YAML 1.2."""

import re
import sys
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from sagd_cli.errors import ConfigError

MAX_YAML_BYTES = 1_000_000
_TAG = "tag:yaml.org,2002:"
# The core schema of YAML 1.2. In YAML 1.1 yes is a boolean, 010 is 8, 1:30 is 90, and 2026-11-30 is no text.
_CORE = {
    "null": re.compile("~|null|Null|NULL|"),
    "bool": re.compile("true|True|TRUE|false|False|FALSE"),
    # Without a leading 0: that is left as a text, and refused where a number is asked for (system/settings.py).
    "int": re.compile("[-+]?(?:0|[1-9][0-9]*)|0o[0-7]+|0x[0-9a-fA-F]+"),
    "float": re.compile(
        r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
    ),
}
_FIRST = {
    "null": ["~", "n", "N", ""],
    "bool": list("tTfF"),
    "int": list("-+0123456789"),
    "float": list("-+.0123456789"),
}


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader of the core schema alone.

    It refuses aliases (they can expand without bound) and duplicate keys (one would be lost).
    """

    yaml_implicit_resolvers = {}  # noqa: RUF012
    yaml_constructors = {  # noqa: RUF012
        tag: yaml.SafeLoader.yaml_constructors[tag]
        for tag in (None, *(_TAG + kind for kind in ("null", "bool", "str", "seq", "map")))
    }

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


def _integer(loader: _StrictLoader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node), 0)


def _float(loader: _StrictLoader, node: yaml.ScalarNode) -> float:
    text = loader.construct_scalar(node)
    return float(text.replace(".", "") if text[-1].lower() in "fn" else text)


_StrictLoader.add_constructor(_TAG + "int", _integer)
_StrictLoader.add_constructor(_TAG + "float", _float)


def parse_yaml(text: str, source: str) -> Any:
    """Parse one YAML document; raise ConfigError, which names `source`, line and column, when it is not valid."""
    if len(text.encode(errors="replace")) > MAX_YAML_BYTES:
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
    """SafeDumper that keeps a list of plain values, such as the pair of a knot, on one line.

    A text that is something else in YAML 1.1 or 1.2, such as yes or 1e3, is quoted.
    """


def _list_node(dumper: yaml.SafeDumper, values: list[Any]) -> yaml.SequenceNode:
    plain = not any(isinstance(value, list | dict) for value in values)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=plain)


_ReadableDumper.add_representer(list, _list_node)
for _kind, _pattern in _CORE.items():
    _whole = re.compile(f"(?:{_pattern.pattern})$")
    _StrictLoader.add_implicit_resolver(_TAG + _kind, _whole, _FIRST[_kind])
    _ReadableDumper.add_implicit_resolver(_TAG + _kind, _whole, _FIRST[_kind])
_ReadableDumper.add_implicit_resolver(_TAG + "int", re.compile("[-+]?0[0-9]+$"), _FIRST["int"])


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
