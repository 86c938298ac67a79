"""The table of image formats: all that is known of a format is its row and the module that the row names."""

import numpy as np
import pytest

from sagd_cli.config.arguments import parse_dataset
from sagd_cli.data.datasets import load_images
from sagd_cli.data.folders import check_output_folder, list_images, output_name
from sagd_cli.data.formats import (
    FORMATS,
    ImageFormat,
    accepted_suffixes,
    decode,
    encode,
    format_of,
    is_lossless,
)
from sagd_cli.data.images import read_image, write_array
from sagd_cli.errors import DataError, UsageError

PIXELS = np.array([[[0, 128, 255], [7, 8, 9]]], np.uint8)


def decode_plain(data):
    """Read lines of numbers behind a line that says PLAIN."""
    _, *rows = data.decode().splitlines()
    return np.array([row.split() for row in rows], np.uint8)[..., None]


def encode_plain(samples):
    return "\n".join(["PLAIN", *(" ".join(map(str, row)) for row in samples[..., 0])]).encode()


@pytest.fixture
def plain(monkeypatch):
    """A format that this module adds with one row."""
    row = ImageFormat(
        name="Plain",
        summary="numbers in lines of text",
        build=f"{__name__}:decode_plain",
        suffixes=(".plain", ".pln"),
        magic=rb"PLAIN\n",
        encoder=f"{__name__}:encode_plain",
        depths=("uint8",),
        channels=(1,),
    )
    monkeypatch.setitem(FORMATS, row.name, row)


def test_a_format_is_one_row_and_its_module(plain, tmp_path):
    path = tmp_path / "a.plain"
    write_array(PIXELS, path)
    assert path.read_text() == "PLAIN\n0 128 255\n7 8 9"
    np.testing.assert_array_equal(read_image(path).pixels, PIXELS, strict=True)
    (tmp_path / "b.PLN").write_bytes(path.read_bytes())
    assert list_images(tmp_path) == [path, tmp_path / "b.PLN"]
    np.testing.assert_array_equal(
        load_images(parse_dataset(str(tmp_path))).images, np.stack([PIXELS, PIXELS])
    )
    assert output_name(path) == "a.plain" and accepted_suffixes().endswith(".pnm, .plain, .pln")
    with pytest.raises(UsageError, match=r"holds a\.plain, which is not part"):
        check_output_folder(tmp_path, ["b.PLN"], force=True)


def test_what_a_row_says_of_a_format_is_held(plain, tmp_path):
    with pytest.raises(DataError, match=r"b\.plain cannot hold 3 channel\(s\) of uint8"):
        write_array(np.zeros((3, 2, 2), np.uint8), tmp_path / "b.plain")
    with pytest.raises(DataError, match=r"cannot hold .* of uint16"):
        write_array(PIXELS.astype(np.uint16), tmp_path / "b.plain")
    (tmp_path / "a.png").write_bytes(encode(PIXELS[0, :, :, None], "Plain"))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").pixels, PIXELS, strict=True)
    with pytest.raises(DataError, match="is not a readable Plain file"):
        decode(b"PLAIN\n1 2\nthree", "Plain")


def test_without_its_row_there_is_no_such_format(tmp_path):
    path = tmp_path / "a.plain"
    path.write_text("PLAIN\n1")
    assert format_of(path) is None and output_name(path) == "a.png"
    with pytest.raises(DataError, match="not an image of an accepted format"):
        read_image(path)
    with pytest.raises(DataError, match="suffix of an accepted format"):
        write_array(PIXELS, path)


def test_the_accepted_suffixes_are_those_of_the_table():
    assert accepted_suffixes() == (
        ".png, .jpg, .jpeg, .jpe, .jfif, .jp2, .j2k, .jpf, .jpx, .j2c, .jpc, .webp, .avif, .gif, .tif, .tiff, "
        ".bmp, .dib, .pgm, .ppm, .pbm, .pnm"
    )
    assert [name for name in FORMATS if is_lossless(name)] == ["PNG", "TIFF", "BMP", "PGM", "PPM"]


@pytest.mark.parametrize("name", FORMATS)
def test_a_row_names_what_there_is(name):
    row = FORMATS[name]
    assert callable(row.load()) and row.summary
    assert bool(row.encoder) == bool(row.depths) == bool(row.channels)
