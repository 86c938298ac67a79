"""Data sets of Hugging Face: a folder of `save_to_disk`, or Parquet files, with a column of images."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sagd_cli.data.members import Member
from sagd_cli.errors import DataError, UsageError
from sagd_cli.plugin import DatasetPlugin, LazyImageSet, Split, hookimpl
from sagd_cli.system.console import output
from sagd_cli.system.files import has_suffix, shown_path
from sagd_plugins.datasets._picture_sets import (
    PictureImages,
    PictureOptions,
    PictureSet,
    files_of,
    has_files,
    holds_images,
    no_test_split,
)
from sagd_plugins.datasets._tables import Cells, Column, Table, read_table

# What `save_to_disk` writes beside its files.
STATE, INFO, SPLITS = "state.json", "dataset_info.json", "dataset_dict.json"
LABEL_NAMES = ("label", "labels")
_SHARD = re.compile(r"(.+?)(?:-\d+-of-(\d+)(?:-[0-9a-f]+)?)?\.parquet", re.IGNORECASE)
_SPLITS = {"train", "test", "validation"}


class HfOptions(PictureOptions):
    """Which data set, which of its columns, and the size, colour model and range to bring its images to."""

    path: Path = Field(
        Path("dataset"), description="Folder of `save_to_disk`, a .parquet file, or a folder of them."
    )
    column: str | None = Field(None, description="Column of the images; null: the only one.")
    labels: str | None = Field(None, description="Column of the classes; null: the only one, or `label`.")

    later: ClassVar[tuple[str, ...]] = (*PictureOptions.later, "column", "labels")


@dataclass(frozen=True, eq=False)
class _Rows:
    """The images in a column of a table."""

    table: Table
    cells: Cells

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.table.count

    def __getitem__(self, number: int, /) -> Member:
        """Return the place of an image."""
        return Member(self.table.path_of(number), f"row {number}", partial(self.cells, number))


def build(options: HfOptions, split: Split) -> LazyImageSet:
    """Find the images of a split in the files that hold it, with their classes where a column has them.

    Raises UsageError when there are no such files, on a split and on columns that are not there, and when pyarrow is
    not installed. Raises DataError on files that are damaged, and on classes that are not integers. Reading raises what
    `PictureSet.alike` says.
    """
    return _found(options, split).alike(options)


def stream(options: HfOptions, split: Split) -> PictureImages:
    """Return the images as `PictureSet.as_they_are` says. Raises what `build` raises."""
    return _found(options, split).as_they_are(options)


def accepts(path: Path) -> bool:
    """Tell whether a path is a Parquet or Arrow file, a folder of `save_to_disk`, or one of Parquet files."""
    if has_suffix(path, ".parquet", ".arrow") and not path.is_dir():
        return True
    is_saved = (path / SPLITS).is_file() or _is_saved(path)
    has_tables = is_saved or any(has_files(folder, ".parquet") for folder in (path, path / "data"))
    return has_tables and not holds_images(path)


def _is_saved(folder: Path) -> bool:
    """Whether `save_to_disk` wrote a folder; a file called state.json alone says nothing."""
    return (folder / STATE).is_file() and ((folder / INFO).is_file() or has_files(folder, ".arrow"))


def _found(options: HfOptions, split: Split) -> PictureSet:
    table = read_table(_files(options.path, split))
    if not table.count:
        raise UsageError(f"{shown_path(options.path)} has no rows")
    places = _Rows(table, Cells(table, _image_column(table, options).name))
    column = _label_column(table, options)
    labels = None if column is None else _labels(table, column)
    names = [] if column is None or labels is None else column.feature.get("names", [])
    return PictureSet(places, labels, tuple(map(str, names)) if isinstance(names, list) else ())


def _files(path: Path, split: Split) -> list[Path]:
    """Return the files of a split."""
    if (path / SPLITS).is_file():
        known = _document(path / SPLITS).get("splits")
        names = [name for name in known if isinstance(name, str)] if isinstance(known, list) else []
        if split not in names:
            raise _no_split(
                path, split, names, f"Name the folder of one, such as {path / (names or [''])[0]}."
            )
        return _files_of_state(path / split)
    if path.is_dir() and not _is_saved(path):
        return _shards(path if has_files(path, ".parquet") else path / "data", split)
    no_test_split(path, split)
    return _files_of_state(path) if path.is_dir() else files_of(path, path.suffix)


def _files_of_state(folder: Path) -> list[Path]:
    """Return the files that the state of a saved data set names; raise DataError where they are not beside it."""
    state = folder / STATE
    try:
        names = [entry["filename"] for entry in _document(state)["_data_files"]]
        files = [folder / name for name in names if Path(name).name == name]
    except (KeyError, TypeError) as error:
        raise DataError(f"{shown_path(state)} names no files") from error
    missing = [name for name in names if not (folder / name).is_file() or folder / name not in files]
    if missing:
        raise DataError(
            f"{shown_path(state)} names {missing[0]}, which is not beside it", "Copy the whole folder."
        )
    if not files:
        raise UsageError(f"{shown_path(folder)} has no rows")
    return files


def _shards(folder: Path, split: Split) -> list[Path]:
    """Return the Parquet files of a split: where no name says a split, all of them are of `train`."""
    files = files_of(folder, ".parquet")
    matches = {file: match for file in files if (match := _SHARD.fullmatch(file.name))}
    splits = {file: match[1] for file, match in matches.items()}
    if not _SPLITS & {*splits.values()}:
        no_test_split(folder, split)
        return files
    chosen = [file for file in files if splits.get(file) == split]
    if not chosen:
        raise _no_split(folder, split, sorted({*splits.values()}), "Name the file of one.")
    announced = matches[chosen[0]][2]
    if announced is not None and len(chosen) != int(announced):
        raise DataError(
            f"{shown_path(folder)} holds {len(chosen)} of the {int(announced)} files of {split}",
            "Copy the others.",
        )
    return chosen


def _no_split(path: Path, split: str, names: Sequence[str], hint: str) -> UsageError:
    return UsageError(f"{shown_path(path)} has no split {split}; its splits are {', '.join(names)}", hint)


def _document(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{shown_path(path)} cannot be read as JSON") from error
    return found if isinstance(found, dict) else {}


def _image_column(table: Table, options: HfOptions) -> Column:
    """Return the column that is told, or the only one of images; raise UsageError, with all columns, without one."""
    if options.column is not None:
        column = _named(table, options, "column", options.column)
        if not _holds_files(column):
            raise DataError(f"the column {column.shown} of {shown_path(options.path)} holds no image files")
        return column
    found = [column for column in table.columns if column.feature.get("_type") == "Image"]
    found = found or [column for column in table.columns if _holds_files(column)]
    if len(found) != 1:
        what = f"{len(found)} columns of images" if found else "no column of images"
        hint = f"Say which with column={found[0].name}." if found else ""
        raise UsageError(f"{shown_path(options.path)} has {what}; its columns are {_listed(table)}", hint)
    return found[0]


def _holds_files(column: Column) -> bool:
    from pyarrow import types

    kind = column.type
    if types.is_struct(kind):
        names = [kind.field(k).name for k in range(kind.num_fields)]
        kind = kind.field(names.index("bytes")).type if "bytes" in names else kind
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _label_column(table: Table, options: HfOptions) -> Column | None:
    """Return the column that is told, or else the only one of classes, or an integer one called label or labels."""
    from pyarrow import types

    if options.labels is not None:
        column = _named(table, options, "labels", options.labels)
        if not types.is_integer(column.type):
            raise DataError(f"the column {column.shown} of {shown_path(options.path)} holds no integers")
        return column
    integers = [column for column in table.columns if types.is_integer(column.type)]
    classes = [column for column in integers if column.feature.get("_type") == "ClassLabel"]
    found = classes or [column for column in integers if column.name in LABEL_NAMES]
    if not found:
        for column in table.columns:
            if column.name in LABEL_NAMES:
                output().once(
                    f"the column {column.shown} of {shown_path(options.path)} is not used: classes are integers"
                )
    if len(found) > 1:
        names = ", ".join(column.name for column in found)
        output().once(f"{shown_path(options.path)} has classes in {names}; labels={found[0].name} takes them")
    return found[0] if len(found) == 1 else None


def _labels(table: Table, column: Column) -> NDArray[np.int64] | None:
    """Return the classes of all rows; None where each of them is -1, as in test sets whose classes are kept secret."""
    labels = table.integers(column.name)
    return None if (labels == -1).all() else labels


def _named(table: Table, options: HfOptions, option: str, name: str) -> Column:
    for column in table.columns:
        if column.name == name:
            return column
    raise UsageError(
        f"{shown_path(options.path)} has no column {name!r}; its columns are {_listed(table)}",
        f"Say which with {option}=NAME.",
    )


def _listed(table: Table) -> str:
    return ", ".join(column.shown for column in table.columns)


@hookimpl
def sagd_datasets() -> Iterable[DatasetPlugin]:
    """Provide `hf`."""
    yield DatasetPlugin(
        "hf",
        "images of Hugging Face: a folder of save_to_disk, or .parquet files; column=, labels=; needs sagd[hf]",
        HfOptions,
        build,
        stream=stream,
        accepts=accepts,
    )
