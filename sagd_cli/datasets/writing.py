"""Data sets written to files: image by image into one .npy or .npz, or into a folder of PNG or TIFF files."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from itertools import chain, islice
from math import prod
from pathlib import Path
from typing import IO, Any
from zipfile import ZipFile

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from sagd_cli import __version__
from sagd_cli.config.run import DatasetConfig
from sagd_cli.data.folders import check_output_folder
from sagd_cli.data.images import Image, known_format, metadata_of_image, write_image
from sagd_cli.data.ranges import UNIT, image_pixels
from sagd_cli.datasets.alike import AlikeImages, Change
from sagd_cli.datasets.array_file import ArrayFile
from sagd_cli.datasets.beside import refuse_others, write_beside
from sagd_cli.datasets.known_hash import DECODERS, READING, KnownHash
from sagd_cli.datasets.loading import OpenImageSet, dataset_files, load_drawable, open_images
from sagd_cli.errors import UnreadableError, UsageError
from sagd_cli.files.formats import encode
from sagd_cli.files.metadata import NOTHING
from sagd_cli.files.png import encode_pngs
from sagd_cli.system.console import Output, Progress
from sagd_cli.system.files import atomic_path, has_suffix, refuse_existing, refuse_inputs

WRITTEN_AT_ONCE = 1 << 24  # of an array, that are written at a time
# What decides values, as `ArrayFile` takes it, and what tells of a range of them whether their files have changed.
Source = tuple[Mapping[str, Any], Callable[[range], str] | None]


def write_dataset(
    config: DatasetConfig, target: Path, force: bool, output: Output, change: Change | None = None
) -> tuple[int, ...]:
    """Write a data set, each image changed by `change`, to `target` and return its shape (N, C, *spatial).

    FILE.npy holds the images, and their labels lie beside it (`beside`); FILE.npz holds both. Images that are read one
    at a time are written so, and the file appears whole or not at all. What was written of a .npy file is kept when the
    command is stopped or fails, and the same command goes on, where the images tell whether they are still the same. A
    name without suffix becomes a folder of the files of `write_drawable`, named by the indices of the images.

    Raises UsageError when `target` is where the images are read from, exists without `force`, or cannot hold them;
    DataError when the images or labels are not those of a data set.
    """
    source = Path(config.options["path"]) if "path" in config.options else None
    if not target.suffix:
        return _write_folder(config, source, target, force, output, change)
    if not has_suffix(target, ".npy", ".npz"):
        raise UsageError(
            f"{target} is neither a .npy or .npz file nor a folder",
            "Give FILE.npy, FILE.npz or a name without suffix.",
        )
    refuse_inputs({"--output": target}, dataset_files(config))
    refuse_existing(target, force)
    data = open_images(config, change)
    target.parent.mkdir(parents=True, exist_ok=True)
    if has_suffix(target, ".npy"):
        found = what_decides(config, data) if change is None else None
        if found is not None:
            file = ArrayFile(target, data.images.shape, data.images.dtype, found[0], source=found[1])
            _write_array(file, data, force, output)
            return data.images.shape
        refuse_others(target, force)
    with atomic_path(target) as temporary:
        if has_suffix(target, ".npy"):
            with temporary.open("wb") as array:
                _write_images(array, data.images, output)
            target.unlink(missing_ok=True)
            write_beside(target, data)
        else:
            _write_archive(temporary, data, output)
    return data.images.shape


def what_decides(config: DatasetConfig, data: OpenImageSet) -> Source | None:
    """Return what decides the values of a data set and tells when they change, None where nothing does."""
    versions = {name: version(name) for name in DECODERS}
    decides = {
        "data set": config.name,
        "split": config.split,
        **config.options,
        "sagd": __version__,
        "reading": READING,
        **versions,
    }
    if "path" in config.options:
        decides["path"] = str(Path(config.options["path"]).resolve())
    if data.images.has_state:
        return decides, data.images.state
    key = KnownHash(config).key
    return None if key is None else ({**decides, "files": key}, None)


def _write_array(file: ArrayFile, data: OpenImageSet, force: bool, output: Output) -> None:
    """Write what is left of an array. Images that cannot be read are named in the end, when all others are written."""
    images = data.images
    size = max(1, WRITTEN_AT_ONCE // (prod(images.shape[1:]) * images.dtype.itemsize))
    with file:
        left = file.begin(force)
        parts = [run[start : start + size] for run in left for start in range(0, len(run), size)]
        done = len(images) - sum(map(len, parts))
        with output.progress("write", len(images), done) as bar:

            def write(part: range, values: NDArray[Any], source: str | None) -> None:
                file.write(part.start, values, source)

            unreadable = read_parts(file, images, parts, write, bar)
        name_unreadable(images, unreadable)
        file.finish(data)


def read_parts(
    file: ArrayFile,
    images: AlikeImages,
    parts: Sequence[range],
    write: Callable[[range, NDArray[Any], str | None], None],
    bar: Progress,
) -> list[int]:
    """Call `write` with each part, its images (n, C, *spatial) and what `file` tells of their source before reading.

    The array of images is used again for the next part. Parts with images that cannot be read are left out, and their
    places returned. Raises UnreadableError where no image can be read without those before it.
    """
    unreadable = list[int]()
    block = np.empty((max(map(len, parts), default=0), *images.shape[1:]), images.dtype)
    for part, found in _in_parts(images, parts):
        values, source = block[: len(part)], file.source_of(part)
        try:
            for place, image in enumerate(found):
                values[place] = image
                bar.advance()
        except UnreadableError:
            if not images.is_indexed:
                raise
            unreadable += part
        else:
            write(part, values, source)
    return unreadable


def name_unreadable(images: AlikeImages, places: Sequence[int]) -> None:
    """Raise one error that names all images at `places` that cannot be read."""
    if places:
        deque(images.at(places), maxlen=0)


def _in_parts(images: AlikeImages, parts: Sequence[range]) -> Iterator[tuple[range, Iterator[NDArray[Any]]]]:
    """Yield each part with its images, which come in one stream where no image can be read without those before it."""
    if images.is_indexed:
        yield from ((part, images.at(part)) for part in parts)
        return
    stream = images.at([*chain(*parts)])
    yield from ((part, islice(stream, len(part))) for part in parts)


def _write_images(file: IO[bytes], images: AlikeImages, output: Output) -> None:
    # Appended, not through a memory map: a full disk is then an error and not the end of the process, and the
    # members of an archive can be written in the same way.
    form = {"descr": npy.dtype_to_descr(images.dtype), "fortran_order": False, "shape": images.shape}
    npy.write_array_header_1_0(file, form)
    with output.progress("write", len(images)) as bar:
        for image in images:
            file.write(np.ascontiguousarray(image).data)
            bar.advance()


def _write_archive(path: Path, data: OpenImageSet, output: Output) -> None:
    """Write what `np.savez` would: `images` and, where there are any, `labels` and `class_names`."""
    with ZipFile(path, "w") as archive:
        with archive.open("images.npy", "w", force_zip64=True) as member:
            _write_images(member, data.images, output)
        if data.labels is not None:
            arrays = {"labels": data.labels, "class_names": np.array(data.class_names, dtype=np.str_)}
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    npy.write_array(member, array, allow_pickle=False)


def _write_folder(
    config: DatasetConfig,
    source: Path | None,
    target: Path,
    force: bool,
    output: Output,
    change: Change | None,
) -> tuple[int, ...]:
    # All are loaded first, so that an image that cannot be read is found before any is written.
    images = load_drawable(config, change).images
    names = [f"{index:06d}.{format_for(images.dtype)}" for index in range(len(images))]
    check_output_folder(target, names, force, [] if source is None else [source])
    target.mkdir(parents=True, exist_ok=True)
    with output.progress("write", len(images)) as bar:
        for name, image in zip(names, images, strict=True):
            write_drawable(image, target / name)
            bar.advance()
    return images.shape


def format_for(dtype: np.dtype) -> str:
    """Return the format of image files, by its suffix, that holds images of `dtype` unchanged."""
    return "png" if dtype == np.uint8 else "tiff"


def write_drawable(image: NDArray[Any], path: Path) -> None:
    """Write an image (C, H, W) of a data set or of a run to `path`, which no value is clipped for.

    Bytes stay as they are. Signals of floats become a TIFF file of 32-bit floats, which states that black is 0 and
    white 1. Raises what `write_image` raises, and DataError on values that are not finite.
    """
    made = _drawable(image, path)
    write_image(made, made.pixels, path)


def encoded_drawables(images: NDArray[Any], path: Path) -> Iterable[bytes]:
    """Return the files that `write_drawable` writes of images (N, C, H, W) to paths with the suffix of `path`.

    Raises what that raises of one.
    """
    form = known_format(path)
    if images.dtype == np.uint8 and form == "PNG":  # together, in a third of the time
        return encode_pngs(np.moveaxis(images, 1, 3))
    return [_encoded(_drawable(image, path), form) for image in images]


def _encoded(made: Image, form: str) -> bytes:
    metadata = NOTHING if made.range is None else metadata_of_image(made)
    return encode(np.moveaxis(made.pixels, 0, 2), form, metadata)


def _drawable(image: NDArray[Any], path: Path) -> Image:
    if image.dtype == np.uint8:
        return Image(image, None, path)
    return Image(image_pixels(image, np.dtype(np.float32)), None, path, UNIT)
