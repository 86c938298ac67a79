"""Zarr stores, plane by plane: the planes of one array are read and replaced, and all else in the store stays as it is.

The array is the store's own, or that of full size in an image of OME-Zarr (its `multiscales`).
"""

import math
import os
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, ClassVar

import numpy as np

from sagd_cli.errors import DataError
from sagd_cli.files.layout import FORMS_KEPT, IMAGE_TYPES, STORE_MARKS, check_size
from sagd_cli.files.metadata import Metadata

_DOCUMENTS = (*STORE_MARKS, ".zattrs")  # the files of an array that are not its chunks
_LARGEST_CHUNK = 2**30  # bytes
_BYTES_AHEAD = 2**27  # of planes that lie in the same chunks as one that is read
_MOST_COLOURS = 4


@dataclass(frozen=True)
class ZarrForm:
    """How the `array` of the store at `path` is stored: planes (H, W) over its last two axes.

    `chunks` are read as a whole, and `units` written: these are the shards, if there are any. The multiscales of the
    group `image` name the array, and also the smaller copies `levels` of it; it is None where no group does.
    """

    path: Path
    array: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    units: tuple[int, ...]
    image: str | None
    levels: tuple[str, ...]
    format: ClassVar[str] = "Zarr"
    is_folder: ClassVar[bool] = True
    ends: ClassVar[None] = None

    @property
    def count(self) -> int:
        """The number of planes."""
        return math.prod(self.shape[:-2])

    @property
    def values(self) -> int:
        """The number of values of a plane."""
        return math.prod(self.shape[-2:])

    def decode(self, number: int) -> tuple[np.ndarray, Metadata]:
        """Return the samples (H, W, 1) of a plane."""
        plane = _planes_of(self).plane(number)
        return plane[..., None].copy(), Metadata(has_copies=bool(self.levels))  # a view would keep all planes

    def writer(self, path: Path, image_bytes: int) -> "ZarrWriter":
        """Return what writes the planes, into a copy of the store in the empty folder `path`."""
        return ZarrWriter(path, self)


def zarr_form(path: Path) -> ZarrForm:
    """Return the form of a Zarr store; raise DataError on one that holds no one image, and without the package zarr."""
    status = next((path / mark).stat() for mark in STORE_MARKS if (path / mark).is_file())
    return _read_form(path, status.st_ino, status.st_size, status.st_mtime_ns)


def decode_zarr(path: Path) -> np.ndarray:
    """Raise DataError, which says why a Zarr store is not read by its form."""
    form = zarr_form(path)
    raise DataError(f"holds {form.count} planes", "Save each plane to a file of its own.")


@lru_cache(maxsize=FORMS_KEPT)
def _read_form(path: Path, *_: int) -> ZarrForm:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        node, image, paths, axes = _found(_zarr().open(path, mode="r"))
        units, dtype = node.shards or node.chunks, node.dtype
        _check(node, [str(axis).lower() for axis in axes])
        check_size(math.prod(node.shape[-2:]))
        check_size(math.prod(node.shape[:-2]))
        if math.prod(units) * dtype.itemsize > _LARGEST_CHUNK:
            raise DataError(
                "has chunks of more than 1 GiB, the most that is read", "Save it in smaller ones."
            )
    return ZarrForm(path, node.path, node.shape, node.chunks, units, image, paths)


def _found(node: Any) -> tuple[Any, str | None, tuple[str, ...], list[Any]]:
    """Return the array of the image in a group, the group that names it, its smaller copies, and the names of axes.

    A group of one member stands for it; this member is not the text of OME beside the images of a file.
    """
    if hasattr(node, "chunks"):
        names = getattr(node.metadata, "dimension_names", None) or node.attrs.get("_ARRAY_DIMENSIONS")
        return node, None, (), [*(names or ())]
    scales = _scales(node)
    if not scales:
        members = sorted(key for key in node if key != "OME")
        if len(members) == 1:
            return _found(node[members[0]])
        named = ", ".join(members[:3]) + (", ..." if len(members) > 3 else "")
        raise DataError(
            f"is a Zarr group of {len(members)} members, and does not say which is its image",
            f"Name one of them, as STORE/MEMBER, and --output: {named}." if members else "",
        )
    first, *others = ([level["path"] for level in one["datasets"]] for one in scales)
    kept = {first[0], *(path for paths in others for path in paths)}
    levels = tuple(f"{node.path}/{path}".strip("/") for path in first if path not in kept)
    names = [axis["name"] if isinstance(axis, dict) else axis for axis in scales[0].get("axes", ())]
    return node[first[0]], node.path, levels, names


def _scales(group: Any) -> list[Any]:
    """Return the multiscales of a group: those of OME-Zarr from 0.5 on, or of before."""
    found: list[Any] = group.attrs.get("ome", group.attrs).get("multiscales", [])
    return found


def _check(node: Any, axes: list[str]) -> None:
    """Raise DataError unless the array holds planes of numbers that images have."""
    if node.ndim < 2:
        raise DataError("holds no image, but an array of one axis at most")
    if node.dtype.name not in IMAGE_TYPES:
        raise DataError(
            f"holds values of the type {node.dtype}",
            "Save them as integers of 8, 16 or 32 bits or floats of 16, 32 or 64.",
        )
    has_names = {"y", "x"} <= {*axes}
    if has_names and axes[-2:] != ["y", "x"]:
        raise DataError(f"has the axes {', '.join(axes)}", "Save it with y and x as the last two.")
    if not has_names and node.ndim > 2 and node.shape[-1] <= _MOST_COLOURS < node.shape[-2]:
        raise DataError(
            f"has {node.shape[-1]} values on its last axis, which seem to be colours",
            "Save it with them on the first axis: planes lie on the last two.",
        )


