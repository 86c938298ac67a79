"""Stacks through the commands: each image as if it were a file, and the file as it was."""

import subprocess
import sys

import numpy as np
import pytest
import tifffile

from sagd_cli.data.images import Image, read_image
from sagd_cli.files.layout import IMAGE_TYPES

SIDE, COUNT = 32, 6
NOISE = ("--band", "high", "--strength", "0.2")
OMIT = ("--band", "stripe:horizontal,0,0", "--estimate", "wiener")


@pytest.fixture(scope="module")
def planes():
    """Smooth planes of 16 bits whose rows are offset."""
    y, x = np.mgrid[:SIDE, :SIDE]
    random = np.random.default_rng(0)
    plain = [20000 + 9000 * np.sin(x / (5 + k) + y / 9) for k in range(COUNT)]
    return np.rint([plane + random.normal(0, 600, (SIDE, 1)) for plane in plain]).astype(np.uint16)


@pytest.fixture(scope="module")
def inputs(planes, tmp_path_factory):
    """The planes as one hyperstack of ImageJ, and as a folder of files."""
    place = tmp_path_factory.mktemp("inputs")
    tags = {"imagej": True, "resolution": (4, 4), "metadata": {"axes": "ZCYX", "unit": "um", "spacing": 0.5}}
    tifffile.imwrite(place / "stack.tif", planes.reshape(3, 2, SIDE, SIDE), **tags)
    (place / "folder").mkdir()
    for k, plane in enumerate(planes):
        tifffile.imwrite(place / "folder" / f"{k}.tif", plane)
    return place


def test_a_stack_and_a_folder_have_equal_pixels(sagd, planes, inputs, tmp_path):
    stack = sagd("omit", inputs / "stack.tif", *OMIT, "--output", tmp_path / "s", "--json")
    folder = sagd("omit", inputs / "folder", *OMIT, "--output", tmp_path / "f", "--json")
    assert stack.code == folder.code == 0, stack.err
    found = tifffile.imread(tmp_path / "s" / "stack.tif")
    expected = [tifffile.imread(tmp_path / "f" / f"{k}.tif") for k in range(COUNT)]
    np.testing.assert_array_equal(found.reshape(planes.shape), expected, strict=True)
    assert np.abs(found.reshape(planes.shape).astype(int) - planes).max() > 100
    own = ("input", "output", "page")
    records = [
        [{k: v for k, v in r.items() if k not in own} for r in d.json["files"]] for d in (stack, folder)
    ]
    assert records[0] == records[1]
    assert [record["page"] for record in stack.json["files"]] == [*range(COUNT)]
    with (
        tifffile.TiffFile(tmp_path / "s" / "stack.tif") as after,
        tifffile.TiffFile(inputs / "stack.tif") as before,
    ):
        assert after.imagej_metadata == before.imagej_metadata
        assert after.series[0].axes == "ZCYX" and after.pages[0].resolution == before.pages[0].resolution
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["stack.tif"]


@pytest.mark.parametrize("name", ["weird.png", "noext"])
def test_a_stack_of_another_name_is_written_as_tiff(sagd, planes, tmp_path, name):
    place = tmp_path / name
    tifffile.imwrite(tmp_path / "a.tif", planes[:2], photometric="minisblack")
    (tmp_path / "a.tif").rename(place)
    expected = f"{place.stem}.tif"
    for command in (("omit", place, *OMIT), ("corrupt", place, *NOISE, "--clip")):
        done = sagd(*command, "--output", tmp_path / "o", "--force", "--json")
        assert done.code == 0, done.err
        assert [file.name for file in (tmp_path / "o").iterdir()] == [expected]
        assert tifffile.imread(tmp_path / "o" / expected).shape == planes[:2].shape


