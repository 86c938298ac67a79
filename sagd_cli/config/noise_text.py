"""The text of noise: where its parts begin and end, and how it names files. No file is looked at but by `as_typed`."""

import json
import re
from pathlib import Path

from sagd_cli.config.arguments import is_path
from sagd_cli.errors import ConfigError

MEASURED = "from:"
MOST_JOINED = 12  # pieces between + that may be the name of one file
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_QUOTED = re.compile(rf"(?:{MEASURED})?\s*{_STRING.pattern}")
_LEVEL = re.compile(r"([:,])\s*level\s*=([^,:]*)")
_TYPED = re.compile(rf"\s*({MEASURED})?\s*(.*?)\s*([:,]\s*level\s*=[^,:]*)?\s*", re.DOTALL)


def parts_of(text: str) -> list[str]:
    """Return the parts of noise, split at each `+` that is not in brackets, in quotes or in a number.

    Quotes count where a path may begin, and in brackets.
    """
    return [piece.strip() for piece in _pieces(text)]


def path_text(path: str) -> str:
    """Return a path as noise names it: as it is, or in double quotes, as JSON, where it would be read otherwise."""
    is_plain = (
        path and path == path.strip() and not re.search(r'[+"(){}[\]]', path) and not _LEVEL.search(path)
    )
    return path if is_plain else json.dumps(path, ensure_ascii=False)


def named_path(text: str) -> str:
    """Return the path that `text` names, the inverse of `path_text`; raise ConfigError on quotes that do not end."""
    text = text.strip()
    if not text.startswith('"'):
        return text
    try:
        return str(json.loads(text))
    except ValueError:
        raise ConfigError(
            f"the file {text} is not a name in double quotes", 'For example from:"a+b.tif":level=0.5.'
        ) from None


def without_level(part: str) -> tuple[str, float | None]:
    """Return a part of noise without its level, and the level, or None where it gives none.

    Raises ConfigError when the level is no number or is given twice.
    """
    quoted = _QUOTED.match(part)
    found = _LEVEL.search(part, quoted.end() if quoted else 0)
    if not found:
        return part, None
    head, tail = part[: found.start()], part[found.end() :]
    spec = head + (found[1] + tail[1:] if tail.startswith(",") else tail)
    if _LEVEL.search(spec, found.start()):
        raise ConfigError(f"the noise {part!r} gives its level twice")
    try:
        return spec, float(found[2])
    except ValueError:
        raise ConfigError(
            f"the level of the noise {part!r} is not a number", "For example high:level=0.5."
        ) from None


def as_typed(text: str) -> str:
    """Return noise that a person typed with the names of files that exist in quotes, where they need some.

    So a person may leave the quotes out.
    """
    pieces, parts = _pieces(text), []
    while pieces:
        named = ((count, _file_in("+".join(pieces[:count]))) for count in range(1, MOST_JOINED + 1))
        count, part = next(((count, part) for count, part in named if part), (1, pieces[0]))
        parts.append(part)
        pieces = pieces[count:]
    return "+".join(parts)


def _file_in(part: str) -> str | None:
    """Return a part with its path in quotes, if that needs some and is that of a file that exists."""
    typed = _TYPED.fullmatch(part)
    assert typed is not None
    source, path, level = typed.groups(default="")
    named = path_text(path)
    return source + named + level if named != path and is_path(Path.exists, path) else None


def _pieces(text: str) -> list[str]:
    pieces, start, depth, at = [], 0, 0, 0
    while at < len(text):
        quoted = _STRING.match(text, at)
        if quoted and (depth > 0 or text[start:at].strip() in ("", MEASURED)):
            at = quoted.end()
            continue
        depth += (text[at] in "[{(") - (text[at] in "]})")
        if text[at] == "+" and depth == 0 and not _is_sign(text, at):
            pieces.append(text[start:at])
            start = at + 1
        at += 1
    return [*pieces, text[start:]]


def _is_sign(text: str, at: int) -> bool:
    """Whether the `+` at `at` belongs to a number, as in =+1 or 1e+3."""
    before, after = text[max(0, at - 2) : at], text[at + 1 : at + 3]
    return bool(re.match(r"\.?\d", after)) and bool(re.search(r"=$|[\d.][eE]$", before))
