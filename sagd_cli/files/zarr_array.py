"""Which array of a Zarr store is its image, and what its documents say of it.

The array is the store's own, or that of full size in an image of OME-Zarr (its `multiscales`).
"""

import math
import os
import struct
from base64 import b64decode
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from sagd_cli.errors import DataError
from sagd_cli.files.layout import IMAGE_TYPES

_MOST_COLOURS = 4
# Codecs that change what is written into them, or may; before their names is that of their package.
# fmt: off
_LOSSY = {
    "fixedscaleoffset", "scale_offset", "astype", "cast_value", "quantize", "bitround", "bfloat16", "float24", "zfp",
    "zfpy", "sz3", "sperr", "lerc", "cms", "jpeg", "ljpeg", "jpeg2k", "htj2k", "jpegls", "jpegxl", "jpegxr", "jpegxs",
    "webp", "avif", "heif", "ultrahdr", "rgbe", "pixarlog",
}
# fmt: on


def image_array(node: Any) -> tuple[Any, str | None, tuple[str, ...], list[Any]]:
    """Return the array of the image in a group, the group that names it, its smaller copies, and the names of axes.

    A group of one member stands for it; this member is not the text of OME beside the images of a file.
    """
    if hasattr(node, "chunks"):
        names = getattr(node.metadata, "dimension_names", None) or node.attrs.get("_ARRAY_DIMENSIONS")
        return node, None, (), [*(names or ())]
    scales = scales_of(node)
    if not scales:
        members = sorted(key for key in node if key != "OME")
        if len(members) == 1:
            return image_array(node[members[0]])
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


def scales_of(group: Any) -> list[Any]:
    """Return the multiscales of a group: those of OME-Zarr from 0.5 on, or of before."""
    found: list[Any] = group.attrs.get("ome", group.attrs).get("multiscales", [])
    return found


def check_array(node: Any, axes: list[str]) -> None:
    """Raise DataError unless the array holds planes of numbers that images have."""
    if node.ndim < 2:
        raise DataError("holds no image, but an array of one axis at most")
    if node.dtype.name not in IMAGE_TYPES:
        raise DataError(
            f"holds values of the type {node.dtype}",
            "Save them as integers of 8, 16 or 32 bits or floats of 16, 32 or 64.",
        )
    lossy = next((name for name in _codecs(node.metadata.to_dict()) if name in _LOSSY), None)
    if lossy is not None:
        raise DataError(
            f"is stored by the codec {lossy}, which may change the values that are written",
            "Save it without this codec.",
        )
    has_names = {"y", "x"} <= {*axes}
    if has_names and axes[-2:] != ["y", "x"]:
        raise DataError(f"has the axes {', '.join(axes)}", "Save it with y and x as the last two.")
    if not has_names and node.ndim > 2 and node.shape[-1] <= _MOST_COLOURS < node.shape[-2]:
        raise DataError(
            f"has {node.shape[-1]} values on its last axis, which seem to be colours",
            "Save it with them on the first axis: planes lie on the last two.",
        )


def no_data_of(node: Any, folder: Path) -> tuple[float, ...]:
    """Return the values of the array in `folder` that stand for missing data.

    Stated are those of `_FillValue` and `missing_value`, as xarray writes them. A fill value other than 0 is one, too,
    where chunks were not written, or may not have been in shards; in version 2 xarray states `_FillValue` as this.
    """
    stated = [np.ravel(node.attrs[key]) for key in ("_FillValue", "missing_value") if key in node.attrs]
    found = [_number(value) for values in stated for value in values]
    fill = node.metadata.fill_value
    is_of_xarray = node.metadata.zarr_format == 2 and "_ARRAY_DIMENSIONS" in node.attrs
    if fill and (is_of_xarray or node.shards or _written(folder) < node.nchunks):
        found.append(float(fill))
    return tuple(dict.fromkeys(value for value in found if math.isfinite(value)))


def _written(folder: Path) -> int:
    """Return how many chunks of the array in `folder` were written."""
    names = (name for _, _, files in os.walk(folder, followlinks=True) for name in files)
    return sum(not name.startswith((".", "zarr.json")) for name in names)


def _number(value: Any) -> float:
    """Return a value in an attribute: a number, or its 8 bytes in base64, as xarray writes floats; NaN for others."""
    with suppress(TypeError, ValueError):
        return float(value)
    with suppress(TypeError, ValueError, struct.error):
        return float(struct.unpack("<d", b64decode(value))[0])
    return math.nan


def _codecs(part: Any) -> Iterator[str]:
    """Yield the names of all codecs in the document of an array, without that of their package."""
    compressor = part.get("compressor")
    for one in [
        *(part.get("filters") or ()),
        *(part.get("codecs") or ()),
        *([compressor] if compressor else ()),
    ]:
        yield one.get("id", one.get("name", "")).rpartition(".")[2].removeprefix("imagecodecs_")
        yield from _codecs(one.get("configuration", {}))


def zarr_package() -> Any:
    """Return the package zarr."""
    try:
        import zarr
    except ImportError:
        raise DataError(
            "is a Zarr store, and the package zarr is not installed", "Install it: pip install 'sagd[zarr]'"
        ) from None
    return zarr
