"""Shards of webdataset: .tar files of samples, each of an image and perhaps its class."""

import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from tarfile import TarError, TarInfo
from tarfile import open as open_tar

import numpy as np
from pydantic import Field

from sagd_cli.data.members import Member
from sagd_cli.errors import DataError, UsageError
from sagd_cli.files.layout import check_file_size
from sagd_cli.plugin import DatasetPlugin, LazyImageSet, Split, hookimpl
from sagd_cli.system.console import output
from sagd_cli.system.files import has_suffix, reason_of, shown_path
from sagd_plugins.datasets._picture_sets import (
    PictureImages,
    PictureOptions,
    PictureSet,
    files_of,
    holds_files,
    is_picture,
    no_test_split,
)

MOST_LABEL_BYTES = 2**20  # of a member that may hold a class
GZIP = b"\x1f\x8b"
END_BYTES = 2**16  # that are looked at behind the last member

Fault = Callable[[str], None]


class TarOptions(PictureOptions):
    """Which archives, which of their members, and the size, colour model and range to bring the images to."""

    path: Path = Field(
        Path("images.tar"), description="A .tar file, or a folder of .tar files, read in the order of names."
    )
    image: str | None = Field(
        None,
        description="Extension of the images, such as rgb.png, where samples have several; null: their one.",
    )


@dataclass(eq=False)
class _Index:
    """Where the images are in their files, and their classes."""

    shards: list[Path]
    names: list[str] = field(default_factory=list)
    numbers: "array[int]" = field(default_factory=lambda: array("q"))  # of the shards
    offsets: "array[int]" = field(default_factory=lambda: array("q"))
    sizes: "array[int]" = field(default_factory=lambda: array("q"))
    labels: "array[int]" = field(default_factory=lambda: array("q"))
    links: int = 0  # that were left out

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.names)

    def __getitem__(self, number: int, /) -> Member:
        """Return the place of an image."""
        shard = self.shards[self.numbers[number]]
        read = partial(_contents, shard, self.offsets[number], self.sizes[number])
        return Member(shard, self.names[number], read)


def build(options: TarOptions, split: Split) -> LazyImageSet:
    """Find the images of the archives in one pass over the headers; a class is an integer in .cls or .json.

    Raises UsageError for the test split and where there is no image. Raises DataError, which names file and member, on
    archives that are damaged or cut short, on samples with several images, and when some images have a class and others
    none. Reading raises what `PictureSet.alike` says.
    """
    return _found(options, split, _refuse).alike(options)


def stream(options: TarOptions, split: Split) -> PictureImages:
    """Return the images as `PictureSet.as_they_are` says; of a damaged archive those before the damage, with a warning.

    Raises what else `build` raises.
    """
    return _found(options, split, lambda message: output().once(message, warns=True)).as_they_are(options)


def _refuse(message: str) -> None:
    raise DataError(message, "Copy or write the file again.")


def _found(options: TarOptions, split: Split, fault: Fault) -> PictureSet:
    no_test_split(options.path, split)
    index, others = _Index(files_of(options.path, ".tar")), 0
    for number, shard in enumerate(index.shards):
        for sample in _samples(index, shard, fault):
            others += not _add(index, number, sample, options.image)
    if not len(index):
        raise UsageError(f"{shown_path(options.path)} holds no image", "Its samples are KEY.png and KEY.cls.")
    if index.links:
        output().once(f"{shown_path(options.path)}: {index.links} link(s) are left out")
    if others:
        output().once(f"{shown_path(options.path)}: {others} sample(s) without an image are left out")
    if index.labels and len(index.labels) != len(index):
        raise DataError(
            f"{len(index.labels)} of the {len(index)} images in {shown_path(options.path)} have a class",
            "Give each sample a .cls, or none.",
        )
    return PictureSet(index, np.array(index.labels, np.int64) if index.labels else None)


def _add(index: _Index, number: int, sample: Mapping[str, TarInfo], image: str | None) -> bool:
    """Add the image and the class of a sample, by its extensions, to `index`; tell whether there is an image."""
    shard = index.shards[number]
    pictures = [extension for extension, member in sample.items() if is_picture(member.name)]
    if image is not None:
        pictures = [extension for extension in pictures if extension == image.removeprefix(".")]
    label = _label(shard, sample)
    if len(pictures) > 1:
        first = sample[pictures[0]]
        raise DataError(
            f"{_shown(first, shard)} is one of several images of a sample: {', '.join(pictures)}",
            f"Say which with image={pictures[0]}.",
        )
    if not pictures:
        if "cls" in sample and image is None:
            raise DataError(
                f"{_shown(sample['cls'], shard)} is not beside its image",
                "Sort the archive: tar --sort=name.",
            )
        return False
    member = sample[pictures[0]]
    index.names.append(member.name)
    index.numbers.append(number)
    index.offsets.append(member.offset_data)
    index.sizes.append(member.size)
    if label is not None:
        index.labels.append(label)
    return True


