"""Images on disk <-> arrays: what is kept bit for bit, what is refused; a write is whole or nothing."""

import errno
import gc
import os
import re
import struct
import subprocess
import sys
import zlib
from io import BytesIO
from itertools import permutations
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from PIL import ImageOps
from support.image_files import image_of, noise, save

from sagd_cli.data.folders import list_images, output_name
from sagd_cli.data.images import read_image, write_image
from sagd_cli.data.ranges import image_pixels, image_signal
from sagd_cli.errors import DataError, SagdError, UsageError
from sagd_cli.files.formats import decode, encode, format_of
from sagd_cli.files.layout import MAX_FILE_BYTES, MAX_PIXELS

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("SAGD_DATA") or ROOT.parent / "shared" / "data")

LOSSLESS = [
    *[
        (suffix, depth, s)
        for suffix in (".png", ".tif")
        for depth in ("uint8", "uint16")
        for s in (1, 2, 3, 4)
    ],
    *[(".tif", "float32", s) for s in (1, 2, 3, 4)],
    *[(".tif", depth, 1) for depth in ("int8", "int16", "int32", "uint32", "float16", "float64")],
    *[(".bmp", "uint8", s) for s in (1, 3, 4)],
    *[(".pgm", depth, 1) for depth in ("uint8", "uint16")],
    *[(".ppm", depth, 3) for depth in ("uint8", "uint16")],
]


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, bits, colour, rows, *chunks):
    """Return a PNG file made by hand: `rows` hold the filter bytes too, `chunks` come before the data."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + data


def pillow_file(image, kind, **options):
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def tiff_file(array, **options):
    file = BytesIO()
    tifffile.imwrite(file, array, metadata=None, **options)
    return file.getvalue()


def refused(path, said):
    """Read `path`, expect a refusal in one line that names it and matches `said`; return the error."""
    with pytest.raises(DataError, match=said) as caught:
        read_image(path)
    assert caught.value.message.startswith(str(path))
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < len(str(path)) + 200
    return caught.value


# ---------------------------------------------------------------- round trips


@pytest.mark.parametrize(("suffix", "depth", "count"), LOSSLESS)
@pytest.mark.parametrize("size", [(1, 1), (5, 7), (33, 2), (64, 48)])
def test_a_lossless_file_keeps_every_bit(tmp_path, suffix, depth, count, size):
    path = tmp_path / f"x{suffix}"
    written = save(path, noise((*size, count), depth))
    read = read_image(path)
    np.testing.assert_array_equal(read.pixels, written.pixels, strict=True)
    if written.alpha is None:
        assert read.alpha is None
    else:
        np.testing.assert_array_equal(read.alpha, written.alpha, strict=True)
    assert read.path == path
    assert read.pixels.flags.c_contiguous and read.pixels.dtype.isnative


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(LOSSLESS), st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_encode_then_decode_is_the_identity(kind, height, width, seed):
    suffix, depth, count = kind
    name = {".png": "PNG", ".tif": "TIFF", ".bmp": "BMP", ".pgm": "PGM", ".ppm": "PPM"}[suffix]
    samples = noise((height, width, count), depth, seed)
    np.testing.assert_array_equal(decode(encode(samples, name), name), samples, strict=True)


@pytest.mark.parametrize(("suffix", "depth", "count"), [kind for kind in LOSSLESS if kind[1] == "uint8"])
def test_8_bit_files_we_write_are_read_alike_by_pillow(tmp_path, suffix, depth, count):
    samples = noise((9, 11, count), depth)
    save(tmp_path / f"x{suffix}", samples)
    with Pillow.open(tmp_path / f"x{suffix}") as other:
        assert other.mode == {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[count]
        np.testing.assert_array_equal(np.asarray(other).reshape(samples.shape), samples)


def test_16_bit_grey_we_write_is_read_alike_by_pillow(tmp_path):
    samples = noise((6, 5, 1), "uint16")
    for suffix in (".png", ".pgm", ".tif"):
        save(tmp_path / f"x{suffix}", samples)
        with Pillow.open(tmp_path / f"x{suffix}") as other:
            np.testing.assert_array_equal(np.asarray(other), samples[..., 0])


def test_write_image_writes_the_new_pixels_and_the_old_alpha(tmp_path):
    image = image_of(noise((4, 6, 4), "uint16"))
    write_image(image, 65535 - image.pixels, tmp_path / "x.png")
    read = read_image(tmp_path / "x.png")
    np.testing.assert_array_equal(read.pixels, 65535 - image.pixels)
    np.testing.assert_array_equal(read.alpha, image.alpha)


def test_write_image_refuses_pixels_of_another_kind(tmp_path):
    image = image_of(noise((4, 6, 3), "uint8"))
    with pytest.raises(ValueError, match="uint16"):
        write_image(image, image.pixels.astype(np.uint16), tmp_path / "x.png")
    with pytest.raises(ValueError, match=re.escape("(1, 4, 6)")):
        write_image(image, image.pixels[:1], tmp_path / "x.png")


@pytest.mark.parametrize(
    ("suffix", "depth", "count"),
    [
        (".png", "float32", 1),
        (".bmp", "uint16", 1),
        (".bmp", "uint8", 2),
        (".pgm", "uint8", 3),
        (".jpg", "uint8", 3),
    ],
)
def test_a_format_that_would_lose_something_is_refused(tmp_path, suffix, depth, count):
    with pytest.raises(DataError, match=f"x{suffix} cannot hold .*{depth}"):
        save(tmp_path / f"x{suffix}", noise((4, 6, count), depth))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("a.png", "a.png"),
        ("A.PNG", "A.PNG"),
        ("a.tif", "a.tif"),
        ("a.tiff", "a.tiff"),
        ("a.bmp", "a.bmp"),
        ("a.pgm", "a.pgm"),
        ("a.jpg", "a.png"),
        ("a.b.JPEG", "a.b.png"),
        ("a.webp", "a.png"),
        ("a.jfif", "a.png"),
        ("a.GIF", "a.png"),
        ("a.avif", "a.png"),
        ("a.jp2", "a.png"),
        ("a.pbm", "a.png"),
        ("a.PPM", "a.PPM"),
        ("a.dib", "a.dib"),
    ],
)
def test_output_name(name, output):
    assert output_name(Path("some/folder") / name) == output


# ---------------------------------------------------------------- reading what others wrote


def test_jpeg_and_webp_are_read_as_pillow_decodes_them(tmp_path):
    colours = Pillow.fromarray(noise((20, 30, 3), "uint8"))
    alpha = Pillow.fromarray(noise((20, 30, 4), "uint8"))
    for name, image in (
        ("c.jpg", colours),
        ("g.jpeg", colours.convert("L")),
        ("c.webp", colours),
        ("a.webp", alpha),
    ):
        kind = "WEBP" if name.endswith("webp") else "JPEG"
        data = pillow_file(image, kind, quality=80)
        (tmp_path / name).write_bytes(data)
        read = read_image(tmp_path / name)
        expected = image_of(np.atleast_3d(np.asarray(Pillow.open(BytesIO(data)))))
        np.testing.assert_array_equal(read.pixels, expected.pixels, strict=True)
        assert (read.alpha is None) == (image.mode != "RGBA")


def test_webp_without_loss_keeps_pixels_and_alpha(tmp_path):
    samples = noise((8, 9, 4), "uint8")
    (tmp_path / "x.webp").write_bytes(
        pillow_file(Pillow.fromarray(samples), "WEBP", lossless=True, exact=True)
    )
    read = read_image(tmp_path / "x.webp")
    np.testing.assert_array_equal(read.pixels, np.moveaxis(samples[..., :3], 2, 0))
    np.testing.assert_array_equal(read.alpha, samples[..., 3])


PALETTE = chunk(b"PLTE", bytes(range(12)))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (png(4, 1, 1, 0, b"\0\xa0"), [[255], [0], [255], [0]]),
        (png(4, 1, 2, 0, b"\0\x1b"), [[0], [85], [170], [255]]),
        (png(2, 1, 4, 0, b"\0\x1b"), [[17], [187]]),
        (png(4, 1, 2, 0, b"\0\x1b", chunk(b"tRNS", b"\0\2")), [[0, 255], [85, 255], [170, 0], [255, 255]]),
        (png(4, 1, 2, 3, b"\0\x1b", PALETTE), [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]),
        (
            png(4, 1, 2, 3, b"\0\x1b", PALETTE, chunk(b"tRNS", b"\0\x50")),
            [[0, 1, 2, 0], [3, 4, 5, 80], [6, 7, 8, 255], [9, 10, 11, 255]],
        ),
        (png(2, 1, 8, 2, b"\0abcdef", chunk(b"tRNS", b"\0a\0b\0c")), [[97, 98, 99, 0], [100, 101, 102, 255]]),
    ],
    ids=["1-bit", "2-bit", "4-bit", "2-bit key", "palette", "palette alpha", "RGB key"],
)
def test_small_png_kinds_become_8_bits(data, expected):
    np.testing.assert_array_equal(decode(data, "PNG")[0], np.array(expected, np.uint8), strict=True)


def test_a_16_bit_png_with_a_key_keeps_16_bits():
    samples = decode(png(2, 1, 16, 0, b"\0abcd", chunk(b"tRNS", b"ab")), "PNG")
    np.testing.assert_array_equal(
        samples[0], np.array([[0x6162, 0], [0x6364, 65535]], np.uint16), strict=True
    )


def test_an_interlaced_png_is_read_alike():
    samples = noise((13, 9, 3), "uint8")
    passes = [
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    ]
    parts = [samples[y::dy, x::dx] for y, x, dy, dx in passes]
    rows = b"".join(b"\0" + row.tobytes() for part in parts if part.shape[1] for row in part)
    data = bytearray(png(9, 13, 8, 2, rows))
    data[28] = 1  # the interlace method, last in IHDR
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    np.testing.assert_array_equal(decode(bytes(data), "PNG"), samples)


@pytest.mark.parametrize("mode", ["1", "P", "L", "RGB"])
@pytest.mark.parametrize("kind", ["BMP", "TIFF"])
def test_bmp_and_tiff_of_pillow_are_read_as_their_colours(mode, kind):
    image = Pillow.fromarray(noise((9, 13, 3), "uint8")).convert(mode)
    expected = np.asarray(image.convert("RGB" if mode in ("P", "RGB") else "L"))
    samples = decode(pillow_file(image, kind), kind)
    np.testing.assert_array_equal(np.squeeze(samples), expected, strict=True)


@pytest.mark.parametrize(
    ("data", "depth", "expected"),
    [
        (b"P5\n# a remark\n3 1\n255\n\0\x80\xff", "uint8", [0, 128, 255]),
        (b"P5 3 1 100\n\0\x32\x64", "uint8", [0, 128, 255]),
        (b"P2\n3 1\n255\n0 128 255\n", "uint8", [0, 128, 255]),
        (b"P5 3 1 65535\n\0\0\x12\x34\xff\xff", "uint16", [0, 0x1234, 65535]),
        (b"P5 3 1 1023\n\0\0\0\x01\x03\xff", "uint16", [0, 64, 65535]),
        (b"P2 3 1 65535 0 4660 65535", "uint16", [0, 4660, 65535]),
    ],
)
def test_pgm_kinds(data, depth, expected):
    np.testing.assert_array_equal(decode(data, "PGM")[0, :, 0], np.array(expected, depth), strict=True)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("depth", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "zlib", "predictor": True},
        {"compression": "lzw"},
        {"compression": "packbits"},
        {"compression": "zstd"},
        {"tile": (16, 16)},
        {"rowsperstrip": 5},
        {"bigtiff": True},
        {"planarconfig": "separate"},
    ],
    ids=str,
)
def test_tiff_layouts(byteorder, depth, options):
    samples = noise((21, 34, 3), depth)
    stored = np.moveaxis(samples, 2, 0) if "planarconfig" in options else samples
    data = tiff_file(
        stored.astype(samples.dtype.newbyteorder(byteorder)),
        byteorder=byteorder,
        photometric="rgb",
        **options,
    )
    assert data[:2] == {"<": b"II", ">": b"MM"}[byteorder]
    np.testing.assert_array_equal(decode(data, "TIFF"), samples, strict=True)


@pytest.mark.parametrize("depth", ["uint8", "uint16"])
def test_a_tiff_where_white_is_zero_is_inverted(depth):
    samples = noise((5, 6, 1), depth)
    data = tiff_file(np.iinfo(depth).max - samples[..., 0], photometric="miniswhite")
    np.testing.assert_array_equal(decode(data, "TIFF"), samples, strict=True)


@pytest.mark.parametrize("depth", ["uint8", "uint16", "float32"])
def test_colours_that_were_multiplied_by_alpha_are_divided_by_it(depth):
    white = 1 if depth == "float32" else np.iinfo(depth).max
    alpha = np.array([[0, 0.2, 0.6, 1]]) * white
    for colours in (np.array([[[0.8, 0.4, 0]]]), np.array([[[0.6]]])):
        stored = np.concatenate([colours * alpha[..., None], alpha[..., None]], axis=2)
        stored[0, 0, :-1] = 0.1 * white  # such light without cover has no straight form
        data = tiff_file(
            stored.round(0 if white > 1 else 9).astype(depth),
            photometric="rgb" if stored.shape[2] > 2 else "minisblack",
            planarconfig="contig",
            extrasamples=["assocalpha"],
        )
        samples = decode(data, "TIFF")
        assert samples.dtype == depth
        np.testing.assert_array_equal(samples[..., -1], stored[..., -1].astype(depth))
        assert not samples[0, 0, :-1].any()
        expected = np.broadcast_to(colours * white, samples[:, 1:, :-1].shape)
        step = 1 / white if white > 1 else 1e-6
        np.testing.assert_allclose(samples[:, 1:, :-1] / white, expected / white, atol=step / 0.2)
        again = encode(samples, "TIFF")
        np.testing.assert_array_equal(decode(again, "TIFF"), samples)
        assert tifffile.TiffFile(BytesIO(again)).pages[0].extrasamples == (2,)
    # Light beyond its cover ends at white in integers.
    data = tiff_file(
        np.full((1, 1, 2), 0.5 * white).astype(depth), extrasamples=["assocalpha"], planarconfig="contig"
    )
    assert decode(data, "TIFF")[0, 0, 0] == white


@pytest.mark.parametrize("largest", [255, 65535])
def test_a_palette_of_8_or_16_bits_gives_its_colours(largest):
    colours = noise((256, 3), "uint8")
    index = noise((5, 6), "uint8")
    held = colours.T.astype(np.uint16) * (largest // 255)
    data = tiff_file(index, photometric="palette", colormap=held)
    np.testing.assert_array_equal(decode(data, "TIFF"), colours[index], strict=True)
    with_alpha = np.stack([index, noise((5, 6), "uint8")], axis=2)
    tags = [(320, 3, 768, held.ravel().tolist(), True)]
    data = tiff_file(
        with_alpha, photometric="minisblack", planarconfig="contig", extrasamples=[2], extratags=tags
    )
    data = data.replace(struct.pack("<HHII", 262, 3, 1, 1), struct.pack("<HHII", 262, 3, 1, 3))
    np.testing.assert_array_equal(
        decode(data, "TIFF"), np.concatenate([colours[index], with_alpha[..., 1:]], axis=2), strict=True
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_as_pillow_does(tmp_path, orientation):
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    samples = noise((16, 24, 3), "uint8")
    image = Pillow.fromarray(samples)
    for name, kind in (("x.jpg", "JPEG"), ("x.png", "PNG"), ("x.webp", "WEBP")):
        image.save(tmp_path / name, kind, exif=exif)
        with Pillow.open(tmp_path / name) as stored:
            expected = np.asarray(ImageOps.exif_transpose(stored))
        np.testing.assert_array_equal(np.moveaxis(read_image(tmp_path / name).pixels, 0, 2), expected)
    with Pillow.open(tmp_path / "x.png") as stored:
        expected = np.asarray(ImageOps.exif_transpose(stored))
    data = tiff_file(samples, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    np.testing.assert_array_equal(decode(data, "TIFF"), expected)


# ---------------------------------------------------------------- hostile files


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.webp", "x.tif", "x.bmp", "x.pgm"])
def test_empty_files_text_files_folders_and_pipes_are_refused(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"")
    refused(path, "is empty")
    path.write_text("hello, I am not an image\n" * 10)
    refused(path, "is not an image of an accepted format")
    path.unlink()
    refused(path, "cannot be opened: No such file")
    path.mkdir()
    refused(path, "is a folder")
    path.rmdir()
    path.symlink_to(path)
    refused(path, "cannot be opened: Too many levels of symbolic links")
    path.unlink()
    os.mkfifo(path)
    refused(path, "is not a regular file")  # and not waited for


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_refused(tmp_path):
    save(tmp_path / "x.png", noise((4, 4, 1), "uint8"))
    (tmp_path / "x.png").chmod(0)
    refused(tmp_path / "x.png", "Permission denied")


def test_a_name_with_a_line_end_or_a_terminal_code_is_escaped(tmp_path):
    path = tmp_path / "a\n\x1b[31m.png"
    path.write_bytes(b"")
    with pytest.raises(DataError, match="is empty") as caught:
        read_image(path)
    assert caught.value.message.isprintable()
    with pytest.raises(DataError, match="cannot be opened: embedded null"):
        read_image(tmp_path / "a\0.png")


def test_a_file_beyond_the_limit_of_bytes_is_not_read(tmp_path):
    with (tmp_path / "x.png").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)  # sparse: no disk is used
    refused(tmp_path / "x.png", "larger than 1 GiB")


def valid_files():
    colours = Pillow.fromarray(noise((40, 50, 3), "uint8"))
    deep = noise((40, 50, 3), "uint16")
    return {
        "8.png": pillow_file(colours, "PNG"),
        "16.png": encode(deep, "PNG"),
        "c.jpg": pillow_file(colours, "JPEG"),
        "p.jpg": pillow_file(colours, "JPEG", progressive=True),
        "c.webp": pillow_file(colours, "WEBP"),
        "l.webp": pillow_file(colours, "WEBP", lossless=True),
        "c.tif": tiff_file(deep, photometric="rgb"),
        "z.tif": tiff_file(deep, photometric="rgb", compression="zlib"),
        "w.tif": tiff_file(deep[..., 0], compression="lzw", rowsperstrip=7),
        "f.tif": tiff_file(noise((40, 50), "float32"), byteorder=">", tile=(16, 16)),
        "c.bmp": pillow_file(colours, "BMP"),
        "8.pgm": encode(noise((40, 50, 1), "uint8"), "PGM"),
        "16.pgm": encode(deep[..., :1], "PGM"),
        "plain.pgm": b"P2 40 50 255 " + b" 17" * 2000,
        "16.ppm": encode(deep, "PPM"),
        "plain.ppm": b"P3 40 50 65535 " + b" 17000" * 6000,
        "c.gif": pillow_file(colours, "GIF"),
        "c.tga": pillow_file(colours, "TGA"),
        "r.tga": pillow_file(colours, "TGA", compression="tga_rle"),
        "c.ico": pillow_file(colours, "ICO", sizes=[(50, 40)], bitmap_format="bmp"),
        "c.avif": pillow_file(colours, "AVIF", speed=10),
        "c.jp2": pillow_file(colours, "JPEG2000"),
        "16.jp2": imagecodecs.jpeg2k_encode(deep, reversible=True, level=0),
    }


@pytest.mark.parametrize("name", valid_files())
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_refused(tmp_path, name, part):
    data = valid_files()[name]
    path = tmp_path / name
    path.write_bytes(data)
    read_image(path)  # the whole is accepted
    path.write_bytes(data[: int(len(data) * part)])
    refused(path, "is not a|has no pixels")


@pytest.mark.parametrize("name", valid_files())
def test_damaged_bytes_never_raise_anything_else(name, capfd):
    data = valid_files()[name]
    kind = format_of(Path(name))
    rng = np.random.default_rng(7)
    for trial in range(60):
        hurt = bytearray(data)
        region = min(len(hurt), 200) if trial % 2 else len(hurt)  # every second time the header
        for position in rng.integers(0, region, 1 + trial % 8):
            hurt[position] = rng.integers(256)
        try:
            samples = decode(bytes(hurt), kind)
        except DataError as error:
            assert "\n" not in error.message
        else:
            assert samples.ndim == 3 and samples[..., 0].size <= MAX_PIXELS
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="None cannot be deallocated from Python 3.12 on")
@pytest.mark.parametrize("name", ["16.png", "8.png"])
def test_damaged_files_cost_no_reference_to_none(name):
    data = valid_files()[name]
    gc.collect()
    before = sys.getrefcount(None)
    for _ in range(300):
        with pytest.raises(DataError):
            decode(data[: len(data) // 2], "PNG")
    gc.collect()
    assert sys.getrefcount(None) > before - 150


@pytest.mark.parametrize("name", ["16.png", "8.png"])
def test_one_flipped_bit_of_png_pixels_is_noticed(name):
    data = bytearray(valid_files()[name])
    data[len(data) // 2] ^= 1
    with pytest.raises(DataError, match="is not a readable PNG file"):
        decode(bytes(data), "PNG")


BOMBS = {
    "png": png(10_000, 10_000, 8, 0, b"\0"),
    "larger.png": png(200_000, 200_000, 1, 0, b"\0"),
    "whole.png": png(10_000, 10_000, 1, 0, bytes(10_000 * 1251)),
    "jpg": re.sub(
        rb"(\xff\xc0\0\x11\x08)....",
        rb"\1" + struct.pack(">HH", 10_000, 10_000),
        pillow_file(Pillow.new("RGB", (8, 8)), "JPEG"),
        flags=re.DOTALL,
    ),
    "webp": pillow_file(Pillow.new("RGB", (16383, 4000)), "WEBP", lossless=True, method=0),
    "bmp": struct.pack(
        "<2sIHHIIiiHHIIiiII", b"BM", 54, 0, 0, 54, 40, 10_000, 10_000, 1, 24, 0, 0, 0, 0, 0, 0
    ),
    "pgm": b"P5 10000 10000 255\n",
    "huge.pgm": b"P2 1000000 1000000 255\n",
}


def resident(key):
    """The memory that this process holds (VmRSS), or the most it has held (VmHWM), in bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(rf"{key}:\s+(\d+) kB", status)[1])


