"""The table of image formats: all that is known of a format is its row and the module that the row names."""

from io import BytesIO
from pathlib import PurePath

import imagecodecs
import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import UnidentifiedImageError, features

from sagd_cli.config.arguments import parse_dataset
from sagd_cli.data.folders import check_output_folder, list_images, output_name
from sagd_cli.data.images import read_image, write_array
from sagd_cli.datasets.loading import load_images
from sagd_cli.errors import DataError, UsageError
from sagd_cli.files import png
from sagd_cli.files.formats import (
    FORMATS,
    ImageFormat,
    accepted_suffixes,
    decode,
    encode,
    format_in,
    format_of,
    is_lossless,
)

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
    assert output_name(path) == "a.plain" and accepted_suffixes().endswith(".tga, .plain, .pln")
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


def test_a_folder_is_listed_in_a_time_that_grows_with_its_files(tmp_path, monkeypatch):
    for number in range(200):
        (tmp_path / f"{number}.png").touch()
        (tmp_path / f"{number}.txt").touch()
    hashed, own = [], PurePath.__hash__
    monkeypatch.setattr(PurePath, "__hash__", lambda path: hashed.append(path) or own(path))
    assert len(list_images(tmp_path)) == 200 and len(hashed) < 10 * 400


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
        ".png, .jpg, .jpeg, .jpe, .jfif, .jp2, .j2k, .jpf, .jpx, .j2c, .jpc, .webp, .avif, .gif, .tif, .tiff, .fits, "
        ".fit, .fts, .zarr, .bmp, .dib, .pgm, .ppm, .pbm, .pnm, .ico, .tga"
    )
    assert [name for name in FORMATS if is_lossless(name)] == ["PNG", "TIFF", "BMP", "PGM", "PPM"]


@pytest.mark.parametrize("name", FORMATS)
def test_a_row_names_what_there_is(name):
    row = FORMATS[name]
    assert callable(row.load()) and row.summary
    assert bool(row.encoder) == bool(row.depths) == bool(row.channels)


def saved(samples, kind, **options):
    file = BytesIO()
    Pillow.fromarray(samples).save(file, kind, **options)
    return file.getvalue()


RAMP = (np.indices((16, 24)).sum(axis=0)[..., None] * [1, 2, 3]).astype(np.uint16) * 200


@pytest.mark.parametrize(
    "suffix", [".jfif", ".JPE", ".gif", ".ppm", ".avif", ".jp2", ".J2K", ".pnm", ".pbm", ".dib"]
)
def test_the_files_of_the_wild_are_seen_and_read(tmp_path, suffix):
    small = (RAMP >> 8).astype(np.uint8)
    kinds = {
        ".gif": "GIF",
        ".ppm": "PPM",
        ".avif": "AVIF",
        ".jp2": "JPEG2000",
        ".J2K": "JPEG2000",
        ".pnm": "PPM",
    }
    kind = kinds.get(suffix, "BMP" if suffix == ".dib" else "JPEG")
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"P4 8 1\n\xf0" if suffix == ".pbm" else saved(small, kind))
    assert list_images(tmp_path) == [path]
    pixels = read_image(path).pixels
    if suffix == ".pbm":
        assert pixels.tolist() == [[[0, 0, 0, 0, 255, 255, 255, 255]]]
    else:
        assert abs(np.moveaxis(pixels, 0, 2).astype(int) - small).max() <= 12


def test_deep_colours_are_not_cut_to_8_bits():
    files = {
        "PPM": b"P6 24 16 65535\n" + RAMP.astype(">u2").tobytes(),
        "JPEG 2000": imagecodecs.jpeg2k_encode(RAMP, reversible=True, level=0),
    }
    for name, data in files.items():
        np.testing.assert_array_equal(decode(data, name), RAMP, err_msg=name, strict=True)
    plain = b"P3 #x\n24 16 65535\n" + " ".join(map(str, RAMP.ravel())).encode()
    np.testing.assert_array_equal(decode(plain, "PPM"), RAMP, strict=True)


def test_12_bits_fill_the_range_of_16():
    values = RAMP >> 4
    expected = np.rint(values * (65535 / 4095))
    for name, data in {
        "JPEG 2000": imagecodecs.jpeg2k_encode(values, reversible=True, level=0, bitspersample=12),
        "PPM": b"P6 24 16 4095\n" + values.astype(">u2").tobytes(),
    }.items():
        np.testing.assert_array_equal(decode(data, name), expected, err_msg=name)
    for bits in (10, 12):
        stored = RAMP >> (16 - bits)
        data = imagecodecs.avif_encode(stored, level=100, bitspersample=bits, pixelformat="444")
        assert abs(decode(data, "AVIF") - np.rint(stored * (65535 / (2**bits - 1)))).max() < 200


@pytest.mark.parametrize("bits", range(1, 9))
def test_few_bits_of_jpeg_2000_fill_the_range_of_8(bits):
    values = (RAMP >> (16 - bits)).astype(np.uint8)
    values[0, 0], values[0, 1] = 0, 2**bits - 1
    for stored in (values, values[..., 0]):
        data = imagecodecs.jpeg2k_encode(stored, reversible=True, level=0, bitspersample=bits)
        expected = np.rint(stored.reshape(16, 24, -1) * (255 / (2**bits - 1))).astype(np.uint8)
        np.testing.assert_array_equal(decode(data, "JPEG 2000"), expected, strict=True)