def _label(shard: Path, sample: Mapping[str, TarInfo]) -> int | None:
    """Return the class of a sample; None without one. Raises DataError on one that is no integer of 64 bits."""
    member = sample.get("cls", sample.get("json"))
    if member is None:
        return None
    label = _integer(shard, member) if "cls" in sample else _integer_in_json(shard, member)
    if label is not None and not -(2**63) <= label < 2**63:
        raise DataError(f"{_shown(member, shard)} holds a class that is out of range")
    return label


def _integer(shard: Path, member: TarInfo) -> int:
    text = _small(shard, member)
    try:
        return int(text)
    except ValueError:
        raise DataError(f"{_shown(member, shard)} holds no class, which is an integer from 0") from None


def _integer_in_json(shard: Path, member: TarInfo) -> int | None:
    try:
        document = json.loads(_small(shard, member))
    except (ValueError, RecursionError):
        raise DataError(f"{_shown(member, shard)} is no JSON") from None
    values = [document.get(key) for key in ("label", "cls")] if isinstance(document, dict) else []
    return next((value for value in values if type(value) is int), None)


def _small(shard: Path, member: TarInfo) -> bytes:
    try:
        if member.size > MOST_LABEL_BYTES:
            raise DataError(
                f"is larger than {MOST_LABEL_BYTES // 2**20} MiB, the most that is read of a label"
            )
        return _contents(shard, member.offset_data, member.size)
    except DataError as error:
        raise DataError(f"{_shown(member, shard)} {error.message}", error.hint) from error


def _shown(member: TarInfo, shard: Path) -> str:
    return Member(shard, member.name, bytes).shown


def _samples(index: _Index, shard: Path, fault: Fault) -> Iterator[dict[str, TarInfo]]:
    """Yield the members of each sample by extension: those in a row whose names are equal up to the first dot.

    `fault` is told of what ends the archive too early; then its last sample may lack something and is left out.
    """
    sample, key = dict[str, TarInfo](), ""
    try:
        for member in _members(index, shard):
            path = PurePosixPath(member.name)
            stem, _, extension = path.name.partition(".")
            if str(path.parent / stem) != key or extension.lower() in sample:
                if sample:
                    yield sample
                sample, key = {}, str(path.parent / stem)
            sample[extension.lower()] = member
    except _NotWholeError as error:
        fault(str(error))
        return
    if sample:
        yield sample


class _NotWholeError(Exception):
    """An archive is damaged or cut short somewhere."""


def _members(index: _Index, shard: Path) -> Iterator[TarInfo]:
    """Yield the files of an archive that are not hidden, and count links.

    Raises _NotWholeError, which names the archive, where it is damaged.
    """
    last, size = "its beginning", shard.stat().st_size
    try:
        with shard.open("rb") as file:
            is_compressed = file.read(2) == GZIP
        if is_compressed:
            raise DataError(f"{shown_path(shard)} is a compressed tar", "Unpack it with gunzip.")
        with open_tar(shard, "r:") as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # which would grow with the archive
                if member.offset_data + (0 if member.issparse() else member.size) > size:
                    raise _NotWholeError(f"{_shown(member, shard)} is cut short, and with it the archive")
                last = member.name
                index.links += member.issym() or member.islnk()
                if member.isreg() and not member.issparse() and not Path(last).name.startswith("."):
                    yield member
            end = archive.offset
        with shard.open("rb") as file:
            file.seek(end)
            rest = file.read(END_BYTES)
    except TarError as error:
        reason = " ".join(str(error).split())
        raise _NotWholeError(
            f"{shown_path(shard)} cannot be read as a .tar file after {last}: {reason}"
        ) from error
    except OSError as error:
        raise DataError(f"{shown_path(shard)} cannot be opened: {reason_of(error)}") from error
    if rest.strip(b"\0"):
        raise _NotWholeError(
            f"{shown_path(shard)} is damaged after {last}, or another archive was joined to it"
        )
    if not rest:
        raise _NotWholeError(f"{shown_path(shard)} has no end after {last}: it is cut short")


def _contents(shard: Path, offset: int, size: int) -> bytes:
    check_file_size(size)
    try:
        with shard.open("rb") as file:
            file.seek(offset)
            data = file.read(size)
    except OSError as error:
        raise DataError(f"cannot be opened: {reason_of(error)}") from error
    if len(data) < size:
        raise DataError("is cut short", "Copy or write the file again.")
    return data


def _accepts(path: Path) -> bool:
    """Tell whether a path is an archive, also a compressed one, which is refused with the way out, or holds some."""
    is_compressed = has_suffix(path, ".tgz") or (has_suffix(path, ".gz") and has_suffix(path.stem, ".tar"))
    return ((has_suffix(path, ".tar") or is_compressed) and not path.is_dir()) or holds_files(path, ".tar")


@hookimpl
def sagd_datasets() -> Iterable[DatasetPlugin]:
    """Provide `tar`."""
    yield DatasetPlugin(
        "tar",
        "images in a .tar file or a folder of .tar shards, as webdataset has them; classes in .cls or .json",
        TarOptions,
        build,
        stream=stream,
        accepts=_accepts,
    )
