"""Stacks: images of one TIFF file, read and written one at a time; tifffile says that nothing else changed."""

import struct

import numpy as np
import pytest
import tifffile

from sagd_cli.data.image_writer import ImageWriter
from sagd_cli.data.images import images_in, read_image
from sagd_cli.errors import DataError
from sagd_cli.files import stacks
from sagd_cli.system.console import output

SHAPE = (2, 3, 10, 12)
PIXELS = np.random.default_rng(0).integers(0, 60000, SHAPE).astype(np.uint16)
SCALED = {
    "resolution": (2.5, 2.5),
    "metadata": {"axes": "ZCYX", "unit": "um", "spacing": 0.7, "Labels": list("abcdef")},
}
OME = {
    "axes": "TCYX",
    "PhysicalSizeX": 0.29,
    "PhysicalSizeXUnit": "\u00b5m",
    "TimeIncrement": 0.1,
    "Channel": {"Name": ["DAPI", "GFP", "RFP"]},
}
KINDS = {
    "ImageJ": (PIXELS, {"imagej": True, **SCALED}),
    "ImageJ big-endian": (PIXELS, {"imagej": True, "byteorder": ">", **SCALED}),
    "ImageJ float": (PIXELS.astype(np.float32), {"imagej": True, "metadata": {"axes": "TZYX"}}),
    "ImageJ RGB": (
        PIXELS.reshape(2, 10, 12, 3).astype(np.uint8),
        {"imagej": True, "metadata": {"axes": "ZYXS"}},
    ),
    "OME": (PIXELS, {"ome": True, "metadata": OME}),
    "OME packed BigTIFF": (PIXELS, {"ome": True, "bigtiff": True, "compression": "zlib", "predictor": True}),
    "tifffile": (PIXELS, {"photometric": "minisblack", "compression": "lzw", "metadata": {"axes": "TZYX"}}),
    "tifffile of one page": (PIXELS, {"photometric": "minisblack", "truncate": True}),
    "zstd floats": (PIXELS / 7, {"photometric": "minisblack", "compression": "zstd", "predictor": True}),
    "planar RGB": (PIXELS, {"photometric": "rgb", "planarconfig": "separate"}),
    "planar RGB packed": (PIXELS, {"photometric": "rgb", "planarconfig": "separate", "compression": "zlib"}),
    "signed": (
        PIXELS.astype(np.int16),
        {"photometric": "minisblack", "description": "scale 3 nm", "metadata": None},
    ),
}


def copied(source, target, change=lambda pixels: pixels):
    """Write the images of one stack to another."""
    with ImageWriter() as writer:
        for place in images_in(source):
            image = read_image(*place)
            writer.write(image, change(image.pixels), target)


def described(path):
    """What tifffile reads in a file, but for the pixels."""
    with tifffile.TiffFile(path) as tiff:
        (series,) = tiff.series if tiff.is_imagej or tiff.is_ome else tiff.series[:1]
        page = tiff.pages[0]
        return {
            "series": (series.axes, series.shape, series.dtype, series.kind),
            "imagej": {name: str(value) for name, value in (tiff.imagej_metadata or {}).items()},
            "ome": tiff.ome_metadata,
            "file": (tiff.is_bigtiff, tiff.byteorder),
            "page": (
                page.compression,
                page.predictor,
                page.resolution,
                page.resolutionunit,
                page.description.replace(', "truncated": true', ""),
            ),
        }


@pytest.mark.parametrize("kind", KINDS)
def test_a_stack_is_copied_page_by_page_with_all_that_tifffile_reads_in_it(tmp_path, kind):
    pixels, options = KINDS[kind]
    tifffile.imwrite(tmp_path / "a.tif", pixels, **options)
    pages = pixels.reshape(-1, *pixels.shape[-3:]) if "RGB" in kind else pixels.reshape(-1, 1, 10, 12)
    places = images_in(tmp_path / "a.tif")
    assert [place.page for place in places] == [*range(len(pages))]
    for place, page in zip(reversed(places), reversed(pages), strict=True):
        read = read_image(*place).pixels
        np.testing.assert_array_equal(
            read, np.moveaxis(page, 2, 0) if kind == "ImageJ RGB" else page, strict=True
        )
    copied(tmp_path / "a.tif", tmp_path / "b.tif")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "b.tif"]
    np.testing.assert_array_equal(
        tifffile.imread(tmp_path / "b.tif"), tifffile.imread(tmp_path / "a.tif"), strict=True
    )
    assert described(tmp_path / "b.tif") == described(tmp_path / "a.tif")


