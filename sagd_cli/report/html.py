"""The page of a report: plain data in, one self-contained HTML file out. Every string is escaped by the template."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

from jinja2 import Environment, StrictUndefined, Template

TableRows = Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class Picture:
    """A picture as a data: URI, what it shows, and whether its pixels are shown as squares."""

    uri: str
    text: str
    pixelated: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of cells under their headings; `marked` are the rows that stand out."""

    headings: tuple[str, ...]
    rows: TableRows
    marked: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Subsection:
    """A part of a section with a title: words, pictures, a table, code, and things to unfold by their titles."""

    title: str
    words: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    table: Table | None = None
    code: str = ""
    folded: Sequence[tuple[str, "Table | str"]] = ()


@dataclass(frozen=True)
class Section:
    """A run or a sweep: its name, its main sentence, a few facts, its parts, and what is missing."""

    name: str
    kind: str
    headline: str = ""
    facts: TableRows = ()
    parts: Sequence[Subsection] = ()
    missing: Sequence[str] = field(default_factory=tuple)


def render_page(title: str, sections: Sequence[Section], footer: str) -> str:
    """Return the page. Characters that HTML cannot hold, such as control characters, are replaced by a sign."""
    page = _template().render(title=title, sections=sections, footer=footer)
    return "".join(char if char == "\n" or char.isprintable() else _visible(char) for char in page)


def _visible(char: str) -> str:
    """Return a sign in place of a character that has no shape, or that would turn the direction of the text."""
    return " " if char.isspace() else "\N{REPLACEMENT CHARACTER}"


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(
        (files("sagd_cli") / "report" / "templates" / "report.html").read_text("utf-8")
    )