class _Planes:
    """Reads the planes of a form; those that lie in the same chunks are kept until they are asked for, once each."""

    def __init__(self, form: ZarrForm) -> None:
        self._form, self._array = form, _zarr().open_array(form.path, path=form.array, mode="r")
        self._ahead: dict[int, np.ndarray] = {}

    def plane(self, number: int) -> np.ndarray:
        """Return plane `number` (H, W)."""
        if number not in self._ahead:
            self._ahead = self._read(number)
        return self._ahead.pop(number)

    def _read(self, number: int) -> dict[int, np.ndarray]:
        shape, kind = self._form.shape, self._array.dtype
        if len(shape) == 2:
            return {number: self._array[:].astype(kind.newbyteorder("="), copy=False)}
        *outer, at = (int(index) for index in np.unravel_index(number, shape[:-2]))
        depth = self._form.chunks[-3]
        if depth * self._form.values * kind.itemsize > _BYTES_AHEAD:
            first, end = at, at + 1
        else:
            first, end = at - at % depth, at - at % depth + depth
        planes = self._array[(*outer, slice(first, end))].astype(kind.newbyteorder("="), copy=False)
        return {number - at + first + k: plane for k, plane in enumerate(planes)}


@lru_cache(maxsize=2)  # a store and its truth
def _planes_of(form: ZarrForm) -> _Planes:
    return _Planes(form)


class ZarrWriter:
    """Writes the planes of a Zarr store into a copy of it: as many at once as its chunks or shards are deep."""

    def __init__(self, path: Path, form: ZarrForm) -> None:
        """Copy all of the store but the planes and the smaller copies of them."""
        array, levels = form.path / form.array, {form.path / level for level in form.levels}
        for folder, folders, files in os.walk(form.path, followlinks=True):
            here = Path(folder)
            target = path / here.relative_to(form.path)
            target.mkdir(exist_ok=True)
            folders[:] = [name for name in folders if here != array and here / name not in levels]
            for name in (name for name in files if here != array or name in _DOCUMENTS):
                shutil.copyfile(here / name, target / name)
        self._path, self._form = path, form
        self._array = _zarr().open_array(path, path=form.array, mode="r+")
        self._parts, self._waiting = _parts(form), 0
        self._selection, self._shape = next(self._parts)
        self._file = TemporaryFile(dir=path.parent)  # noqa: SIM115

    def add(self, samples: np.ndarray, metadata: Metadata) -> None:
        """Write the next plane (H, W, 1)."""
        self._file.write(np.ascontiguousarray(samples[..., 0]).data)
        self._waiting += self._form.values
        if self._waiting < math.prod(self._shape):
            return
        self._file.flush()
        # Only read through a map: where a disk is full, writing through one would end the process.
        self._array[self._selection] = np.memmap(self._file, samples.dtype, "r", shape=self._shape)
        self._file.seek(0)
        self._file.truncate()
        self._waiting = 0
        self._selection, self._shape = next(self._parts, ((), (0,)))

    def close(self) -> None:
        """End, and say in the store that it holds no smaller copies, where it held some."""
        self._file.close()
        if self._form.image is None or not self._form.levels:
            return
        zarr, image = _zarr(), self._form.image
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            groups = {path: zarr.open_group(self._path, path=path, mode="r") for path in ("", image)}
            consolidated = [
                path for path, group in groups.items() if group.metadata.consolidated_metadata is not None
            ]
            group = zarr.open_group(self._path, path=image, mode="r+", use_consolidated=False)
            first, *others = _scales(group)
            found = {"multiscales": [{**first, "datasets": first["datasets"][:1]}, *others]}
            group.attrs.update({"ome": group.attrs["ome"] | found} if "ome" in group.attrs else found)
            for path in consolidated:
                zarr.consolidate_metadata(self._path, path=path)


def _parts(form: ZarrForm) -> Iterator[tuple[tuple[int | slice, ...], tuple[int, ...]]]:
    """Yield the parts of the array that are written at once, in the order of planes: their selection and their shape.

    A part ends where chunks end: it holds as many places of the first axis that has several in a chunk, and all planes
    at these.
    """
    lead, plane = form.shape[:-2], form.shape[-2:]
    deep = next((axis for axis, depth in enumerate(form.units[:-2]) if depth > 1), len(lead))
    for place in np.ndindex(*lead[:deep]):
        if deep == len(lead):
            yield place, plane
            continue
        for at in range(0, lead[deep], form.units[deep]):
            end = min(at + form.units[deep], lead[deep])
            yield (*place, slice(at, end)), (end - at, *lead[deep + 1 :], *plane)


def _zarr() -> Any:
    """Return the package zarr."""
    try:
        import zarr
    except ImportError:
        raise DataError(
            "is a Zarr store, and the package zarr is not installed", "Install it: pip install 'sagd[zarr]'"
        ) from None
    return zarr