@pytest.mark.parametrize("name", BOMBS)
def test_a_decompression_bomb_is_refused_by_its_header(tmp_path, name):
    path = tmp_path / f"x.{name}"
    path.write_bytes(BOMBS[name])
    assert path.stat().st_size < 20_000
    Path("/proc/self/clear_refs").write_text("5")  # the most it has held is what it holds now
    before = resident("VmRSS")
    assert refused(path, "more than 64 million pixels").hint
    assert resident("VmHWM") - before < 2**25, "64 million pixels take 2^26 bytes at least"


@pytest.mark.parametrize("field", ["width", "tile"])
def test_a_tiff_bomb_is_refused_by_its_header(tmp_path, field):
    data = tiff_file(np.zeros((16, 16), np.uint16), tile=(16, 16), compression="zlib", byteorder="<")
    codes = {"width": (256, 257), "tile": (322, 323)}[field]
    with tifffile.TiffFile(BytesIO(data)) as tiff:
        places = [tiff.pages[0].tags[code].valueoffset for code in codes]
    hurt = bytearray(data)
    for place in places:
        hurt[place : place + 2] = struct.pack("<H", 10_000)
    (tmp_path / "x.tif").write_bytes(hurt)
    refused(tmp_path / "x.tif", "more than 64 million pixels")


