"""Images in a .zip archive, with the labels of its dataset.json, as StyleGAN's and EDM's tools write them."""

import json
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from zipfile import ZipFile, ZipInfo

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sagd_cli.data.members import Member
from sagd_cli.errors import DataError, SagdError, UsageError
from sagd_cli.files.formats import accepted_suffixes, format_in
from sagd_cli.files.layout import check_file_size
from sagd_cli.plugin import DatasetPlugin, LazyImageSet, Split, hookimpl
from sagd_cli.system.console import output
from sagd_cli.system.files import has_suffix, shown_path
from sagd_plugins.datasets._picture_sets import (
    PictureImages,
    PictureOptions,
    PictureSet,
    is_document,
    is_picture,
    no_test_split,
)

LABELS = "dataset.json"
MOST_LABEL_BYTES = 2**28
_HEAD = 64  # bytes that tell the format


class ZipOptions(PictureOptions):
    """Which archive, and the size, colour model and range to bring its images to."""

    path: Path = Field(Path("dataset.zip"), description="A .zip file of images, in folders or not.")


@dataclass(frozen=True, eq=False)
class _Members:
    """The images of an archive that stays open, in the order of their names."""

    path: Path
    archive: ZipFile
    infos: Sequence[ZipInfo]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.infos)

    def __getitem__(self, number: int, /) -> Member:
        """Return the place of an image."""
        info = self.infos[number]
        return Member(self.path, info.filename, partial(_contents, self.archive, info))


def build(options: ZipOptions, split: Split) -> LazyImageSet:
    """Find the images of the archive; their classes are those in dataset.json.

    Raises UsageError for the test split, when there is no such file, and when it holds no image. Raises DataError when
    it is no archive, and on labels that are not integers, one for each image. Reading raises what `PictureSet.alike`
    says.
    """
    return _found(options, split).alike(options)


def stream(options: ZipOptions, split: Split) -> PictureImages:
    """Return the images as `PictureSet.as_they_are` says. Raises what `build` raises."""
    return _found(options, split).as_they_are(options)


def _found(options: ZipOptions, split: Split) -> PictureSet:
    path = options.path
    no_test_split(path, split)
    if not path.is_file():
        raise UsageError(f"there is no file {shown_path(path)}")
    try:
        archive = ZipFile(path)
        files = [info for info in archive.infolist() if _is_plain(info)]
        infos = sorted((i for i in files if is_picture(i.filename)), key=lambda info: info.filename)
        labels = _labels(archive, [info.filename for info in infos])
    except (SagdError, MemoryError):
        raise
    except Exception as error:  # hostile bytes make the decoders raise anything at all
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{shown_path(path)} cannot be read as a .zip file: {text}") from error
    if not infos:
        raise UsageError(f"{shown_path(path)} holds no image", f"Accepted are {accepted_suffixes()}.")
    others = sum(not is_picture(info.filename) and not is_document(info.filename) for info in files)
    if others:
        output().once(f"{shown_path(path)}: {len(infos)} image(s); left out: {others} other file(s)")
    return PictureSet(_Members(path, archive, infos), labels)


def _is_plain(info: ZipInfo) -> bool:
    """Whether a member is a file: no folder, and no link, which leads anywhere."""
    return not info.is_dir() and not stat.S_ISLNK(info.external_attr >> 16)


def _labels(archive: ZipFile, names: Sequence[str]) -> NDArray[np.int64] | None:
    """Return the class of each image; None where the archive has none.

    They are in the dataset.json at the top, or in the only one, which names the images from its folder on.
    """
    shown = shown_path(Path(str(archive.filename)))
    found = [name for name in archive.namelist() if PurePosixPath(name).name == LABELS]
    chosen = [name for name in found if name == LABELS] or found
    if len(chosen) != 1:
        folders = {PurePosixPath(name).parent for name in names}
        if chosen:
            output().once(f"{shown} has {len(chosen)} files {LABELS}, none of them at its top, and uses none")
        elif len(folders) > 1:
            output().once(f"the {len(folders)} folders in {shown} are no classes: {LABELS} would tell them")
        return None
    info, subject, top = archive.getinfo(chosen[0]), f"{chosen[0]} in {shown}", chosen[0].removesuffix(LABELS)
    if info.file_size > MOST_LABEL_BYTES:
        raise DataError(f"{subject} is larger than {MOST_LABEL_BYTES // 2**20} MiB, the most that is read")
    try:
        document = json.loads(archive.read(info))
        pairs = document["labels"]
        label_of = None if pairs is None else {top + str(name).replace("\\", "/"): one for name, one in pairs}
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise DataError(f'{subject} is not {{"labels": [[NAME, CLASS], ...]}}') from error
    if label_of is None:
        return None
    for name in names:
        if type(label_of.get(name)) is not int:
            what = f"the label {label_of[name]!r}, which is no integer," if name in label_of else "no label"
            raise DataError(f"{subject} has {what} for {shown_path(Path(name))}")
    try:
        return np.array([label_of[name] for name in names], np.int64)
    except OverflowError:
        raise DataError(f"{subject} has labels that are out of range") from None


def _contents(archive: ZipFile, info: ZipInfo) -> bytes:
    """Return the bytes of a member; raise DataError when it is damaged, too large, or begins as no image does."""
    check_file_size(info.file_size)
    try:
        with archive.open(info) as file:
            head = file.read(_HEAD)
            format_in(head)  # before a bomb is unpacked
            return head + file.read()
    except (SagdError, MemoryError):
        raise
    except Exception as error:  # hostile bytes make the decoders raise anything at all
        text = " ".join(str(error).split())[:120] or type(error).__name__
        raise DataError(
            f"cannot be unpacked: {text}", "The archive may be damaged: write it again."
        ) from error


@hookimpl
def sagd_datasets() -> Iterable[DatasetPlugin]:
    """Provide `zip`."""
    yield DatasetPlugin(
        "zip",
        "images in a .zip file, as StyleGAN and EDM have them; classes in its dataset.json",
        ZipOptions,
        build,
        stream=stream,
        accepts=lambda path: (
            has_suffix(path, ".zip") and not has_suffix(path.stem, ".zarr") and not path.is_dir()
        ),
    )
