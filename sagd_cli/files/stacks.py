"""TIFF files of several images: their pages, or the planes behind the only page, read and written one at a time."""

import math
import re
import struct
from dataclasses import dataclass, replace
from functools import lru_cache
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import tifffile

from sagd_cli.errors import DataError
from sagd_cli.files.layout import FORMS_KEPT
from sagd_cli.files.metadata import Metadata, Tag, range_tag, read_tags
from sagd_cli.files.tiff import REDUCED, REDUCED_OR_MASK, decode_page, metadata_in, planes_behind

_DESCRIPTION, _RESOLUTION = 270, (282, 283, 296)
_IMAGEJ = (50838, 50839)  # what ImageJ keeps: display ranges, tables of colours, labels, overlays
_OF_FIRST = (_DESCRIPTION, *_IMAGEJ)
_LARGEST_CLASSIC = 2**32 - 2**25  # bytes of pixels, beyond which addresses need BigTIFF
_COMPRESSIONS = {5: "lzw", 8: "zlib", 32773: "packbits", 32946: "zlib", 50000: "zstd"}
_NUMBER_BYTES = {
    3: 2,
    4: 4,
    5: 4,
    8: 2,
    9: 4,
    10: 4,
    11: 4,
    12: 8,
    13: 4,
}  # by the kind of a tag; 1 for others
_OME_TYPES = {"float32": b"float", "float64": b"double"}


@dataclass(frozen=True)
class TiffForm:
    """How the TIFF file at `path` of `count` images is stored; `values` is the number of values of its first one.

    `contiguous`: one image directly behind the other, as ImageJ expects it. `planar`: one colour behind the other.
    `has_levels`: smaller copies of the images lie in their SubIFDs or beside them.
    """

    path: Path
    count: int
    values: int
    byteorder: Literal["<", ">"] = "<"
    is_big: bool = False
    compression: str | None = None
    has_predictor: bool = False
    contiguous: bool = False
    planar: bool = False
    has_levels: bool = False
    format: ClassVar[str] = "TIFF"
    is_folder: ClassVar[bool] = False
    ends: ClassVar[None] = None

    def decode(self, number: int) -> tuple[np.ndarray, Metadata]:
        """Return the samples and the metadata of image `number`."""
        return decode_stack(self.path, number)

    def writer(self, path: Path, image_bytes: int) -> "TiffStackWriter":
        """Return what writes a file like this one."""
        return TiffStackWriter(path, self, image_bytes)


def tiff_form(path: Path) -> TiffForm | None:
    """Return the form of a TIFF file of several images; None for one image."""
    form = _index_of(path).form
    return form if form.count > 1 else None


def decode_stack(path: Path, number: int) -> tuple[np.ndarray, Metadata]:
    """Return the samples (H, W, S) and the metadata of image `number` of a stack, upright.

    Raises DataError on one that is not accepted.
    """
    index = _index_of(path)
    is_behind = len(index.offsets) == 1
    with (
        path.open("rb") as file,
        mmap(file.fileno(), 0, access=ACCESS_READ) as data,
        tifffile.TiffFile(path) as tiff,
    ):
        tiff.filehandle.seek(index.offsets[0 if is_behind else number])
        page = tifffile.TiffPage(tiff, index=number)
        if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
            raise DataError("is a stack of palette images", "Save it as grey or RGB images.")
        tags = read_tags(data, page.offset)
        samples = decode_page(page, tags, _plane(page, tiff, number) if is_behind else None)
    metadata = metadata_in(tags)
    kept = [*metadata.tags, *(tag for tag in tags if tag.code in _IMAGEJ)]
    if is_behind and number:
        kept = [tag for tag in kept if tag.code not in _OF_FIRST]
    return samples, replace(metadata, tags=tuple(kept), has_copies=index.form.has_levels)


def _plane(page: Any, tiff: tifffile.TiffFile, number: int) -> np.ndarray:
    """Return plane `number` of those behind one page; raise DataError where it is packed, or where the file ends."""
    if page.compression != 1 or not page.is_contiguous:
        raise DataError("holds planes behind its only page that are packed", "Save them as pages.")
    tiff.filehandle.seek(page.dataoffsets[0] + number * page.nbytes)
    data = tiff.filehandle.read(page.nbytes)
    if len(data) < page.nbytes:
        raise DataError("is cut off: the file ends before", "It may be damaged.")
    values = np.frombuffer(data, page.dtype.newbyteorder(tiff.byteorder)).reshape(page.shape)
    return values.astype(page.dtype)


