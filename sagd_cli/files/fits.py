"""FITS files, plane by plane: the first image in one is read and replaced, and all else in it stays as it is."""

import math
import shutil
import warnings
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from sagd_cli.errors import DataError
from sagd_cli.files.layout import FORMS_KEPT, check_size
from sagd_cli.files.metadata import Metadata, Tag
from sagd_cli.system.console import output
from sagd_cli.system.files import shown_path

_TYPES = {8: "u1", 16: ">i2", 32: ">i4", -32: ">f4", -64: ">f8"}  # by BITPIX
_TURNED = {
    "u1": ("i1", -128),
    ">i2": ("u2", 2**15),
    ">i4": ("u4", 2**31),
}  # integers of the other kind, and BZERO
_NO_DATA, _TEXT = 42113, 2
_CHECKSUMS = ("CHECKSUM", "DATASUM")


@dataclass(frozen=True)
class FitsForm:
    """Where and how the first image of the FITS file at `path` is stored: `count` planes (H, W) from byte `start` on.

    Values are BZERO + BSCALE * what is stored; `blank` is stored where data are missing. `number` is that of its HDU.
    """

    path: Path
    count: int
    shape: tuple[int, int]
    start: int
    stored: str
    scale: tuple[float, float]
    blank: int | None
    number: int
    has_checksum: bool
    has_others: bool
    format: ClassVar[str] = "FITS"
    is_folder: ClassVar[bool] = False

    @property
    def values(self) -> int:
        """The number of values of a plane."""
        return math.prod(self.shape)

    def decode(self, number: int) -> tuple[np.ndarray, Metadata]:
        """Return the samples (H, W, 1) of a plane, as viewers show it: the first row of the file is at the bottom."""
        if self.has_others:
            output().once(
                "the first image of a FITS file is restored, and its other HDUs are kept as they are"
            )
        with self.path.open("rb") as file:
            stored = self.read(file, number)
        values, kind = self._values(stored), self._kind
        tags: tuple[Tag, ...] = ()
        if self.blank is not None and kind == "float64":
            values[stored == self.blank] = np.nan
        elif self.blank is not None:
            tags = (Tag(_NO_DATA, _TEXT, f"{self.blank + int(self.scale[1])}\0".encode()),)
        return np.ascontiguousarray(values[::-1, :, None]), Metadata(tags=tags)

    def writer(self, path: Path, image_bytes: int) -> "FitsWriter":
        """Return what writes the planes, in a copy of the file."""
        return FitsWriter(path, self)

    def read(self, file: Any, number: int) -> np.ndarray:
        """Return what is stored of a plane; raise DataError where the file ends before it."""
        dtype = np.dtype(self.stored)
        file.seek(self.start + number * self.values * dtype.itemsize)
        data = file.read(self.values * dtype.itemsize)
        if len(data) < self.values * dtype.itemsize:
            raise DataError("is cut off: the file ends before", "It may be damaged.")
        return np.frombuffer(data, dtype).reshape(self.shape)

    @property
    def ends(self) -> tuple[float, float] | None:
        """The values between which those of scaled integers are stored without being clipped; None for others."""
        if self._kind != "float64" or np.dtype(self.stored).kind == "f":
            return None
        whole, (step, zero) = np.iinfo(self.stored), self.scale
        low, high = sorted([zero + step * (whole.min - 0.5), zero + step * (whole.max + 0.5)])
        return low, high

    @property
    def _is_plain(self) -> bool:
        """Whether the values are what is stored."""
        return self.scale[0] == 1 and self.scale[1] == 0

    @property
    def _kind(self) -> str:
        """The type of the values: that of what is stored, the integers of the other kind, or floats."""
        if self._is_plain:
            return np.dtype(self.stored).newbyteorder("=").name
        kind, zero = _TURNED.get(self.stored, ("", 0))
        return np.dtype(kind).name if kind and self.scale[0] == 1 and self.scale[1] == zero else "float64"

    def _values(self, stored: np.ndarray) -> np.ndarray:
        kind = np.dtype(self._kind)
        if self._is_plain:
            return stored.astype(kind)
        if kind.kind == "f":
            return np.asarray(self.scale[1] + self.scale[0] * stored.astype(np.float64))
        return (stored.astype(np.int64) + int(self.scale[1])).astype(kind)

    def stored_of(self, values: np.ndarray, before: np.ndarray) -> np.ndarray:
        """Return what is to be stored for values (H, W), where `before` was; nothing else becomes missing."""
        dtype = np.dtype(self.stored)
        if self._is_plain and dtype.kind == "f":
            return values.astype(dtype)
        scaled = (values.astype(np.float64) - self.scale[1]) / self.scale[0]
        if dtype.kind == "f":
            return scaled.astype(dtype)
        whole = np.iinfo(dtype)
        found = np.clip(np.rint(np.where(np.isnan(scaled), 0, scaled)), whole.min, whole.max).astype(dtype)
        if self.blank is not None:
            found[found == self.blank] = self.blank + (1 if self.blank < whole.max else -1)
            found[before == self.blank] = self.blank
        return found


