"""What lies beside images in NAME.npy: NAME.labels.npy, and NAME.json with the names of classes. Imports no torch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from pydantic import Field

from sagd_cli.config.documents import Document, check_document
from sagd_cli.data.images import naming
from sagd_cli.errors import DataError, SagdError, UsageError
from sagd_cli.plugin.records import LazyImageSet
from sagd_cli.system.console import output
from sagd_cli.system.files import atomic_path, read_text, refuse_existing, shown_path, write_json

_LARGEST = 1 << 28
_REMEDY = "Move it away, or write it anew with the array."


class _Facts(Document):
    class_names: list[str] = Field(default_factory=list)
    latents: dict[str, Any] | None = None


def labels_path(path: Path) -> Path:
    """Return where the labels of the images in the .npy file `path` are."""
    return path.with_name(f"{path.stem}.labels.npy")


def facts_path(path: Path) -> Path:
    """Return where the rest of what is known of the images in the .npy file `path` is, such as the names of classes."""
    return path.with_name(f"{path.stem}.json")


def read_beside(path: Path, images: Any) -> LazyImageSet:
    """Return `images`, the array of the .npy file `path`, with what lies beside it; labels are mapped into memory.

    A JSON file that has neither `class_names` nor `latents` is somebody else's, and a note says that it is not used; so
    is a damaged one where there are no labels. Raises DataError, which names the file, on labels that are not int64 of
    shape (N,), and on a JSON file beside them that is damaged.
    """
    labels = labels_path(path)
    try:
        facts = _read_facts(facts_path(path))
    except SagdError:
        if labels.is_file():
            raise
        facts = _Facts()
    if facts_path(path).is_file() and not (facts.class_names or facts.latents):
        output().once(f"{shown_path(facts_path(path))} does not describe {shown_path(path)}, and is not used")
    if not labels.is_file():
        if facts.class_names:
            raise DataError(
                f"{shown_path(facts_path(path))} names classes, but {shown_path(labels)} is not there"
            )
        return LazyImageSet(images, latents=facts.latents)
    try:
        array = npy.open_memmap(labels, mode="r")
    except Exception as error:  # hostile bytes make it raise anything at all
        raise DataError(f"{shown_path(labels)} cannot be read as an array", _REMEDY) from error
    if array.dtype != np.int64 or array.shape != (len(images),):
        raise DataError(
            f"{shown_path(labels)} is {array.dtype} of shape {array.shape}, and the labels of "
            f"{shown_path(path)} are int64 of shape ({len(images)},)",
            _REMEDY,
        )
    return LazyImageSet(images, array, tuple(facts.class_names), facts.latents)


def _read_facts(path: Path) -> _Facts:
    if not path.is_file():
        return _Facts()
    try:
        document = json.loads(read_text(path, _LARGEST))
    except (ValueError, RecursionError):
        raise DataError(f"{shown_path(path)} is damaged: it is no JSON", _REMEDY) from None
    if not isinstance(document, dict) or not _Facts.model_fields.keys() & document.keys():
        return _Facts()
    check_document(_Facts, document, shown_path(path), "description of an array of images", _REMEDY)
    return _Facts.model_validate(document)


def write_beside(path: Path, data: LazyImageSet) -> None:
    """Write labels, names of classes and `latents` of `data` beside the array at `path`; remove those of other data.

    Raises SagdError on a full disk.
    """
    if data.labels is None:
        labels_path(path).unlink(missing_ok=True)
    else:
        with (
            naming(labels_path(path)),
            atomic_path(labels_path(path)) as temporary,
            temporary.open("wb") as file,
        ):
            np.save(file, np.asarray(data.labels, np.int64))
    facts: Mapping[str, Any] = {"class_names": [*data.class_names], "latents": data.latents}
    told = {name: fact for name, fact in facts.items() if fact}
    if told:
        write_json(facts_path(path), told)
    elif _is_ours(facts_path(path)):
        facts_path(path).unlink()


def refuse_others(path: Path, force: bool) -> None:
    """Raise UsageError when files are where `write_beside` writes, unless `force`; also on a JSON file of others."""
    refuse_existing(labels_path(path), force)
    refuse_existing(facts_path(path), force or not _is_ours(facts_path(path)))
    if facts_path(path).exists() and not _is_ours(facts_path(path)):
        raise UsageError(
            f"{shown_path(facts_path(path))} is where the names of the classes belong, and it holds something else",
            "Choose another --output, or move it away.",
        )


def _is_ours(path: Path) -> bool:
    """Whether a file describes an array of images."""
    try:
        facts = _read_facts(path)
    except SagdError:
        return False
    return bool(facts.class_names or facts.latents)