def test_alpha_of_one_bit_beside_colours_of_eight_is_none_or_all():
    samples = np.dstack([RAMP >> 8, RAMP[..., 0] // 200 % 2 * 255]).astype(np.uint8)
    data = bytearray(imagecodecs.jpeg2k_encode(samples, reversible=True, level=0, codecformat="j2k"))
    kinds = data.index(b"\xff\x4f\xff\x51") + 42  # of each component: its bits less one, and two steps
    data[kinds + 9] = 0
    np.testing.assert_array_equal(decode(bytes(data), "JPEG 2000"), samples, strict=True)


@pytest.mark.parametrize("compression", [None, "tga_rle"])
@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGB", "RGBA"])
def test_tga_has_no_name_in_it_and_is_known_by_its_head(tmp_path, mode, compression):
    picture = Pillow.fromarray((RAMP >> 8).astype(np.uint8)).convert(mode)
    picture.save(tmp_path / "a.tga", compression=compression)
    data = (tmp_path / "a.tga").read_bytes()
    shown = np.asarray(picture.convert("RGB") if mode == "P" else picture).reshape(16, 24, -1)
    assert format_in(data) == "TGA"
    np.testing.assert_array_equal(decode(data, "TGA"), shown, strict=True)
    if mode == "RGBA":  # of which the head announces no alpha
        bare = data[:17] + bytes([data[17] & 0xF0]) + data[18:]
        np.testing.assert_array_equal(decode(bare, "TGA"), shown[..., :3], strict=True)


@pytest.mark.parametrize("bitmap", ["png", "bmp"])
def test_the_largest_picture_of_an_icon_is_read(tmp_path, bitmap):
    colours = np.random.default_rng(1).integers(0, 256, (48, 48, 4)).astype(np.uint8)
    path = tmp_path / "a.ico"
    Pillow.fromarray(colours).save(path, sizes=[(16, 16), (48, 48), (32, 32)], bitmap_format=bitmap)
    assert list_images(tmp_path) == [path]
    np.testing.assert_array_equal(np.moveaxis(read_image(path).pixels, 0, 2), colours[..., :3])
    flat = Pillow.fromarray(colours[..., :3]).quantize(16)
    file = BytesIO()
    flat.save(file, "ICO", sizes=[(48, 48)], append_images=[Pillow.fromarray(colours)], bitmap_format="bmp")
    assert file.getvalue()[4:6] == b"\2\0"  # of one size, in 4 or 8 bits and in 32
    np.testing.assert_array_equal(decode(file.getvalue(), "ICO"), colours)


def test_transparency_of_a_gif_is_its_alpha_and_frames_are_refused():
    picture = Pillow.new("P", (4, 4))
    picture.putpalette([1, 2, 3, 200, 100, 0])
    picture.putpixel((0, 0), 1)
    file = BytesIO()
    picture.save(file, "GIF", transparency=1)
    assert decode(file.getvalue(), "GIF")[0, :2].tolist() == [[200, 100, 0, 0], [1, 2, 3, 255]]
    frames = [Pillow.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "AVIF"):
        file = BytesIO()
        frames[0].save(file, kind, save_all=True, append_images=frames[1:])
        with pytest.raises(DataError, match="is an animation"):
            decode(file.getvalue(), kind)


def test_a_cmyk_jpeg_becomes_rgb_through_its_profile_or_without():
    file = BytesIO()
    Pillow.new("CMYK", (8, 8), (0, 255, 255, 0)).save(file, "JPEG")
    red = decode(file.getvalue(), "JPEG")
    assert red.shape == (8, 8, 3) and red[..., 0].min() > 250 and red[..., 1:].max() < 5
    file = BytesIO()
    Pillow.new("CMYK", (8, 8), (0, 255, 255, 0)).save(file, "JPEG", icc_profile=b"no profile")
    np.testing.assert_array_equal(decode(file.getvalue(), "JPEG"), red)


def test_a_codec_that_pillow_lacks_is_one_sentence(monkeypatch):
    def unidentified(*_, **__):
        raise UnidentifiedImageError

    monkeypatch.setattr(Pillow, "open", unidentified)
    monkeypatch.setattr(features, "check", lambda name: name != "avif")
    with pytest.raises(DataError, match=r"installed Pillow lacks \(AVIF\)") as refused:
        decode(b"\0\0\0\x1cftypavif", "AVIF")
    assert "newer Pillow" in refused.value.hint
    with pytest.raises(DataError, match=r"is not a readable GIF file$"):
        decode(b"GIF89a", "GIF")


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1), (9, 40)])
def test_pngs_of_many_images_are_those_of_each_and_libpng_reads_them(kind, shape, monkeypatch):
    draw = np.random.default_rng(0)
    for channels in (1, 2, 3, 4):
        steps = draw.integers(0, np.iinfo(kind).max // 8, (5, *shape, channels)).astype(kind)
        images = np.concatenate([np.cumsum(steps, 1), np.cumsum(steps, 2), steps]).astype(kind)
        files = [*png.encode_pngs(images)]
        assert files == [png.encode_png(image) for image in images]
        for file, image in zip(files, images, strict=True):
            assert np.array_equal(imagecodecs.png_decode(file).reshape(image.shape), image)
            Pillow.open(BytesIO(file)).verify()  # the checksums
        with monkeypatch.context() as patch:
            patch.setattr(png, "_AT_ONCE", 100)  # rows of several images, and parts of one
            assert [*png.encode_pngs(images)] == files


def test_pngs_of_a_photograph_are_about_as_small_as_libpngs():
    from sklearn.datasets import load_sample_image

    photograph = load_sample_image("flower.jpg")
    patches = [np.ascontiguousarray(photograph[at : at + 32, at : at + 32]) for at in range(0, 384, 32)]
    for images in ([photograph], [np.ascontiguousarray(photograph[..., :1])], patches):
        theirs = [imagecodecs.png_encode(image.squeeze(), out=2 * image.nbytes + 9000) for image in images]
        assert sum(len(png.encode_png(image)) for image in images) < 1.06 * sum(map(len, theirs))
