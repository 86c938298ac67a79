"""Results of `sagd omit` in words, for the terminal and for the page of a report."""

from collections import Counter
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sagd_cli.spectral.band import Band

MOST_TABLES = 4  # images whose parts are listed in the terminal
PART_HEADINGS = ("part", "direction", "period", "strength", "grey levels of 255")


def omission_text(result: Mapping[str, Any]) -> RenderableType:
    """The images, the noise, the method and what was gained; of few images, a table of the parts in each."""
    files = result["files"]
    found = f"{len(files)} images, {_noise(result)}, {_method(result)}" if files else "nothing restored"
    lines = [f"{result['output']}: {found}"]
    if "psnr_mean" in result:
        lines.append(f"PSNR {result['psnr_before_mean']:.2f} dB before, {result['psnr_mean']:.2f} dB after")
        lines.append(f"SSIM {result['ssim_before_mean']:.4f} before, {result['ssim_mean']:.4f} after")
    text, tables = "\n".join(lines), [_table(record) for record in files if record["parts"]]
    return Group(Text(text), *tables) if tables and len(files) <= MOST_TABLES else text


def part_rows(record: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """One row under `PART_HEADINGS` for each part of the noise of a file."""
    return [
        (
            part["kind"],
            "" if part["direction"] is None else f"{part['direction']:g}°",
            "" if part["period"] is None else f"{part['period']:.3g} px",
            _both(part, "strength"),
            _both(part, "grey_levels"),
        )
        for part in record.get("parts", [])
    ]


def _noise(result: Mapping[str, Any]) -> str:
    if result["band"]:
        return f"band {Band.parse(result['band']).shown}"
    if result["noise"]:
        return f"noise {result['noise']}"
    count = sum(file["noise"] is None for file in result["files"])
    return f"no noise found in {count}" if count else "noise found in each"


def _method(result: Mapping[str, Any]) -> str:
    """Return the method of all files, or in how many each was used."""
    counts = Counter(file["method"] for file in result["files"])
    if len(counts) < 2:
        return str(result["method"])
    return ", ".join(f"{method} in {count}" for method, count in counts.items())


def _table(record: Mapping[str, Any]) -> Table:
    page = f", image {record['page'] + 1}" if "page" in record else ""
    name = PurePath(record["input"]).name + page
    table = Table(title=Text(name), title_justify="left", box=None, pad_edge=False)
    for heading in PART_HEADINGS:
        table.add_column(heading)
    for row in part_rows(record):
        table.add_row(*row)
    return table


def _both(part: Mapping[str, Any], key: str) -> str:
    """Return a figure before and after, in words."""
    before, after = part[f"{key}_before"], part[f"{key}_after"]
    if before is None:
        return "lost"
    return f"{before:.3g}" if after is None else f"{before:.3g} before, {after:.3g} after"
