"""The arrays in .npy and .npz files: mapped or read, and listed. Pickled content is never read."""

from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any
from zipfile import ZipFile

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from sagd_cli.errors import DataError, SagdError, UsageError


def read_arrays(path: Path, names: Mapping[str, str], needed: set[str]) -> dict[str, NDArray[Any]]:
    """Return the arrays of an archive that are called `names`, under the keys of `names`.

    The one array of a .npy file, mapped into memory, comes under the key `images`. Raises UsageError when there is no
    such file. Raises DataError when it cannot be read, and, with the names of its arrays, when an array lacks whose key
    is in `needed`.
    """
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    try:
        with path.open("rb") as file:
            is_archive = file.read(2) == b"PK"
        if not is_archive:
            if {*names.values()} != {*names}:
                raise UsageError(f"{path} holds one array, so array= and labels= name nothing in it")
            return {"images": np.load(path, mmap_mode="r", allow_pickle=False)}
        with ZipFile(path) as archive:
            return _members(path, archive, names, needed)
    except (SagdError, MemoryError):
        raise
    except Exception as error:  # hostile bytes make the decoders raise anything at all
        raise _unreadable(path, error) from None


def _members(
    path: Path, archive: ZipFile, names: Mapping[str, str], needed: set[str]
) -> dict[str, NDArray[Any]]:
    members = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
    for key in sorted(needed):
        if names[key] not in members:
            listed = ", ".join(f"{member} ({_header(archive, member)})" for member in members)
            given = {other: name for other, name in names.items() if name != other} | {
                key: (members or [""])[0]
            }
            typed = ",".join(
                f"{'array' if other == 'images' else other}={name}" for other, name in given.items()
            )
            raise DataError(
                f"{path} has no array {names[key]!r}; its arrays are {listed}"
                if members
                else f"{path} holds no arrays",
                f"Name one: {path},{typed}" if members else "",
            )
    found = {}
    for key, name in names.items():
        if name in members:
            with archive.open(f"{name}.npy") as file:
                found[key] = npy.read_array(file, allow_pickle=False)
    return found


def _header(archive: ZipFile, member: str) -> str:
    """Return type and shape of an array in an archive, without reading it."""
    with archive.open(f"{member}.npy") as file:
        shape, dtype = _read_header(file)
    return f"{dtype} {shape}"


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype


def _unreadable(path: Path, error: Exception) -> DataError:
    text = " ".join(str(error).split())[:200] or type(error).__name__
    if "pickle" in text or "Python objects" in text:
        return DataError(
            f"{path} cannot be read: it holds Python objects, and reading them can run code",
            "Store numbers in one array: np.save(FILE, np.stack(images)).",
        )
    return DataError(
        f"{path} cannot be read as an array: {text}", "It may be damaged or cut short: write it again."
    )
