"""What a file holds besides its pixels never decides about them, and belongs to what is written for it."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow
from PIL import ImageCms

from sagd_cli.data.images import read_image, write_image
from sagd_cli.files import png
from sagd_cli.files.formats import decode, encode, format_in, read_metadata
from sagd_cli.files.metadata import NOTHING, Metadata, Tag, orientation, read_tags

RNG = np.random.default_rng(15)
COLOURS = RNG.integers(0, 256, (6, 8, 3)).astype(np.uint8)
DEEP = RNG.integers(0, 65536, (6, 8, 3)).astype(np.uint16)
NOISE = RNG.integers(0, 256, 90).astype(np.uint8).tobytes()
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LAB = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


def saved(kind, samples=COLOURS, **options):
    file = BytesIO()
    Pillow.fromarray(samples).save(file, kind, **options)
    return file.getvalue()


def tiff(samples, **options):
    file = BytesIO()
    options.setdefault("metadata", None)
    tifffile.imwrite(file, samples, photometric="rgb" if samples.ndim == 3 else "minisblack", **options)
    return file.getvalue()


def exif(*entries, order="<", count=None):
    """Return an EXIF block of entries (code, kind, count, four bytes or an integer)."""
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HI", 42, 8)
    body = b"".join(
        struct.pack(f"{order}HHI", *entry[:3])
        + (entry[3] if isinstance(entry[3], bytes) else struct.pack(f"{order}HH", entry[3], 0))
        for entry in entries
    )
    return head + struct.pack(f"{order}H", len(entries) if count is None else count) + body + bytes(4)


def with_segment(data, marker, content):
    return data[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content + data[2:]


def chunk(kind, content, wrong=0):
    check = zlib.crc32(kind + content) ^ wrong
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def with_chunks(data, *chunks):
    return data[:33] + b"".join(chunks) + data[33:]


def with_tag(data, code, kind, count, value):
    """Return a little-endian TIFF file of one page with one more tag, whatever it says."""
    (start,) = struct.unpack_from("<I", data, 4)
    (number,) = struct.unpack_from("<H", data, start)
    entries = [data[start + 2 + 12 * i :][:12] for i in range(number)]
    entries = [entry for entry in entries if struct.unpack_from("<H", entry)[0] != code]
    place = len(data)
    field = value if len(value) == 4 else struct.pack("<I", place)
    entries.append(struct.pack("<HHI", code, kind, count) + field)
    entries.sort(key=lambda entry: struct.unpack_from("<H", entry))
    data += value + bytes(len(value) % 2)
    table = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return data[:4] + struct.pack("<I", len(data)) + data[8:] + table


# ---------------------------------------------------------------- pixels are read whatever else there is

UNTIDY_SEGMENTS = {
    "EXIF of noise": (0xE1, b"Exif\0\0" + NOISE),
    "EXIF without a directory": (0xE1, b"Exif\0\0II*\0"),
    "EXIF that loops": (0xE1, b"Exif\0\0" + exif((34665, 4, 1, 8))),
    "EXIF of 65535 tags": (0xE1, b"Exif\0\0" + exif(count=65535)),
    "MPF of noise": (0xE2, b"MPF\0" + NOISE),
    "MPF without entries": (0xE2, b"MPF\0" + exif()),
    "profile in part 3 of 2": (0xE2, b"ICC_PROFILE\0\3\2" + NOISE),
    "empty profile": (0xE2, b"ICC_PROFILE\0"),
    "short JFIF": (0xE0, b"JFIF\0"),
    "short Adobe": (0xEE, b"Adobe"),
    "Photoshop cut short": (0xED, b"Photoshop 3.0\x008BIM\3\xed\0\0\0\0\0\xff"),
    "remark that is no text": (0xFE, NOISE),
}


@pytest.mark.parametrize("name", UNTIDY_SEGMENTS)
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_untidy_segments_of_a_jpeg_change_no_pixel(name, mode):
    file = BytesIO()
    Pillow.fromarray(COLOURS).convert(mode).save(file, "JPEG")
    data = file.getvalue()
    untidy = with_segment(data, *UNTIDY_SEGMENTS[name])
    np.testing.assert_array_equal(decode(untidy, "JPEG"), decode(data, "JPEG"), strict=True)
    encode(decode(data, "JPEG"), "PNG", read_metadata(untidy, "JPEG"))


UNTIDY_CHUNKS = {
    **{
        f"{kind.decode()} of noise": chunk(kind, NOISE)
        for kind in (b"iCCP", b"eXIf", b"sRGB", b"pHYs", b"tIME")
    },
    **{
        f"empty {kind.decode()}": chunk(kind, b"")
        for kind in (b"iCCP", b"pHYs", b"tEXt", b"iTXt", b"gAMA", b"cHRM")
    },
    "gamma of 0": chunk(b"gAMA", bytes(4)),
    "profile by another method": chunk(b"iCCP", b"a\0\7" + zlib.compress(SRGB)),
    "sRGB and a profile": chunk(b"sRGB", b"\0") + chunk(b"iCCP", b"a\0\0" + zlib.compress(LAB)),
    "two profiles": 2 * chunk(b"iCCP", b"a\0\0" + zlib.compress(SRGB)),
    "huge text": chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(3_000_000))),
    "wrong checksum": chunk(b"tEXt", b"a\0b", wrong=1),
    "clear colour, wrong checksum": chunk(b"tRNS", bytes(6), wrong=1),
    "clear colour too short": chunk(b"tRNS", bytes(2)),
    "clear colour too long": chunk(b"tRNS", bytes(8)),
    "no clear colour": chunk(b"tRNS", b""),
    "palette": chunk(b"PLTE", NOISE),
    "palette, wrong checksum": chunk(b"PLTE", NOISE, wrong=1),
    "palette cut short": chunk(b"PLTE", NOISE[:4]),
    "no palette": chunk(b"PLTE", b""),
    "wrong checksum of EXIF": chunk(b"eXIf", exif((274, 3, 1, 6)), wrong=1),
    "unknown": chunk(b"zzZz", NOISE),
    "announced animation": chunk(b"acTL", struct.pack(">II", 7, 0)),
    "significant bits of none": chunk(b"sBIT", bytes(3)),
}


@pytest.mark.parametrize("name", UNTIDY_CHUNKS)
@pytest.mark.parametrize("samples", [COLOURS, DEEP], ids=["8", "16"])
def test_untidy_chunks_of_a_png_change_no_pixel(name, samples):
    data = encode(samples, "PNG")
    for untidy in (with_chunks(data, UNTIDY_CHUNKS[name]), data[:-12] + UNTIDY_CHUNKS[name] + data[-12:]):
        np.testing.assert_array_equal(decode(untidy, "PNG"), samples, strict=True)
        written = encode(samples, "PNG", read_metadata(untidy, "PNG"))
        np.testing.assert_array_equal(decode(written, "PNG"), samples, strict=True)
        with Pillow.open(BytesIO(written)) as other:
            other.load()


def test_damaged_transparency_of_a_palette_makes_nothing_transparent():
    picture = Pillow.fromarray(COLOURS).quantize(8)
    file = BytesIO()
    picture.save(file, "PNG")
    data, colours = file.getvalue(), np.asarray(picture.convert("RGB"))
    place = data.index(b"IDAT") - 4
    for damage in (chunk(b"tRNS", bytes(3), wrong=1), chunk(b"tRNS", b""), chunk(b"tRNS", bytes(300))):
        np.testing.assert_array_equal(
            decode(data[:place] + damage + data[place:], "PNG"), colours, strict=True
        )
        np.testing.assert_array_equal(decode(with_chunks(data, damage), "PNG"), colours, strict=True)
    clear = decode(data[:place] + chunk(b"tRNS", bytes(8)) + chunk(b"tRNS", b"\xff") + data[place:], "PNG")
    np.testing.assert_array_equal(clear[..., :3], colours)
    assert clear.shape[2] == 4 and not clear[..., 3].any()


def test_chunks_are_tried_when_they_are_written_only(tmp_path, monkeypatch):
    calls = []
    plain = png.opened
    monkeypatch.setattr(png, "opened", lambda *given: (calls.append(1), plain(*given))[1])
    source = with_chunks(saved("PNG"), *(chunk(b"tEXt", b"a\0%d" % i) for i in range(50)))
    source = with_chunks(source, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(3_000_000))))
    (tmp_path / "a.png").write_bytes(source)
    image = read_image(tmp_path / "a.png")
    assert len(calls) == 1
    write_image(image, image.pixels, tmp_path / "b.png")
    written = (tmp_path / "b.png").read_bytes()
    assert written.count(b"tEXt") == 50 and b"zTXt" not in written


def with_head_boxes(data, *boxes, without=b""):
    """Return a JPEG 2000 file with more boxes in its head, and without those of one kind."""
    place = data.index(b"jp2h") - 4
    (size,) = struct.unpack_from(">I", data, place)
    held, at = [], place + 8
    while at < place + size:
        (length,) = struct.unpack_from(">I", data, at)
        held.append(data[at : at + length])
        at += length
    head = b"".join([*(part for part in held if part[4:8] != without or not without), *boxes])
    return data[:place] + box(b"jp2h", head) + data[place + size :]


def box(kind, content):
    return struct.pack(">I4s", 8 + len(content), kind) + content


EXIF_BOX = box(b"uuid", b"JpgTiffExif->JP2" + exif((271, 2, 3, b"me\0\0"), (274, 3, 1, 6)))


@pytest.mark.parametrize("shape", [(6, 8, 3), (6, 8), (6, 8, 2), (6, 8, 4)], ids=str)
def test_untidy_boxes_of_jpeg_2000_change_no_pixel(shape):
    samples = RNG.integers(0, 256, shape).astype(np.uint8)
    data, expected = saved("JPEG2000", samples), samples.reshape(6, 8, -1)
    head = {
        "short resolution": box(b"res ", b"\0\0"),
        "resolution of noise": box(b"res ", NOISE),
        "resolution cut short": box(b"res ", box(b"resc", b"\0\1\0")),
        "resolution over 0": box(b"res ", box(b"resc", struct.pack(">4H2b", 1, 0, 1, 0, 3, 3))),
        "profile of noise": box(b"colr", b"\2\0\0" + NOISE),
        "profile cut short": box(b"colr", b"\2\0\0" + SRGB[:50]),
        "no profile": box(b"colr", b"\2"),
        "no colours": box(b"colr", b""),
        "model cut short": box(b"colr", b"\1\0\0\0"),
        "unknown": box(b"abcd", NOISE),
    }
    untidy = {name: with_head_boxes(data, part) for name, part in head.items()}
    untidy |= {f"only {name}": with_head_boxes(data, part, without=b"colr") for name, part in head.items()}
    untidy |= {
        f"{kind} of noise": data + box(kind, NOISE) for kind in (b"uuid", b"uinf", b"xml ", b"jp2i", b"abcd")
    }
    untidy["cut behind the pixels"] = data + box(b"uuid", NOISE)[:-3]
    untidy["short uuid"] = data + box(b"uuid", b"JpgTiff")
    for name, content in untidy.items():
        np.testing.assert_array_equal(decode(content, "JPEG 2000"), expected, err_msg=name, strict=True)
        encode(expected, "PNG", read_metadata(content, "JPEG 2000"))


def test_jpeg_2000_is_upright_and_hands_its_profile_resolution_and_exif_on(tmp_path):
    density = box(b"res ", box(b"resc", struct.pack(">4H2b", 11811, 2, 11811, 10, 0, 1)))
    data = with_head_boxes(saved("JPEG2000"), box(b"colr", b"\2\0\0" + SRGB), density, without=b"colr")
    np.testing.assert_array_equal(decode(data, "JPEG 2000"), COLOURS)
    with Pillow.open(rewritten(data, tmp_path, ".png")) as other:
        assert other.info["icc_profile"] == SRGB and other.info["dpi"] == pytest.approx((300, 150), abs=0.1)
    turned = rewritten(data + EXIF_BOX, tmp_path, ".png")
    with Pillow.open(turned) as other:
        assert other.getexif()[271] == "me" and 274 not in other.getexif()
        assert other.info["dpi"] == pytest.approx((150, 300), abs=0.1)
        np.testing.assert_array_equal(np.asarray(other), COLOURS.swapaxes(0, 1)[:, ::-1])
    xmp = box(b"uuid", bytes.fromhex("be7acfcb97a942e89c71999491e3afac") + b'<x tiff:Orientation="3"/>')
    np.testing.assert_array_equal(decode(data + xmp, "JPEG 2000"), COLOURS[::-1, ::-1])


def test_a_palette_in_jpeg_2000_stays_beside_a_broken_profile():
    index = RNG.integers(0, 4, (6, 8)).astype(np.uint8)
    table = RNG.integers(0, 256, (4, 3)).astype(np.uint8)
    palette = box(b"pclr", b"\0\4\3\7\7\7" + table.tobytes())
    palette += box(b"cmap", b"".join(struct.pack(">HBB", 0, 1, i) for i in range(3)))
    for model in (struct.pack(">3BI", 1, 0, 0, 16), b"\2\0\0" + SRGB[:50]):
        data = with_head_boxes(saved("JPEG2000", index), box(b"colr", model), palette, without=b"colr")
        np.testing.assert_array_equal(decode(data, "JPEG 2000"), table[index], strict=True)


@pytest.mark.parametrize("turn", [1, 6])
def test_damaged_exif_of_avif_changes_no_pixel(turn):
    block = Pillow.Exif()
    block[274], block[271] = turn, "me"
    data = saved("AVIF", exif=block.tobytes(), icc_profile=SRGB, speed=10)
    expected = decode(data, "AVIF")
    assert expected.shape == ((6, 8, 3) if turn == 1 else (8, 6, 3))
    start = data.index(b"MM\0*")
    for damage in (b"zz\0*", b"MM\0*\xff\xff\xff\xff", b"\0" * 20, NOISE[:20]):
        untidy = data[:start] + damage + data[start + len(damage) :]
        np.testing.assert_array_equal(decode(untidy, "AVIF"), expected, strict=True)
        assert read_metadata(untidy, "AVIF").icc == SRGB
    assert [tag.code for tag in read_metadata(data, "AVIF").tags] == [271]


@pytest.mark.parametrize("options", [{"lossless": True, "exact": True}, {}], ids=["VP8L", "VP8"])
def test_untidy_chunks_of_a_webp_change_no_pixel(options):
    plain = saved("WEBP", **options)
    expected = decode(plain, "WebP")
    data = saved("WEBP", exif=b"Exif\0\0" + exif((274, 3, 1, 1)), xmp=b"<x/>", icc_profile=SRGB, **options)
    flags = data.index(b"VP8X") + 8
    untidy = {
        "whole": data,
        "announced, not there": data[:flags] + b"\x2c" + data[flags + 1 : flags + 10] + plain[12:],
        "there, not announced": data[:flags] + b"\0" + data[flags + 1 :],
        "EXIF of noise": data.replace(b"II*\0", b"zz*\0"),
        "profile of noise": data.replace(SRGB[:100], NOISE[:90] + NOISE[:10]),
        "cut behind the pixels": data[:-3],
        "unknown chunk": data + b"abcd" + struct.pack("<I", len(NOISE)) + NOISE,
    }
    for name, content in untidy.items():
        np.testing.assert_array_equal(decode(content, "WebP"), expected, err_msg=name, strict=True)
        encode(expected, "PNG", read_metadata(content, "WebP"))


UNTIDY_TAGS = {
    "description that is no text": (270, 2, 90, NOISE),
    "description of ImageJ that is no description": (270, 2, 22, b"ImageJ=\nimages=x\nunit="),
    "description of OME that is no XML": (270, 2, 40, b"<?xml?><OME xmlns=openmicroscopy.org OME>"),
    "profile of numbers": (34675, 12, 3, NOISE[:24]),
    "EXIF nowhere": (34665, 4, 1, struct.pack("<I", 2**31)),
    "EXIF of text": (34665, 2, 30, NOISE[:30]),
    "GPS in the header": (34853, 4, 1, bytes(4)),
    "keys without values": (34735, 3, 40, NOISE[:80]),
    "scale of one number": (33550, 12, 1, NOISE[:8]),
    "value past the end": (42112, 2, 2**31, NOISE),
    "kind that there is not": (305, 99, 3, NOISE),
    "resolution of text": (282, 2, 4, b"abc\0"),
    "ImageJ's data of noise": (50839, 1, 90, NOISE),
    "MetaMorph's of noise": (33628, 4, 1, NOISE[:4]),
    "LSM's of noise": (34412, 1, 90, NOISE),
    "unknown": (65000, 7, 90, NOISE),
}


@pytest.mark.parametrize("name", UNTIDY_TAGS)
@pytest.mark.parametrize("samples", [COLOURS, DEEP[..., 0]], ids=["8", "16"])
def test_untidy_tags_of_a_tiff_change_no_pixel(name, samples):
    untidy = with_tag(tiff(samples, byteorder="<"), *UNTIDY_TAGS[name])
    expected = samples if samples.ndim == 3 else samples[..., None]
    np.testing.assert_array_equal(decode(untidy, "TIFF"), expected, strict=True)
    written = encode(expected, "TIFF", read_metadata(untidy, "TIFF"))
    np.testing.assert_array_equal(decode(written, "TIFF"), expected, strict=True)


@pytest.mark.parametrize(
    ("entries", "turn"),
    [
        ([(274, 3, 1, 6)], 6),
        ([(274, 3, 1, 0)], 1),
        ([(274, 3, 1, 9)], 1),
        ([(274, 2, 2, b"6\0\0\0")], 1),
        ([(274, 4, 1, struct.pack("<I", 8))], 8),
        ([(274, 3, 1, 3), (274, 3, 1, 6)], 6),
        ([(274, 3, 1, 6), (274, 3, 1, 0)], 6),
        ([(274, 3, 2, struct.pack("<HH", 6, 8))], 6),
        ([(274, 3, 1, 6), (271, 2, 200, 5000)], 6),
        ([], 1),
    ],
)
def test_what_an_orientation_is(entries, turn):
    block = exif(*entries)
    assert orientation(read_tags(block)) == turn
    assert orientation(read_tags(block[: 10 + 12 * len(entries)])) == turn  # cut short behind its tags
    plain = saved("PNG")
    turned = with_chunks(plain, chunk(b"eXIf", block))
    upright = decode(with_chunks(plain, chunk(b"eXIf", exif((274, 3, 1, turn), order="<"))), "PNG")
    np.testing.assert_array_equal(decode(turned, "PNG"), upright)
    assert (upright.shape == COLOURS.shape) == (turn < 5)


def test_an_orientation_in_xmp_or_in_a_text_of_imagemagick_counts_where_there_is_no_exif():
    xmp = b"<x:xmpmeta tiff:Orientation='1' tiff:Orientation=\"6\"/>"
    data = saved("PNG")
    text = b"Raw profile type exif\0\0" + zlib.compress(
        b"\nexif\n      26\n" + exif((274, 3, 1, 6)).hex().encode()
    )
    turned = decode(with_chunks(data, chunk(b"eXIf", exif((274, 3, 1, 6)))), "PNG")
    assert turned.shape == (8, 6, 3)
    for extra in (chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp), chunk(b"zTXt", text)):
        untidy = with_chunks(data, extra)
        np.testing.assert_array_equal(decode(untidy, "PNG"), turned)
        written = encode(turned, "PNG", read_metadata(untidy, "PNG"))
        np.testing.assert_array_equal(decode(written, "PNG"), turned)  # and is not turned again


@pytest.mark.parametrize(
    "name", ["a_orient6", "b_exif_cut", "c_exif_tag_past_end", "f_orient_twice", "g_mpf_no_entries"]
)
def test_the_jpeg_files_of_the_reports_are_read_upright(data_root, name):
    path = data_root.parent / "cases" / "jpeg_metadata" / f"{name}.jpg"
    if not path.exists():
        pytest.skip(f"{path} is absent")
    pixels = read_image(path).pixels
    assert pixels.shape == ((3, 40, 60) if name.startswith("g") else (3, 60, 40))


# ---------------------------------------------------------------- what is carried over

ORDINARY = exif((271, 2, 3, b"me\0\0"), (274, 3, 1, 1))


def rewritten(data, tmp_path, suffix, pixels=None):
    """Read `data` as a file and write its pixels, or others, for it; return what was written."""
    source, target = tmp_path / "source", tmp_path / f"target{suffix}"
    source.write_bytes(data)
    image = read_image(source)
    write_image(image, image.pixels if pixels is None else pixels, target)
    np.testing.assert_array_equal(read_image(target).pixels, image.pixels, strict=True)
    return target


@pytest.mark.parametrize("samples", [COLOURS, DEEP], ids=["8", "16"])
def test_a_png_keeps_its_profile_resolution_texts_and_exif(tmp_path, samples):
    block = exif((271, 2, 3, b"me\0\0"), (274, 3, 1, 6), order="<")
    chunks = {
        b"gAMA": struct.pack(">I", 45455),
        b"cHRM": struct.pack(">8I", *range(30000, 30008)),
        b"iCCP": b"mine\0\0" + zlib.compress(SRGB),
        b"pHYs": struct.pack(">IIB", 11811, 5906, 1),
        b"tEXt": b"Author\0someone",
        b"zTXt": b"Comment\0\0" + zlib.compress(b"long"),
        b"tIME": bytes(7),
        b"bKGD": bytes(6),
        b"eXIf": block,
    }
    data = with_chunks(encode(samples, "PNG"), *(chunk(*item) for item in chunks.items()))
    with Pillow.open(rewritten(data, tmp_path, ".png")) as other:
        other.load()
        info = other.info
        assert info["icc_profile"] == SRGB and info["gamma"] == 0.45455
        assert info["chromaticity"][0] == 0.3
        assert info["dpi"] == pytest.approx((150.01, 300), abs=0.01)  # it was turned by a quarter
        assert (info["Author"], info["Comment"]) == ("someone", "long")
        assert dict(other.getexif()) == {271: "me"}
    names = (tmp_path / "target.png").read_bytes()
    assert b"tIME" not in names and b"bKGD" not in names


def test_a_file_without_metadata_is_written_as_ever(tmp_path):
    for name, suffix in (("PNG", ".png"), ("TIFF", ".tif"), ("PPM", ".ppm")):
        data = encode(COLOURS, name)
        assert rewritten(data, tmp_path, suffix).read_bytes() == data
        assert read_metadata(data, "PPM") == NOTHING


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {"dpi": (300, 150)}), ("WEBP", {"lossless": True})])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_jpeg_and_webp_hand_their_profile_resolution_and_exif_on(tmp_path, kind, options, suffix):
    turned = exif((271, 2, 3, b"me\0\0"), (274, 3, 1, 8), order=">")
    data = saved(kind, icc_profile=SRGB, exif=b"Exif\0\0" + turned, **options)
    with Pillow.open(rewritten(data, tmp_path, suffix)) as other:
        assert other.size == (6, 8) and other.info["icc_profile"] == SRGB
        assert {**other.getexif()}.get(271) == "me" and other.getexif().get(274, 1) == 1
        if "dpi" in options:
            assert other.info["dpi"] == pytest.approx((150, 300), abs=0.02)


def test_a_profile_of_another_colour_space_is_not_carried(tmp_path):
    for profile, carried in ((SRGB, True), (LAB, False), (b"noise", False)):
        data = saved("JPEG", icc_profile=profile)
        with Pillow.open(rewritten(data, tmp_path, ".png")) as other:
            assert ("icc_profile" in other.info) is carried
    grey = saved("JPEG", COLOURS[..., 0], icc_profile=SRGB)
    with Pillow.open(rewritten(grey, tmp_path, ".png")) as other:
        assert "icc_profile" not in other.info


def test_bmp_keeps_its_resolution(tmp_path):
    with Pillow.open(rewritten(saved("BMP", dpi=(300, 150)), tmp_path, ".bmp")) as other:
        assert other.info["dpi"] == pytest.approx((300, 150), abs=0.02)


GEO = [
    (33550, 12, 3, (10.0, 10.0, 0.0), True),
    (33922, 12, 6, (0.0, 0.0, 0.0, 5e5, 4e6, 0.0), True),
    (34735, 3, 8, (1, 1, 0, 1, 1024, 0, 1, 1), True),
    (34737, 2, 0, "WGS 84|", True),
    (42113, 2, 0, "0", True),
    (50844, 12, 92, tuple(float(number) for number in range(92)), True),
]


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("big", [False, True])
def test_a_tiff_keeps_its_tags(tmp_path, order, big):
    options = {
        "resolution": (118.5, 59.25),
        "resolutionunit": "CENTIMETER",
        "description": "a field of café".encode(),
    }
    options |= {"extratags": [*GEO, (34675, 7, len(SRGB), SRGB, True)], "software": "mine"}
    data = tiff(DEEP, byteorder=order, bigtiff=big, datetime="2026:01:02 03:04:05", metadata=None, **options)
    path = rewritten(data, tmp_path, ".tif")
    with tifffile.TiffFile(BytesIO(data)) as source, tifffile.TiffFile(path) as target:
        known = {tag.code: tag.value for tag in target.pages[0].tags}
        for code in (270, 282, 283, 296, 305, 306, 33550, 33922, 34735, 34737, 42113, 50844, 34675):
            assert known[code] == source.pages[0].tags[code].value, code
    with Pillow.open(path) as other:
        assert other.info["icc_profile"] == SRGB


def test_a_tiff_that_was_turned_swaps_its_resolutions_and_has_no_place_on_earth(tmp_path):
    options = {"resolution": (300, 150), "resolutionunit": "INCH", "extratags": [*GEO, (274, 3, 1, 6, True)]}
    with Pillow.open(rewritten(tiff(COLOURS, **options), tmp_path, ".tif")) as other:
        assert other.size == (6, 8) and other.info["dpi"] == (150, 300)
        assert {274, 33550, 33922, 34735, 34737, 50844}.isdisjoint(other.tag_v2)
        assert 42113 in other.tag_v2


def test_the_directories_of_exif_are_kept_but_for_the_note_of_the_maker(tmp_path):
    block = Pillow.Exif()
    block[271] = "me"
    block.get_ifd(34665)[33434] = 0.25
    block.get_ifd(34665)[37500] = b"a note with addresses"
    block.get_ifd(34853)[1] = "N"
    data = saved("PNG", exif=block)
    with Pillow.open(BytesIO(data)) as source:
        assert source.getexif().get_ifd(34853) == {1: "N"}
    for suffix in (".png", ".tif"):
        with Pillow.open(rewritten(data, tmp_path, suffix)) as other:
            found = other.getexif()
            assert found[271] == "me" and found.get_ifd(34665) == {33434: 0.25}
            assert found.get_ifd(34853) == {1: "N"}
    again = rewritten((tmp_path / "target.tif").read_bytes(), tmp_path, ".tif")
    with Pillow.open(again) as other:
        assert other.getexif().get_ifd(34665) == {33434: 0.25}


def test_the_scale_of_imagej_survives_and_its_files_stay_one_slice(tmp_path):
    file = BytesIO()
    info = {"unit": "um", "spacing": 2.0, "Info": "a cell"}
    tifffile.imwrite(file, DEEP[..., 0], imagej=True, resolution=(4, 4), metadata=info)
    with tifffile.TiffFile(rewritten(file.getvalue(), tmp_path, ".tif")) as target:
        assert target.is_imagej and target.imagej_metadata["unit"] == "um"
        assert target.pages[0].resolution == (4, 4) and target.series[0].shape == (6, 8)


def test_numbers_that_a_format_has_no_room_for_do_not_stop_the_pixels():
    huge = Metadata(density=(1e12, 1e12), tags=(Tag(270, 2, b"kept\0"),))
    for name in ("PNG", "TIFF", "BMP"):
        np.testing.assert_array_equal(decode(encode(COLOURS, name, huge), name), COLOURS, strict=True)


def test_corrupt_keeps_what_belongs_to_a_file_in_floats_as_well(sagd, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    options = {"resolution": (300, 150), "resolutionunit": "INCH", "description": "a field", "extratags": GEO}
    (source / "a.tif").write_bytes(tiff(DEEP, **options))
    (source / "b.jpg").write_bytes(saved("JPEG", icc_profile=SRGB, dpi=(300, 300)))
    (source / "c.png").write_bytes(saved("PNG", icc_profile=SRGB, dpi=(72, 72)))
    done = sagd(
        "corrupt", source, "--band", "high", "--strength", "0.1", "--output", tmp_path / "out", "--quiet"
    )
    assert done.code == 0, done.err
    with tifffile.TiffFile(tmp_path / "out" / "a.tiff") as target:
        page = target.pages[0]
        assert page.dtype == np.float32 and page.description == "a field" and page.resolution == (300, 150)
        assert page.tags[33550].value == (10.0, 10.0, 0.0) and page.tags[34737].value == "WGS 84|"
    for name, dpi in (("b", 300), ("c", 72)):
        with tifffile.TiffFile(tmp_path / "out" / f"{name}.tiff") as target:
            page = target.pages[0]
            assert page.tags[34675].value == SRGB and page.resolutionunit == 2
            assert page.resolution == pytest.approx((dpi, dpi), abs=0.01)


def test_the_format_is_found_in_the_bytes():
    assert (
        format_in(saved("GIF", COLOURS[..., 0])) == "GIF" and format_in(tiff(COLOURS, bigtiff=True)) == "TIFF"
    )


def test_what_is_no_longer_true_in_other_units_is_left_out(sagd, tmp_path):
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    said = "ImageJ=1.54f\nunit=micron\nmin=0.0\nmax=255.0\nspacing=2.0"
    tags = [(42113, "s", 0, "300", True), (42112, "s", 0, "<GDALMetadata/>", True)]
    tifffile.imwrite(tmp_path / "a.tif", values, description=said, metadata=None, extratags=tags)
    noise = ("--band", "high", "--strength", 0.5)
    assert sagd("corrupt", tmp_path / "a.tif", *noise, "--output", tmp_path / "floats").code == 0
    assert sagd("corrupt", tmp_path / "a.tif", *noise, "--clip", "--output", tmp_path / "bytes").code == 0
    with tifffile.TiffFile(tmp_path / "floats" / "a.tiff") as file:
        assert file.pages[0].tags["ImageDescription"].value == "ImageJ=1.54f\nunit=micron\nspacing=2.0"
        assert not {42112, 42113} & {tag.code for tag in file.pages[0].tags}
    with tifffile.TiffFile(tmp_path / "bytes" / "a.tif") as file:
        assert file.pages[0].tags["ImageDescription"].value == said
        assert {42112, 42113} <= {tag.code for tag in file.pages[0].tags}