def fits_form(path: Path) -> FitsForm:
    """Return the form of a FITS file; raise DataError on one that holds no image, and without the package astropy."""
    status = path.stat()
    return _read_form(path, status.st_ino, status.st_size, status.st_mtime_ns)


def decode_fits(data: bytes) -> np.ndarray:
    """Raise DataError, which says why a FITS file is not read by its form."""
    form = _form(BytesIO(data), Path())
    raise DataError(f"holds {form.count} planes", "Save each plane to a file of its own.")


@lru_cache(maxsize=FORMS_KEPT)
def _read_form(path: Path, *_: int) -> FitsForm:
    return _form(path, path)


def _form(file: Path | BytesIO, path: Path) -> FitsForm:
    fits = _astropy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Compressed images are tables then, and stay what they are.
        with fits.open(file, disable_image_compression=True, do_not_scale_image_data=True) as hdus:
            images = [k for k, hdu in enumerate(hdus) if hdu.is_image and hdu.header["NAXIS"] >= 2]
            if not images:
                raise DataError(
                    "holds no image", "Compressed ones are read when `funpack` has unpacked them."
                )
            number, header = images[0], hdus[images[0]].header
            *axes, height, width = (header[f"NAXIS{k}"] for k in range(header["NAXIS"], 0, -1))
            if header["BITPIX"] not in _TYPES:
                raise DataError(
                    f"holds integers of {header['BITPIX']} bits", "Save them as floats of 64 bits."
                )
            if header.get("BSCALE", 1) == 0:
                raise DataError("has BSCALE 0, which makes all its values one")
            check_size(height * width)
            count = math.prod(axes)
            check_size(count)
            return FitsForm(
                path=path,
                count=count,
                shape=(height, width),
                start=hdus[number].fileinfo()["datLoc"],
                stored=_TYPES[header["BITPIX"]],
                scale=(header.get("BSCALE", 1), header.get("BZERO", 0)),
                blank=_blank(header),
                number=number,
                has_checksum=any(key in header for key in _CHECKSUMS),
                has_others=len([hdu for hdu in hdus if hdu.header["NAXIS"]]) > 1,
            )


def _blank(header: Any) -> int | None:
    """Return what is stored where data are missing, None where nothing is that the type of what is stored has.

    Some files give the value with BZERO and BSCALE in it, against the standard.
    """
    told, dtype = header.get("BLANK"), np.dtype(_TYPES[header["BITPIX"]])
    if type(told) not in (int, float) or dtype.kind == "f":
        return None
    whole, scaled = np.iinfo(dtype), (told - header.get("BZERO", 0)) / header.get("BSCALE", 1)
    held = (int(value) for value in (told, scaled) if whole.min <= value <= whole.max and value == int(value))
    return next(held, None)


class FitsWriter:
    """Writes the planes of a FITS file into a copy of it."""

    def __init__(self, path: Path, form: FitsForm) -> None:
        """Copy the file."""
        shutil.copyfile(form.path, path)
        self._path, self._form, self._written = path, form, 0
        self._file = path.open("r+b")

    def add(self, samples: np.ndarray, metadata: Metadata) -> None:
        """Write the next plane (H, W, 1)."""
        stored = self._form.stored_of(samples[::-1, :, 0], self._form.read(self._file, self._written))
        self._file.seek(self._form.start + self._written * stored.nbytes)
        self._file.write(stored.tobytes())
        self._written += 1

    def close(self) -> None:
        """Close the file, with checksums of what is in it where it had some and is whole."""
        self._file.close()
        if not self._form.has_checksum or self._written < self._form.count:
            return
        options = {"disable_image_compression": True, "do_not_scale_image_data": True}
        try:
            with _astropy().open(self._path, mode="update", **options) as hdus:
                hdus[self._form.number].add_checksum()
        except OSError:
            raise
        except Exception as error:  # of any kind, on a header that breaks the standard
            raise DataError(
                f"{shown_path(self._form.path)} has a header for which astropy makes no checksum",
                "Remove its CHECKSUM and DATASUM, or mend it with `fitsverify`.",
            ) from error


def _astropy() -> Any:
    """Return astropy's module for FITS."""
    try:
        from astropy.io import fits
    except ImportError:
        raise DataError(
            "is a FITS file, and the package astropy is not installed", "Install it: pip install 'sagd[fits]'"
        ) from None
    return fits