def test_a_stack_that_cannot_be_read_to_its_end_fails_as_a_whole(sagd, planes, inputs, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    tifffile.imwrite(source / "sound.tif", planes, imagej=True)
    packed = source / "packed.tif"
    tifffile.imwrite(packed, planes, compression="zlib", photometric="minisblack")
    with tifffile.TiffFile(packed) as tiff:
        (place,), (size,) = tiff.pages[4].dataoffsets, tiff.pages[4].databytecounts
    broken = bytearray(packed.read_bytes())
    broken[place : place + size] = bytes(size)
    packed.write_bytes(broken)
    done = sagd("omit", source, *OMIT, "--output", tmp_path / "o", "--json")
    assert done.code == 1
    assert [entry["input"] for entry in done.json["failed"]] == [str(packed)]
    (failed,) = done.json["failed"]
    assert "packed.tif, image 5, is not a readable TIFF file" in failed["error"]
    assert failed["error"].endswith("; without image 5 none of its 6 images are written")
    assert {entry["input"] for entry in done.json["files"]} == {str(source / "sound.tif")}
    assert [path.name for path in (tmp_path / "o").iterdir()] == ["sound.tif"]


def test_images_without_data_are_copied_and_counted(sagd, planes, tmp_path):
    """Alone such a file is refused: there is nothing to do."""
    values = planes.astype(np.float32)
    values[1], values[4], values[2, :3] = np.nan, -9999, np.nan
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack")
    done = sagd("omit", tmp_path / "a.tif", *OMIT, "--output", tmp_path / "o", "--truth", tmp_path, "--json")
    assert done.code == 0, done.err
    assert "2 of 6 images hold nothing but missing data" in done.err
    found = tifffile.imread(tmp_path / "o" / "a.tif")
    np.testing.assert_array_equal(found[[1, 4]], values[[1, 4]])
    np.testing.assert_array_equal(np.isnan(found), np.isnan(values))
    assert all(np.nanmax(np.abs(found - values)[k]) > 100 for k in (0, 2, 3, 5))
    records = done.json["files"]
    assert [k for k, record in enumerate(records) if record.get("copied")] == [1, 4]
    assert [k for k, record in enumerate(records) if "psnr" in record] == [0, 2, 3, 5]
    assert sagd("corrupt", tmp_path / "a.tif", *NOISE, "--output", tmp_path / "c").code == 0
    assert np.isnan(tifffile.imread(tmp_path / "c" / "a.tiff")[1]).all()
    tifffile.imwrite(tmp_path / "b.tif", values[1])
    alone = sagd("omit", tmp_path / "b.tif", *OMIT, "--output", tmp_path / "p")
    assert alone.code == 1 and "holds nothing but missing data" in alone.err


def test_a_command_that_was_killed_is_run_again(sagd, inputs, tmp_path):
    """A stack takes its name when it is whole; until then it has a hidden one, which is in nobody's way."""
    code = (
        "import os, sagd_cli.data.image_writer as writer\n"
        "from sagd_cli.__main__ import main\n"
        "writer._OpenStack.finish = lambda self: os.kill(os.getpid(), 9)\n"
        f"main({['corrupt', str(inputs / 'stack.tif'), *NOISE, '--output', str(tmp_path / 'o')]!r})"
    )
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    (left,) = (tmp_path / "o").iterdir()
    assert killed.returncode == -9 and left.name.startswith(".sagd-")
    for name in "ou":
        assert sagd("corrupt", inputs / "stack.tif", *NOISE, "--output", tmp_path / name).code == 0
        assert [path.name for path in (tmp_path / name).iterdir()] == ["stack.tiff"]
    assert (tmp_path / "o" / "stack.tiff").read_bytes() == (tmp_path / "u" / "stack.tiff").read_bytes()


def test_a_stack_is_corrupted_compared_with_its_truth_and_measured(sagd, inputs, tmp_path):
    stack = inputs / "stack.tif"
    made = sagd("corrupt", stack, *NOISE, "--output", tmp_path / "d", "--json")
    assert made.code == 0 and len(made.json["files"]) == COUNT
    noisy = tifffile.imread(tmp_path / "d" / "stack.tiff")
    assert noisy.dtype == np.float32 and noisy.shape == (3, 2, SIDE, SIDE)
    changes = noisy - tifffile.imread(stack) / 65535
    assert len({float(change.std()) for change in changes.reshape(COUNT, -1)}) == COUNT
    omit = ("omit", tmp_path / "d", "--band", "high", "--estimate", "notch", "--truth")
    done = sagd(*omit, stack, "--output", tmp_path / "o", "--json")
    assert done.code == 0 and done.json["psnr_mean"] > done.json["psnr_before_mean"], done.err
    short = sagd(*omit, inputs / "folder" / "0.tif", "--output", tmp_path / "p")
    assert short.code == 2
    tifffile.imwrite(tmp_path / "stack.tif", np.zeros((2, SIDE, SIDE), np.uint16), photometric="minisblack")
    short = sagd(*omit, tmp_path / "stack.tif", "--output", tmp_path / "p")
    assert short.code == 1 and "holds 2 image(s)" in short.err
    assert "6 images in fields" in sagd("spectrum", stack).out


@pytest.mark.parametrize("kind", IMAGE_TYPES)
def test_images_in_which_nothing_is_found_come_back_exactly(sagd, tmp_path, kind):
    """Whatever their type; what they hold is far beyond the digits of the signals on [-1, 1]."""
    y, x = np.mgrid[:64, :64]
    plain = 100 * np.exp(-((x - 30) ** 2 + (y - 20) ** 2) / 500)
    values = plain * (2**24 + 1) + 3 if np.dtype(kind).itemsize > 2 else plain
    values = values * 1e-15 if kind == "float64" else values
    tifffile.imwrite(tmp_path / "a.tif", values.astype(kind))
    done = sagd("omit", tmp_path / "a.tif", "--estimate", "wiener", "--output", tmp_path / "o", "--json")
    assert done.code == 0 and done.json["files"][0]["noise"] is None, done.err
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "o" / "a.tif"), values.astype(kind), strict=True)


def test_a_page_of_a_stack_has_a_name_of_its_own(inputs):
    image = read_image(inputs / "stack.tif", 2)
    assert isinstance(image, Image) and image.place.name == "stack.tif, image 3"
    assert read_image(inputs / "folder" / "2.tif").place.name == "2.tif"