def test_levels_of_a_pyramid_are_left_out_with_a_note(tmp_path, capsys):
    output().said.clear()
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as writer:
        writer.write(PIXELS[0], subifds=1, photometric="minisblack")
        writer.write(PIXELS[0, :, ::2, ::2], subfiletype=1, photometric="minisblack")
    places = images_in(tmp_path / "a.ome.tif")
    np.testing.assert_array_equal([read_image(*place).pixels[0] for place in places], PIXELS[0])
    assert capsys.readouterr().err.count("levels of a pyramid") == 1


@pytest.mark.parametrize("place", ["inside", "beside"])
def test_levels_of_the_pyramid_of_one_image_are_left_out_with_a_note(tmp_path, capsys, place):
    output().said.clear()
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(PIXELS[0, 0], subifds=1 if place == "inside" else 0, metadata=None)
        writer.write(PIXELS[0, 0, ::2, ::2], subfiletype=1, metadata=None)
    (only,) = images_in(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_image(*only).pixels[0], PIXELS[0, 0])
    assert capsys.readouterr().err.count("levels of a pyramid") == 1


def test_pages_of_their_own_sizes_keep_their_own_descriptions(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for side in (6, 9):
            writer.write(PIXELS[0, 0, :side], description=f"{side} rows", metadata=None)
    copied(tmp_path / "a.tif", tmp_path / "b.tif")
    with tifffile.TiffFile(tmp_path / "b.tif") as tiff:
        assert [(page.shape, page.description) for page in tiff.pages] == [
            ((6, 12), "6 rows"),
            ((9, 12), "9 rows"),
        ]


def test_imagej_finds_the_images_one_behind_the_other(tmp_path):
    """It reads the first directory alone, and takes what follows the first image for the others."""
    pixels, options = KINDS["ImageJ"]
    tifffile.imwrite(tmp_path / "a.tif", pixels, **options)
    copied(tmp_path / "a.tif", tmp_path / "b.tif")
    with tifffile.TiffFile(tmp_path / "b.tif") as tiff:
        (start,) = tiff.pages[0].dataoffsets
        order = tiff.byteorder
    data = (tmp_path / "b.tif").read_bytes()[start : start + pixels.nbytes]
    np.testing.assert_array_equal(np.frombuffer(data, f"{order}u2").reshape(SHAPE), pixels)


def test_a_file_that_was_cut_names_the_image_that_is_not_there(tmp_path):
    pixels, options = KINDS["tifffile of one page"]
    tifffile.imwrite(tmp_path / "a.tif", pixels, **options)
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        (start,) = tiff.pages[0].dataoffsets
    data = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(data[: start + 4 * 240 + 100])
    places = images_in(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_image(*places[3]).pixels[0], PIXELS.reshape(6, 10, 12)[3])
    with pytest.raises(DataError, match=r"a.tif, image 5, is cut off"):
        read_image(*places[4])


def test_a_stack_that_is_not_whole_leaves_nothing(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, imagej=True)
    (tmp_path / "b.tif").write_text("old")
    images = [read_image(*place) for place in images_in(tmp_path / "a.tif")]
    with ImageWriter() as writer:
        for image in images[:3]:
            writer.write(image, image.pixels, tmp_path / "b.tif")
        with pytest.raises(DataError, match=r"b\.tif cannot be written without its image 4"):
            writer.write(images[4], images[4].pixels, tmp_path / "b.tif")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "b.tif"]
    assert (tmp_path / "b.tif").read_text() == "old"


def test_a_stack_is_not_written_under_the_name_of_another_format(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, imagej=True)
    with pytest.raises(DataError, match=r"x\.png cannot hold a stack"):
        copied(tmp_path / "a.tif", tmp_path / "x.png")


def test_what_is_too_large_for_addresses_of_32_bits_becomes_bigtiff(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", PIXELS[0], photometric="minisblack")
    for limit, is_big in ((720, False), (719, True)):
        monkeypatch.setattr(stacks, "_LARGEST_CLASSIC", limit)
        copied(tmp_path / "a.tif", tmp_path / "b.tif")
        assert (struct.unpack("<H", (tmp_path / "b.tif").read_bytes()[2:4])[0] == 43) == is_big


def test_images_of_palettes_and_what_is_no_stack_are_refused(tmp_path):
    colours = np.zeros((3, 256), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", PIXELS[0].astype(np.uint8), photometric="palette", colormap=colours)
    with pytest.raises(DataError, match="palette"):
        read_image(tmp_path / "a.tif", 0)
    (tmp_path / "x.tif").write_bytes(b"II*\0 nothing more")
    (tmp_path / "x.png").write_bytes(b"no image")
    for name in ("x.tif", "x.png", "missing.tif"):
        assert images_in(tmp_path / name) == [(tmp_path / name, None)]
