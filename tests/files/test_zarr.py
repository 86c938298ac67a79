"""Zarr stores: planes are those that zarr reads, and what is not restored stays as it is."""

import json
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest
import tifffile

from sagd_cli.data.folders import list_images, output_name
from sagd_cli.data.image_writer import ImageWriter
from sagd_cli.data.images import images_in, read_image
from sagd_cli.errors import DataError
from sagd_cli.files.layout import IMAGE_TYPES
from sagd_cli.system.console import output

zarr = pytest.importorskip("zarr", reason="zarr is not installed: pip install 'sagd[zarr]'")

PIXELS = np.random.default_rng(0).integers(0, 60000, (2, 5, 10, 12)).astype(np.uint16)
KINDS = {
    "version 2": {"chunks": (1, 1, 10, 12), "zarr_format": 2},
    "version 2, deep": {"chunks": (2, 2, 5, 7), "zarr_format": 2, "order": "F", "fill_value": 7},
    "version 2, nested": {
        "chunks": (1, 5, 10, 12),
        "zarr_format": 2,
        "chunk_key_encoding": {"name": "v2", "separator": "/"},
    },
    "big-endian": {"chunks": (1, 2, 10, 12), "zarr_format": 2, "dtype": ">u2"},
    "version 3": {"chunks": (1, 3, 4, 12), "dimension_names": ("t", "z", "y", "x")},
    "shards": {"chunks": (1, 1, 5, 4), "shards": (2, 3, 10, 12)},
    "one plane": {"chunks": (5, 12)},
}


def make(path, name="", pixels=PIXELS, **options):
    """Write an array into a store, or into a group of one."""
    options = {"dtype": pixels.dtype, "chunks": pixels.shape, "shape": pixels.shape, **options}
    array = zarr.create_array(path, name=name or None, attributes={"unit": "nm"}, **options)
    array[...] = pixels
    return array


