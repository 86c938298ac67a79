"""What lies in a folder, which may be divided into numbered parts: by `sagd sample`, or as FFHQ is."""

import re
from itertools import chain
from pathlib import Path

from sagd_cli.files.formats import format_of
from sagd_cli.system.console import output
from sagd_cli.system.files import shown_path

# What `sagd sample` says of the images in a folder. Beside it lie the images, or folders of some of them, which are no
# classes.
SAMPLES_RECORD = "samples.json"
SAMPLES_WORK = ".samples"  # of a command that is not done: its journals, and batches of an archive
_PART = re.compile(r"[0-9]{5,}")
_NUMBER = re.compile(r"([0-9]{1,18})\Z")


def entries_in(folder: Path) -> list[Path]:
    """Return what is in a folder, sorted by name; of one that is divided what is in its parts, without a record.

    A folder is divided when it holds the record of samples, or when all its folders have numbers of five digits or more
    for names and hold images of these numbers: n to n + 999 in folder n, or all n + 1000 k in folder k. A note says the
    latter.
    """
    entries = sorted(folder.iterdir(), key=lambda path: path.name)  # a path that is compared grows
    parts = [path for path in entries if _PART.fullmatch(path.name) and path.is_dir()]
    if all(path.name != SAMPLES_RECORD for path in entries):
        if not parts or not _are_divided(entries, parts):
            return entries
        output().once(
            f"{shown_path(folder)}: {len(parts)} folder(s) are parts of one set, by the numbers of their images, and "
            "no classes"
        )
    parts.sort(key=lambda path: int(path.name))
    known = {folder / SAMPLES_RECORD, *parts}
    others = [path for path in entries if path not in known]
    return [*others, *chain.from_iterable(map(entries_in, parts))]


def _are_divided(entries: list[Path], parts: list[Path]) -> bool:
    """Whether `parts` are all folders among `entries`, and each holds images of its numbers."""
    known = {*parts}
    others = (path for path in entries if path not in known and not path.name.startswith("."))
    return not any(path.is_dir() for path in others) and all(map(_holds_its_numbers, parts))


def _holds_its_numbers(part: Path) -> bool:
    number = int(part.name)
    images = [path.stem for path in part.iterdir() if format_of(path)]
    found = [int(match[1]) // 1000 for stem in images if (match := _NUMBER.search(stem))]
    return 0 < len(images) == len(found) and {*found} in ({number}, {number / 1000})