def tiff_by_hand(width, height, compression, strip):
    """Return a grey 8-bit TIFF of one strip, whatever that strip holds."""
    tags = {256: width, 257: height, 258: 8, 259: compression, 262: 1, 273: 8 + 2 + 12 * 9 + 4, 277: 1}
    tags |= {278: height, 279: len(strip)}
    entries = b"".join(struct.pack("<HHII", code, 4, 1, value) for code, value in tags.items())
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4) + strip


def test_a_tiff_whose_size_is_many_numbers_is_refused(tmp_path):
    data = bytearray(tiff_by_hand(2, 2, 1, b"abcd"))
    data[22:34] = struct.pack("<HHII", 257, 4, 1, 10**7)
    data[10:22] = struct.pack("<HHII", 256, 4, 50, 8)  # the width: 50 numbers from byte 8 on
    (tmp_path / "x.tif").write_bytes(bytes(data) + bytes(200))
    refused(tmp_path / "x.tif", "size that is not a number")


def test_a_tiff_strip_that_inflates_beyond_its_page_takes_no_memory(tmp_path):
    assert decode(tiff_by_hand(2, 2, 8, zlib.compress(b"abcd")), "TIFF").tobytes() == b"abcd"
    bomb = tiff_by_hand(4, 4, 8, zlib.compress(bytes(400_000_000), 1))
    path = tmp_path / "x.tif"
    path.write_bytes(bomb)
    code = (
        "import resource, sys; from pathlib import Path; from sagd_cli.data.images import read_image\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: read_image(Path(sys.argv[1]))\n"
        "except Exception: pass\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 60  # MiB, most of it the decoders' code


def test_a_photograph_of_12_million_pixels_passes(tmp_path):
    (tmp_path / "x.pgm").write_bytes(b"P5 4000 3000 255\n" + bytes(12_000_000))
    assert read_image(tmp_path / "x.pgm").pixels.shape == (1, 3000, 4000)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.png", "JPEG"),
        ("x.jpg", "PNG"),
        ("x.tif", "PNG"),
        ("x.bmp", "TIFF"),
        ("x.pgm", "BMP"),
        ("x.webp", "JPEG"),
    ],
)
def test_the_content_says_the_format_whatever_the_suffix(tmp_path, name, content):
    picture = Pillow.fromarray(noise((8, 8, 3), "uint8"))
    (tmp_path / name).write_bytes(pillow_file(picture, content))
    with Pillow.open(tmp_path / name) as expected:
        np.testing.assert_array_equal(
            np.moveaxis(read_image(tmp_path / name).pixels, 0, 2), np.asarray(expected)
        )