def make_ome(path, version, prefix="", deep=1):
    """Write OME-Zarr of two levels, with labels; return its attributes."""
    axes = [
        {"name": name, "type": kind} for name, kind in zip("czyx", ["channel", *["space"] * 3], strict=True)
    ]
    levels = [
        {"path": str(k), "coordinateTransformations": [{"type": "scale", "scale": [1, 1, 2**k, 2**k]}]}
        for k in range(2)
    ]
    scales = [{"name": "cells", "axes": axes, "datasets": levels}]
    form, attributes = (2, {"multiscales": scales, "omero": {"channels": [{"label": "DAPI"}]}})
    if version == "0.5":
        form, attributes = 3, {"ome": {"version": version, **attributes}}
    root = zarr.create_group(path, zarr_format=form, overwrite=True)
    group = root.create_group(prefix) if prefix else root
    group.attrs.update(attributes)
    for name, pixels in (("0", PIXELS), ("1", PIXELS[..., ::2, ::2]), ("labels/nuclei/0", PIXELS // 2)):
        array = group.create_array(
            name, shape=pixels.shape, dtype=pixels.dtype, chunks=(1, deep, *pixels.shape[2:])
        )
        array[...] = pixels
    if prefix:
        root.create_group("OME")
    return attributes


def copied(source, target, change=lambda pixels: pixels):
    with ImageWriter() as writer:
        for place in images_in(source):
            image = read_image(*place)
            writer.write(image, change(image.pixels), target)


def contents(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.mark.parametrize("kind", KINDS)
def test_an_array_is_read_plane_by_plane_and_copied_with_all_that_it_is(tmp_path, kind):
    options = KINDS[kind]
    pixels = PIXELS[0, 0] if kind == "one plane" else PIXELS
    make(tmp_path / "a.zarr", pixels=pixels, **options)
    places = images_in(tmp_path / "a.zarr")
    planes = pixels.reshape(-1, 10, 12)
    assert [place.page for place in places] == ([None] if kind == "one plane" else [*range(10)])
    for place, plane in zip(reversed(places), reversed(planes), strict=True):
        np.testing.assert_array_equal(read_image(*place).pixels[0], plane, strict=True)
    assert output_name(tmp_path / "a.zarr") == "a.zarr"
    copied(tmp_path / "a.zarr", tmp_path / "b.zarr")
    assert contents(tmp_path / "b.zarr") == contents(tmp_path / "a.zarr")
    copied(tmp_path / "a.zarr", tmp_path / "c.zarr", lambda pixels: pixels + 1)
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "c.zarr")[...], pixels + 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr", "b.zarr", "c.zarr"]


@pytest.mark.parametrize("kind", IMAGE_TYPES)
def test_every_type_of_images_is_read_and_written(tmp_path, kind):
    pixels = (PIXELS[0] % 100).astype(kind)
    make(tmp_path / "a.zarr", pixels=pixels, chunks=(2, 10, 12))
    np.testing.assert_array_equal(read_image(tmp_path / "a.zarr", 3).pixels[0], pixels[3], strict=True)
    copied(tmp_path / "a.zarr", tmp_path / "b.zarr")
    assert contents(tmp_path / "b.zarr") == contents(tmp_path / "a.zarr")


def test_planes_of_one_chunk_are_decoded_once(tmp_path, monkeypatch):
    """Both where they are read and where they are written."""
    make(tmp_path / "a.zarr", chunks=(1, 3, 10, 12))
    read, written = [], []
    get, put = zarr.Array.__getitem__, zarr.Array.__setitem__
    monkeypatch.setattr(zarr.Array, "__getitem__", lambda self, at: read.append(at) or get(self, at))
    monkeypatch.setattr(
        zarr.Array, "__setitem__", lambda self, at, to: written.append(at) or put(self, at, to)
    )
    copied(tmp_path / "a.zarr", tmp_path / "b.zarr")
    assert len(read) == len(written) == 4


def test_a_plane_does_not_keep_those_that_were_read_with_it(tmp_path):
    make(tmp_path / "a.zarr", chunks=(1, 5, 10, 12))
    owner = read_image(tmp_path / "a.zarr", 2).pixels
    while owner.base is not None:
        owner = owner.base
    assert owner.size == 10 * 12


@pytest.mark.parametrize("prefix", ["", "0"])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("is_consolidated", [False, True])
def test_the_full_size_of_ome_zarr_is_replaced_and_its_smaller_copies_are_left_out(
    tmp_path, capsys, version, prefix, is_consolidated
):
    """`prefix`: the one image of a file that bioformats2raw made, beside a group of OME's text."""
    output().said.clear()
    attributes = make_ome(tmp_path / "a.zarr", version, prefix)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if is_consolidated:
            zarr.consolidate_metadata(tmp_path / "a.zarr")
        assert len(images_in(tmp_path / "a.zarr")) == 10
        copied(tmp_path / "a.zarr", tmp_path / "b.zarr", lambda pixels: pixels + 1)
        assert capsys.readouterr().err.count("levels of a pyramid") == 1
        root = zarr.open_group(tmp_path / "b.zarr", mode="r")
    assert (root.metadata.consolidated_metadata is not None) == is_consolidated
    group = root[prefix] if prefix else root
    assert sorted(group) == ["0", "labels"]
    np.testing.assert_array_equal(group["0"][...], PIXELS + 1)
    np.testing.assert_array_equal(group["labels/nuclei/0"][...], PIXELS // 2)
    scales = attributes.get("ome", attributes)["multiscales"]
    scales[0]["datasets"] = scales[0]["datasets"][:1]
    assert dict(group.attrs) == attributes
    before, after = contents(tmp_path / "a.zarr"), contents(tmp_path / "b.zarr")
    documents = {f"{prefix}/{name}".strip("/") for name in (".zattrs", "zarr.json")} | {
        ".zmetadata",
        "zarr.json",
    }
    changed = {name for name in before if before[name] != after.get(name)} - documents
    full, small = (f"{prefix}/{level}/".lstrip("/") for level in "01")
    assert changed and all(name.startswith((full, small)) for name in changed)


def planes_with_offset_rows():
    y, x = np.mgrid[:32, :32]
    random = np.random.default_rng(0)
    plain = [20000 + 9000 * np.sin(x / (5 + k) + y / 9) for k in range(6)]
    return np.rint([plane + random.normal(0, 600, (32, 1)) for plane in plain]).astype(np.uint16)


OPTIONS = ("--band", "stripe:horizontal,0,0", "--estimate", "wiener", "--json")


def test_a_store_and_its_pages_are_restored_alike(sagd, tmp_path):
    planes = planes_with_offset_rows()
    make(tmp_path / "a.zarr", pixels=planes.reshape(2, 3, 32, 32), chunks=(1, 2, 32, 32))
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="minisblack")
    for name in ("a.zarr", "a.tif"):
        done = sagd(
            "omit",
            tmp_path / name,
            *OPTIONS,
            "--removed",
            tmp_path / name[2:] / "r",
            "--output",
            tmp_path / name[2:] / "o",
        )
        assert done.code == 0, done.err
    found = zarr.open_array(tmp_path / "zarr" / "o" / "a.zarr")
    expected = tifffile.imread(tmp_path / "tif" / "o" / "a.tif")
    np.testing.assert_array_equal(found[...].reshape(planes.shape), expected)
    assert np.abs(expected.astype(int) - planes).max() > 100 and dict(found.attrs) == {"unit": "nm"}
    removed = [tifffile.imread(tmp_path / name / "r" / "a.tiff") for name in ("zarr", "tif")]
    np.testing.assert_array_equal(removed[0], removed[1])
    truth = sagd(
        "omit", tmp_path / "a.zarr", *OPTIONS, "--truth", tmp_path / "a.tif", "--output", tmp_path / "t"
    )
    assert truth.code == 0 and "psnr" in truth.json["files"][5]
    assert "6 images in fields" in sagd("spectrum", tmp_path / "a.zarr").out
    noise = ("--band", "high", "--strength", "0.1", "--clip", "--output", tmp_path / "c")
    assert sagd("corrupt", tmp_path / "a.zarr", *noise).code == 0
    assert zarr.open_array(tmp_path / "c" / "a.zarr").shape == (2, 3, 32, 32)


def test_folders_hold_stores_beside_files(sagd, tmp_path):
    planes = planes_with_offset_rows()
    source = tmp_path / "in"
    source.mkdir()
    make(source / "a.zarr", pixels=planes[:2], chunks=(1, 32, 32))
    tifffile.imwrite(source / "b.tif", planes[2])
    (source / "c.zarr").mkdir()  # is no store
    shutil.copytree(source / "a.zarr", source / "d.zarr")
    for file in (source / "d.zarr" / "c" / "1").rglob("*"):
        if file.is_file():
            file.write_bytes(b"nonsense")
    assert [path.name for path in list_images(source)] == ["a.zarr", "b.tif", "d.zarr"]
    done = sagd("omit", source, *OPTIONS)
    assert done.code == 1 and "d.zarr, image 2, is not a readable Zarr file" in done.err
    assert sorted(path.name for path in (tmp_path / "in-omitted").iterdir()) == ["a.zarr", "b.tif"]
    alone = sagd("omit", source / "a.zarr", *OPTIONS, "--output", source / "a.zarr" / "o")
    assert alone.code == 2 and "lies in the Zarr store" in alone.err
    assert sagd("omit", source / "a.zarr", *OPTIONS).code == 0
    assert zarr.open_array(source / "a-omitted" / "a.zarr").shape == (2, 32, 32)
    again = sagd("omit", source / "a.zarr", *OPTIONS)
    assert again.code == 2 and "exists already" in again.err
    assert sagd("omit", source / "a.zarr", *OPTIONS, "--force").code == 0
    assert [path.name for path in (source / "a-omitted").iterdir()] == ["a.zarr"]


def test_a_command_that_was_killed_goes_on(sagd, tmp_path):
    planes = planes_with_offset_rows()
    make(tmp_path / "a.zarr", pixels=planes, chunks=(4, 32, 32))
    command = ["omit", str(tmp_path / "a.zarr"), *OPTIONS, "--output"]
    assert sagd(*command, tmp_path / "expected").code == 0
    code = (
        "import os\nfrom sagd_cli.restoration import folder_work\nfrom sagd_cli.__main__ import main\n"
        f"folder_work.PIXELS_AT_ONCE = {2 * 32**2}\n"
        "written = folder_work.FolderWork._written\n"
        "def killed(self, job, done):\n"
        "    if job.image.page == 5: os.kill(os.getpid(), 9)\n"
        "    return written(self, job, done)\n"
        f"folder_work.FolderWork._written = killed\nmain({[*command, str(tmp_path / 'o')]!r})"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert process.returncode == -9, process.stderr
    assert all(path.name.startswith(".sagd-") for path in (tmp_path / "o").iterdir())
    done = sagd(*command, tmp_path / "o")
    assert done.code == 0 and "4 of 6 images were restored before" in done.err, done.err
    assert contents(tmp_path / "o") == contents(tmp_path / "expected")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr", "expected", "o"]


def test_planes_are_read_as_many_at_a_time_as_memory_allows(tmp_path, monkeypatch):
    make(tmp_path / "a.zarr", chunks=(1, 4, 10, 12))
    read, get = [], zarr.Array.__getitem__
    monkeypatch.setattr(zarr.Array, "__getitem__", lambda self, at: read.append(at[1:]) or get(self, at))
    monkeypatch.setattr("sagd_cli.files.zarr._BYTES_AHEAD", 3 * 10 * 12 * 2)
    for place, plane in zip(images_in(tmp_path / "a.zarr"), PIXELS.reshape(-1, 10, 12), strict=True):
        np.testing.assert_array_equal(read_image(*place).pixels[0], plane)
    assert read == 2 * [(slice(0, 3),), (slice(3, 4),), (slice(4, 7),)]


@pytest.mark.parametrize("name", ["", "c/0"])
def test_a_store_that_was_written_anew_is_read_anew(tmp_path, name):
    path = tmp_path / "a.zarr"
    for number, pixels in enumerate((PIXELS[0], PIXELS[1], PIXELS[1, :, :8])):
        make(path, name, pixels, overwrite=True)
        np.testing.assert_array_equal(read_image(path, number).pixels[0], pixels[number])


def members(path, *names):
    for name in names:
        make(path, name=name, pixels=PIXELS[0])


REFUSED = {
    "holds no image, but an array of one axis at most": lambda path: make(path, pixels=PIXELS[0, 0, 0]),
    "holds values of the type int64": lambda path: make(path, pixels=PIXELS.astype(np.int64)),
    "holds values of the type bool": lambda path: make(path, pixels=PIXELS > 9),
    "is a Zarr group of 0 members": zarr.create_group,
    "is a Zarr group of 2 members, and does not say": lambda path: members(path, "a", "b"),
    "has the axes y, x, c": lambda path: make(path, pixels=PIXELS[0], dimension_names=("y", "x", "c")),
    "has 3 values on its last axis, which seem to be colours": lambda path: make(
        path, pixels=PIXELS[0, :, :, :3]
    ),
    "has chunks of more than 1 GiB": lambda path: zarr.create_array(
        path, shape=(40, 4000, 4000), chunks=(40, 4000, 4000), dtype="u2"
    ),
    "is not a readable Zarr file": lambda path: (path.mkdir(), (path / "zarr.json").write_text("nonsense")),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_refused_has_its_reason(tmp_path, message):
    REFUSED[message](tmp_path / "a.zarr")
    with pytest.raises(DataError, match=rf"a\.zarr {message}"):
        read_image(tmp_path / "a.zarr")


def test_a_store_that_would_run_code_is_refused(tmp_path):
    make(tmp_path / "a.zarr", zarr_format=2)
    document = json.loads((tmp_path / "a.zarr" / ".zarray").read_text())
    (tmp_path / "a.zarr" / ".zarray").write_text(
        json.dumps({**document, "compressor": {"id": "pickle", "protocol": 5}})
    )
    with pytest.raises(DataError, match=r"object_codec_id.*pickle"):
        read_image(tmp_path / "a.zarr")


def test_a_member_of_a_group_is_named_by_its_path(tmp_path):
    members(tmp_path / "a.zarr", "0", "1")
    np.testing.assert_array_equal(read_image(tmp_path / "a.zarr" / "1", 4).pixels[0], PIXELS[0, 4])
    assert output_name(tmp_path / "a.zarr" / "1") == "1.zarr"


def test_without_zarr_it_says_what_to_install(tmp_path):
    make(tmp_path / "a.zarr")
    code = (
        "import sys; sys.modules['zarr'] = None\nfrom sagd_cli.__main__ import main\n"
        f"main(['spectrum', {str(tmp_path / 'a.zarr')!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "pip install 'sagd[zarr]'" in done.stderr, done.stderr