@dataclass(frozen=True)
class _Index:
    form: TiffForm
    offsets: tuple[int, ...]  # of the directories; one for all where planes lie behind one page


def _index_of(path: Path) -> _Index:
    status = path.stat()
    return _read_index(path, status.st_ino, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=FORMS_KEPT)
def _read_index(path: Path, *_: int) -> _Index:
    """Read where the images of a TIFF file are; what follows the path tells one state of the file from another."""
    with tifffile.TiffFile(path) as tiff:
        found = [(page.offset, page.subfiletype) for page in tiff.pages]
        offsets = [offset for offset, kind in found if not kind & REDUCED_OR_MASK] or [found[0][0]]
        tiff.filehandle.seek(offsets[0])
        first = tifffile.TiffPage(tiff, index=0)
        planes = planes_behind(first, path) if len(found) == 1 and first.imagedepth == 1 else 1
        is_plain = first.compression == 1 and first.is_contiguous
        form = TiffForm(
            path=path,
            count=max(planes, len(offsets)),
            values=math.prod(first.shape),
            byteorder=tiff.byteorder,
            is_big=tiff.is_bigtiff,
            compression=_COMPRESSIONS.get(first.compression),
            has_predictor=first.predictor != 1,
            contiguous=bool(is_plain and (planes > 1 or tiff.is_imagej)),
            planar=first.planarconfig == tifffile.PLANARCONFIG.SEPARATE,
            has_levels=bool(first.subifds) or any(kind & REDUCED for _, kind in found),
        )
    return _Index(form, tuple(offsets))


class TiffStackWriter:
    """Writes a stack that is stored as another one, image by image."""

    def __init__(self, path: Path, form: TiffForm, image_bytes: int) -> None:
        """Open the file; `image_bytes` is the size of one image."""
        is_big = form.is_big or form.count * image_bytes > _LARGEST_CLASSIC
        self._form = form
        self._writer = tifffile.TiffWriter(path, bigtiff=is_big, byteorder=form.byteorder)

    def add(self, samples: np.ndarray, metadata: Metadata) -> None:
        """Write the next image (H, W, S) with its metadata; in a contiguous stack that of the first holds for all."""
        count, tags = samples.shape[2], {tag.code: tag for tag in metadata.tags if not tag.parts}
        tags |= {tag.code: tag for tag in range_tag(metadata.values)}
        scale = {}
        if all(code in tags for code in _RESOLUTION):
            across, down, unit = (tags.pop(code).value for code in _RESOLUTION)
            scale = {
                "resolution": (struct.unpack("<II", across), struct.unpack("<II", down)),
                "resolutionunit": int.from_bytes(unit, "little"),
            }
        planar = self._form.planar
        self._writer.write(
            samples[..., 0] if count == 1 else np.moveaxis(samples, 2, 0) if planar else samples,
            photometric="rgb" if count > 2 else "minisblack",
            planarconfig=None if count == 1 else "separate" if planar else "contig",
            extrasamples=["unassalpha"] if count in (2, 4) else None,
            compression=self._form.compression,
            predictor=self._form.has_predictor and self._form.compression is not None,
            iccprofile=metadata.fitting(count).icc or None,
            metadata=None,
            software=False,
            contiguous=self._form.contiguous,
            extratags=[self._extra(tag, samples.dtype) for tag in tags.values()],
            **scale,
        )

    def close(self) -> None:
        """Write what is left, and close the file."""
        self._writer.close()

    def _extra(self, tag: Tag, dtype: np.dtype) -> tuple[int, int, None, bytes, bool]:
        """Return a tag as tifffile takes it; the description says of the pixels what is now so."""
        code, kind, value, _ = tag
        if code == _DESCRIPTION:
            name = _OME_TYPES.get(dtype.name, dtype.name.encode())
            value = re.sub(rb'(<Pixels\b[^>]*?\bType=")[^"]*', rb"\g<1>" + name, value)
            value = value.replace(b', "truncated": true', b"")  # each image has a page now
        numbers = np.frombuffer(value, f"<u{_NUMBER_BYTES.get(kind, 1)}")
        packed = numbers.astype(numbers.dtype.newbyteorder(self._form.byteorder)).tobytes()
        return code, kind, None, packed, code in _OF_FIRST