def test_what_is_written_is_in_the_format_of_its_own_suffix(tmp_path):
    (tmp_path / "n02105855_2933.JPEG").write_bytes(encode(noise((8, 8, 3), "uint16"), "PNG"))
    (tmp_path / "a.png").write_bytes(pillow_file(Pillow.fromarray(noise((8, 8, 3), "uint8")), "JPEG"))
    (tmp_path / "b.png").write_bytes(encode(noise((8, 8, 1), "float32"), "TIFF"))
    for name in ("n02105855_2933.JPEG", "a.png"):
        image = read_image(tmp_path / name)
        write_image(image, image.pixels, tmp_path / "out.png")
        assert imagecodecs.png_check((tmp_path / "out.png").read_bytes())
        np.testing.assert_array_equal(read_image(tmp_path / "out.png").pixels, image.pixels, strict=True)
    image = read_image(tmp_path / "b.png")
    with pytest.raises(DataError, match=r"cannot hold 1 channel\(s\) of float32"):
        write_image(image, image.pixels, tmp_path / "out.png")


def test_formats_that_are_not_accepted_are_refused_under_any_name(tmp_path):
    for name in ("x.pcx", "x.png"):
        (tmp_path / name).write_bytes(pillow_file(Pillow.new("RGB", (8, 8)), "PCX"))
        assert ".webp" in refused(tmp_path / name, "is not an image of an accepted format").hint


