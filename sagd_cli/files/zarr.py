"""Zarr stores, plane by plane: planes of one array are read and replaced, and all else in the store stays as it is."""

import math
import os
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import ClassVar

import numpy as np

from sagd_cli.errors import DataError
from sagd_cli.files.layout import FORMS_KEPT, STORE_MARKS, check_size
from sagd_cli.files.metadata import Metadata, Tag
from sagd_cli.files.zarr_array import check_array, image_array, no_data_of, scales_of, zarr_package

_DOCUMENTS = (*STORE_MARKS, ".zattrs")  # the files of an array that are not its chunks
_LARGEST_CHUNK = 2**30  # bytes
_BYTES_AHEAD = 2**27  # of planes that lie in the same chunk as one that is read, at most
_NO_DATA, _TEXT = 42113, 2

_State = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class ZarrForm:
    """How the `array` of the store at `path` is stored: planes (H, W) over its last two axes.

    `chunks` are read as a whole, and `units` written: these are the shards, if there are any. The multiscales of the
    group `image` name the array, and also the smaller copies `levels` of it; it is None where no group does. `no_data`
    are the values that stand for missing data, and `state` is that of the array's own documents.
    """

    path: Path
    array: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    units: tuple[int, ...]
    image: str | None
    levels: tuple[str, ...]
    no_data: tuple[float, ...]
    state: _State
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
        text = " ".join(f"{value:.17g}" for value in self.no_data)
        tags = (Tag(_NO_DATA, _TEXT, f"{text}\0".encode()),) if text else ()
        metadata = Metadata(tags=tags, has_copies=bool(self.levels))
        return plane[..., None].copy(), metadata  # a view would keep all planes

    def writer(self, path: Path, image_bytes: int) -> "ZarrWriter":
        """Return what writes the planes, into a copy of the store in the empty folder `path`."""
        return ZarrWriter(path, self)


def zarr_form(path: Path) -> ZarrForm:
    """Return the form of a Zarr store; raise DataError on one that holds no one image, and without the package zarr."""
    form = _read_form(path, _state_of(path))
    state = _state_of(path / form.array)
    return form if form.state == state else _read_form(path, _state_of(path), state)


def decode_zarr(path: Path) -> np.ndarray:
    """Raise DataError, which says why a Zarr store is not read by its form."""
    form = zarr_form(path)
    raise DataError(f"holds {form.count} planes", "Save each plane to a file of its own.")


def _state_of(folder: Path) -> _State:
    """Return file, size and time of change of the documents of a group or an array."""
    found = [(folder / name).stat() for name in _DOCUMENTS if (folder / name).is_file()]
    return tuple((one.st_ino, one.st_size, one.st_mtime_ns) for one in found)


@lru_cache(maxsize=FORMS_KEPT)
def _read_form(path: Path, *_: _State) -> ZarrForm:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        node, image, paths, axes = image_array(zarr_package().open(path, mode="r"))
        units, dtype = node.shards or node.chunks, node.dtype
        check_array(node, [str(axis).lower() for axis in axes])
        check_size(math.prod(node.shape[-2:]))
        check_size(math.prod(node.shape[:-2]))
        if math.prod(units) * dtype.itemsize > _LARGEST_CHUNK:
            raise DataError(
                "has chunks of more than 1 GiB, the most that is read", "Save it in smaller ones."
            )
        no_data = no_data_of(node, path / node.path)
        state = _state_of(path / node.path)
    return ZarrForm(path, node.path, node.shape, node.chunks, units, image, paths, no_data, state)


class _Planes:
    """Reads the planes of a form; those that lie in the same chunks are kept until they are asked for, once each."""

    def __init__(self, form: ZarrForm) -> None:
        self._form, self._array = form, zarr_package().open_array(form.path, path=form.array, mode="r")
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
        most, start = max(1, _BYTES_AHEAD // (self._form.values * kind.itemsize)), at - at % depth
        first = at - (at - start) % most
        end = min(first + most, start + depth)
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
        self._array = zarr_package().open_array(path, path=form.array, mode="r+")
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
        zarr, image = zarr_package(), self._form.image
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            groups = {path: zarr.open_group(self._path, path=path, mode="r") for path in ("", image)}
            consolidated = [
                path for path, group in groups.items() if group.metadata.consolidated_metadata is not None
            ]
            group = zarr.open_group(self._path, path=image, mode="r+", use_consolidated=False)
            first, *others = scales_of(group)
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