@pytest.mark.parametrize(("name", "kind"), [("x.png", "PNG"), ("x.webp", "WEBP")])
def test_an_animation_is_refused(tmp_path, name, kind):
    frames = [Pillow.fromarray(noise((8, 8, 3), "uint8", seed)) for seed in range(3)]
    frames[0].save(tmp_path / name, kind, save_all=True, append_images=frames[1:], lossless=True)
    refused(tmp_path / name, "is an animation")


def test_a_photograph_with_previews_behind_it_is_read_as_its_first_picture(tmp_path):
    frames = [Pillow.new("RGB", (16, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "x.jpg", "MPO", save_all=True, append_images=frames[1:])
    pixels = read_image(tmp_path / "x.jpg").pixels
    assert pixels.shape == (3, 8, 16) and pixels[0].min() > 250 and pixels[2].max() < 5


def test_an_announced_animation_without_frames_is_its_picture(tmp_path):
    (tmp_path / "x.png").write_bytes(png(1, 1, 8, 0, b"\0a", chunk(b"acTL", struct.pack(">II", 0, 0))))
    assert read_image(tmp_path / "x.png").pixels.tolist() == [[[97]]]


def test_a_remark_of_libpng_is_not_printed(tmp_path):
    code = (
        "import sys; from pathlib import Path; from sagd_cli.data.images import read_image\n"
        "assert 'torch' not in sys.modules and 'tifffile' not in sys.modules\n"
        "print(read_image(Path(sys.argv[1])).pixels.tolist())"
    )
    path = tmp_path / "x.png"
    path.write_bytes(png(1, 1, 8, 0, b"\0a", chunk(b"iCCP", b"x\0\0zzzz")))
    done = subprocess.run(
        [sys.executable, "-c", code, path], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("[[[97]]]\n", "")


@pytest.mark.parametrize(
    ("array", "options", "said"),
    [
        (np.zeros((3, 4, 4), np.uint8), {"photometric": "minisblack"}, "holds 3 pages"),
        (np.zeros((4, 4), np.uint64), {}, "holds integers of 64 bits"),
        (np.zeros((4, 4), np.int64), {}, "holds integers with a sign of 64 bits"),
        (np.zeros((4, 4), np.complex64), {}, "holds complex numbers of 64 bits"),
        (np.zeros((4, 4, 4), np.uint8), {"photometric": "separated"}, "neither grey nor RGB"),
        (np.zeros((4, 4, 3), np.uint8), {"photometric": "rgb", "compression": "jpeg"}, "compression"),
        (
            np.zeros((4, 4, 4), np.uint8),
            {"photometric": "rgb", "extrasamples": ["unspecified"]},
            "does not say that they are alpha",
        ),
        (
            np.zeros((4, 4, 5), np.uint8),
            {"photometric": "rgb", "planarconfig": "contig", "extrasamples": [2, 0]},
            "channels besides its colours",
        ),
    ],
    ids=["pages", "u64", "i64", "c64", "CMYK", "JPEG", "unspecified", "5 channels"],
)
def test_tiff_kinds_that_are_refused(tmp_path, array, options, said):
    (tmp_path / "x.tif").write_bytes(tiff_file(array, **options))
    assert refused(tmp_path / "x.tif", said).hint


def imagej_stack(planes, held, order=">", parts=("tags", "text", "pixels")):
    """Return a stack of 8 x 8 bytes as ImageJ writes it, of one directory; `held` of its planes are there."""
    text = f"ImageJ=1.54f\nimages={planes}\nslices={planes}\n\0".encode().ljust(60, b"\0")
    pixels = (noise((8, 8), "uint8").tobytes() * 5)[: int(held * 64)]
    tags = {256: 8, 257: 8, 258: 8, 259: 1, 262: 1, 270: 0, 273: 0, 277: 1, 278: 8, 279: 64}
    sizes = {"tags": 2 + 12 * len(tags) + 4, "text": len(text), "pixels": len(pixels)}
    places = {part: 8 + sum(sizes[other] for other in parts[: parts.index(part)]) for part in parts}
    tags[270], tags[273] = places["text"], places["pixels"]
    entries = b"".join(
        struct.pack(f"{order}HHII", code, 2 if code == 270 else 4, len(text) if code == 270 else 1, value)
        for code, value in tags.items()
    )
    directory = struct.pack(f"{order}H", len(tags)) + entries + bytes(4)
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HI", 42, places["tags"])
    return head + b"".join({"tags": directory, "text": text, "pixels": pixels}[part] for part in parts)


@pytest.mark.parametrize("parts", [*permutations(["tags", "text", "pixels"])], ids="-".join)
def test_a_stack_is_believed_where_there_is_room_for_it(tmp_path, parts):
    (tmp_path / "x.tif").write_bytes(imagej_stack(5, 5, parts=parts))
    refused(tmp_path / "x.tif", "holds 5 pages")
    assert decode(imagej_stack(5, 1, parts=parts), "TIFF").tobytes() == noise((8, 8), "uint8").tobytes()


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("held", [3, 2, 1.5])
def test_planes_are_counted_and_not_pages(tmp_path, order, held):
    (tmp_path / "x.tif").write_bytes(imagej_stack(3, held, order))
    assert "Save each page" in refused(tmp_path / "x.tif", "holds 3 pages").hint


def test_a_description_that_outlived_its_stack_refuses_nothing():
    assert decode(imagej_stack(3, 1), "TIFF").tobytes() == noise((8, 8), "uint8").tobytes()
    assert decode(imagej_stack(1, 1), "TIFF").shape == (8, 8, 1)
    assert decode(imagej_stack(3, 1) + b"tail", "TIFF").shape == (8, 8, 1)


@pytest.mark.parametrize(
    "options",
    [
        {"truncate": True, "metadata": {}},
        {"ome": True},
        {"bigtiff": True},
    ],
    ids=["tifffile", "OME", "BigTIFF"],
)
def test_other_stacks_are_refused_in_the_same_words(tmp_path, options):
    tifffile.imwrite(tmp_path / "x.tif", np.zeros((3, 8, 9), np.uint8), photometric="minisblack", **options)
    refused(tmp_path / "x.tif", "holds 3 pages")


def test_a_volume_in_one_page_is_refused(tmp_path):
    volume = np.zeros((3, 16, 16), np.uint8)
    tifffile.imwrite(tmp_path / "x.tif", volume, photometric="minisblack", volumetric=True, metadata=None)
    refused(tmp_path / "x.tif", "holds 3 planes as the depth of one page")


def test_a_stack_of_metamorph_is_refused(tmp_path):
    tags = {256: 2, 257: 2, 258: 8, 259: 1, 262: 1, 273: 208, 277: 1, 278: 2, 279: 4, 33629: 136}
    entries = b"".join(
        struct.pack("<HHII", code, *((5, 3) if code == 33629 else (4, 1)), value)
        for code, value in tags.items()
    )
    data = struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries
    (tmp_path / "x.tif").write_bytes(data.ljust(136, b"\0") + bytes(72) + bytes(12))
    refused(tmp_path / "x.tif", "holds 3 pages")
    assert decode(data.ljust(136, b"\0") + bytes(72) + bytes(4), "TIFF").shape == (2, 2, 1)


def tiff_pages(*pages):
    file = BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for samples, options in pages:
            writer.write(samples, metadata=None, **options)
    return file.getvalue()


def test_a_preview_beside_the_image_is_no_page(tmp_path):
    image, preview = (noise((8, 9), "uint8"), {}), (np.zeros((4, 4), np.uint8), {"subfiletype": 1})
    for pages in ((image, preview), (preview, image), (image, preview, preview)):
        np.testing.assert_array_equal(decode(tiff_pages(*pages), "TIFF")[..., 0], image[0])
    assert decode(tiff_pages(preview), "TIFF").shape == (4, 4, 1)
    (tmp_path / "x.tif").write_bytes(
        tiff_pages((preview[0], {"subfiletype": 1, "subifds": 1}), (*image[:1], {"subfiletype": 1}))
    )
    refused(tmp_path / "x.tif", "image behind a preview")
    (tmp_path / "x.tif").write_bytes(tiff_pages(image, preview, image))
    refused(tmp_path / "x.tif", "holds 2 pages")


@pytest.mark.parametrize(
    "head", [b"P5 3 1 255\n", b"P5 3 1 65535\n", b"P6 1 1 255\n", b"P6 1 1 999\n", b"P4 24 1\n"]
)
def test_netpbm_files_of_several_images_are_refused(tmp_path, head):
    image = head + (b"ab\0ab\0" if len(head.split()[-1]) > 3 or b"999" in head else b"abc")
    (tmp_path / "x.pnm").write_bytes(image)
    read_image(tmp_path / "x.pnm")
    (tmp_path / "x.pnm").write_bytes(2 * image)
    refused(tmp_path / "x.pnm", "holds several images")


@pytest.mark.parametrize("name", ["ij_one_ifd", "imagej_trunc", "imagej_one"])
def test_the_stacks_of_the_reports(data_root, name):
    path = data_root.parent / "cases" / "tiff" / f"{name}.tif"
    if not path.exists():
        pytest.skip(f"{path} is absent")
    if name == "imagej_one":
        assert read_image(path).pixels.shape == (1, 48, 64)
    else:
        refused(path, "holds 3 pages")


# ---------------------------------------------------------------- atomic writes


@pytest.fixture
def old_file(tmp_path):
    path = tmp_path / "x.png"
    save(path, noise((4, 4, 3), "uint8"))
    return path


@pytest.mark.parametrize("call", ["replace", "fsync"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(old_file, monkeypatch, call, code):
    before = old_file.read_bytes()

    def fail(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(SagdError, match=rf"x\.png cannot be written: {os.strerror(code)}") as caught:
        save(old_file, noise((4, 4, 3), "uint8", 1))
    assert caught.value.exit_code == 1
    assert ("room" in caught.value.hint) == (code in (errno.ENOSPC, errno.EDQUOT))
    assert old_file.read_bytes() == before
    assert list(old_file.parent.iterdir()) == [old_file]


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(old_file, monkeypatch):
    before = old_file.read_bytes()

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        save(old_file, noise((4, 4, 3), "uint8", 1))
    assert old_file.read_bytes() == before
    assert list(old_file.parent.iterdir()) == [old_file]


def test_a_disk_quota_leaves_the_old_file_and_nothing_else(old_file):
    before = old_file.read_bytes()
    code = (
        "import resource, sys; from pathlib import Path; import numpy as np\n"
        "from sagd_cli.errors import SagdError; from sagd_cli.data.images import Image, write_image\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64)).astype('uint8')\n"
        "path = Path(sys.argv[1])\n"
        "try: write_image(Image(pixels, None, path), pixels, path)\n"
        "except SagdError as error: print(error.message)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, old_file], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == (f"{old_file} cannot be written: File too large\n", "")
    assert old_file.read_bytes() == before
    assert list(old_file.parent.iterdir()) == [old_file]


def test_unwritable_places_are_named(tmp_path):
    with pytest.raises(SagdError, match=r"missing/x\.png cannot be written: No such file or directory"):
        save(tmp_path / "missing" / "x.png", noise((4, 4, 3), "uint8"))
    (tmp_path / "x.png").mkdir()
    with pytest.raises(SagdError, match=r"x\.png cannot be written: Is a directory"):
        save(tmp_path / "x.png", noise((4, 4, 3), "uint8"))
    assert list(tmp_path.iterdir()) == [tmp_path / "x.png"]


def test_a_name_of_the_greatest_length_is_written_with_the_umask(tmp_path):
    path = tmp_path / ("x" * 251 + ".png")
    save(path, noise((4, 4, 3), "uint8"))
    plain = tmp_path / "plain"
    plain.write_bytes(b"")
    assert path.stat().st_mode == plain.stat().st_mode


# ---------------------------------------------------------------- signals


@pytest.mark.parametrize("depth", ["uint8", "uint16"])
def test_every_integer_value_survives_the_signal(depth):
    values = np.arange(np.iinfo(depth).max + 1, dtype=depth).reshape(1, 16, -1)
    signal = image_signal(values)
    assert signal.dtype == np.float32
    assert (signal.min(), signal.max()) == (-1, 1)
    assert (np.diff(signal.ravel()) > 0).all()
    np.testing.assert_array_equal(image_pixels(signal, np.dtype(depth)), values, strict=True)


def test_signals_beyond_the_range_are_clipped_in_integers_and_kept_in_floats():
    signal = np.array([[[-7, -1, 0, 1, 7]]], np.float32)
    assert image_pixels(signal, np.dtype(np.uint8)).ravel().tolist() == [0, 0, 128, 255, 255]
    assert image_pixels(signal, np.dtype(np.uint16)).ravel().tolist() == [0, 0, 32768, 65535, 65535]
    floats = image_pixels(signal, np.dtype(np.float32))
    assert floats.ravel().tolist() == [-3, 0, 0.5, 1, 4]
    np.testing.assert_array_equal(image_signal(floats), signal, strict=True)


@pytest.mark.parametrize("shape", [(3000, 3, 1), (1000, 1, 3), (200, 1, 1), (5000, 4, 4), (1, 3000, 3)])
@pytest.mark.parametrize("depth", ["uint8", "uint16"])
def test_thin_png_files_are_written(tmp_path, shape, depth):
    samples = noise(shape, depth)
    save(tmp_path / "a.png", samples)
    np.testing.assert_array_equal(
        np.moveaxis(read_image(tmp_path / "a.png").pixels, 0, 2), samples[..., : 1 if shape[2] < 3 else 3]
    )


@given(st.lists(st.floats(-1000, 1000, width=32), min_size=1))
def test_floats_survive_the_signal_to_rounding(values):
    pixels = np.array(values, np.float32)
    np.testing.assert_allclose(image_pixels(image_signal(pixels), pixels.dtype), pixels, rtol=2e-7, atol=2e-7)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("depth", ["uint8", "float32"])
def test_a_signal_that_is_not_finite_is_refused(value, depth):
    with pytest.raises(DataError, match="not finite"):
        image_pixels(np.array([0, value], np.float32), np.dtype(depth))


# ---------------------------------------------------------------- folders


def test_list_images_is_sorted_and_sees_known_suffixes_only(tmp_path):
    for name in ("b.PNG", "a.jpg", "c.tiff", ".hidden.png", "notes.txt", "d.xyz", "png"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "e.png").write_bytes(b"")
    assert [path.name for path in list_images(tmp_path)] == ["a.jpg", "b.PNG", "c.tiff"]


def test_list_images_refuses_what_is_not_a_folder_of_images(tmp_path):
    with pytest.raises(UsageError, match="holds no image") as caught:
        list_images(tmp_path)
    for suffix in (".png", ".jpg", ".webp", ".tif", ".bmp", ".pgm"):
        assert suffix in caught.value.hint
    with pytest.raises(UsageError, match=r"missing is not a folder of images, nor an image: No such file"):
        list_images(tmp_path / "missing")
    (tmp_path / "x.png").write_bytes(b"")
    assert list_images(tmp_path / "x.png") == [tmp_path / "x.png"]


# ---------------------------------------------------------------- real data


def real(name):
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is absent (set SAGD_DATA)")
    return path


def test_the_big_endian_sinogram_round_trips(tmp_path):
    path = real("corrupted/sinogram_neutron_stripes.tif")
    assert path.read_bytes()[:2] == b"MM"
    image = read_image(path)
    np.testing.assert_array_equal(image.pixels[0], tifffile.imread(path).astype(np.uint16), strict=True)
    assert image.pixels.shape == (1, 459, 503)
    write_image(image, image.pixels, tmp_path / output_name(path))
    again = read_image(tmp_path / path.name)
    np.testing.assert_array_equal(again.pixels, image.pixels, strict=True)
    signal = image_pixels(image_signal(image.pixels), image.pixels.dtype)
    np.testing.assert_array_equal(signal, image.pixels, strict=True)


@pytest.mark.parametrize("name", ["florida_satellite_scanlines.tif", "mariner6_mars_interference.png"])
def test_the_other_corrupted_images_round_trip(tmp_path, name):
    path = real(f"corrupted/{name}")
    image = read_image(path)
    with Pillow.open(path) as other:
        np.testing.assert_array_equal(image.pixels[0], np.asarray(other), strict=True)
    write_image(image, image.pixels, tmp_path / name)
    np.testing.assert_array_equal(read_image(tmp_path / name).pixels, image.pixels, strict=True)


def test_a_kodak_photograph_is_read_as_pillow_reads_it():
    path = real("kodak/kodim04.png")
    image = read_image(path)
    with Pillow.open(path) as other:
        np.testing.assert_array_equal(image.pixels, np.moveaxis(np.asarray(other), 2, 0), strict=True)
    assert image.alpha is None
    assert imagecodecs.png_check(path.read_bytes()[:8])
