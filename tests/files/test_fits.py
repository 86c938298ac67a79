"""FITS files: what is not restored stays as it is, byte for byte, and values are those that astropy reads."""

import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
import tifffile

from sagd_cli.data.folders import output_name
from sagd_cli.data.image_writer import ImageWriter
from sagd_cli.data.images import images_in, read_image
from sagd_cli.data.ranges import Range
from sagd_cli.errors import DataError

fits = pytest.importorskip("astropy.io.fits", reason="astropy is not installed: pip install 'sagd[fits]'")

PLANES = np.random.default_rng(0).integers(-3000, 30000, (3, 10, 12))
KINDS = {
    "bytes": ((PLANES % 256).astype(np.uint8), {}),
    "int8": ((PLANES % 256 - 128).astype(np.int8), {}),
    "int16": (PLANES.astype(np.int16), {}),
    "uint16": ((PLANES + 3000).astype(np.uint16), {}),
    "uint32": ((PLANES + 2**31).astype(np.uint32), {}),
    "float32": (PLANES.astype(np.float32) / 7, {}),
    "float64": (PLANES * 1e-9, {}),
    "int16 with BLANK": (PLANES.astype(np.int16), {"BLANK": int(PLANES[1, 2, 3])}),
}


def write(path, pixels, header=None, others=(), checksum=False):
    hdu = fits.PrimaryHDU(pixels)
    hdu.header.update({"OBJECT": "M 31", **(header or {})})
    fits.HDUList([hdu, *others]).writeto(path, checksum=checksum)


def copied(source, target, change=lambda pixels: pixels):
    with ImageWriter() as writer:
        for place in images_in(source):
            image = read_image(*place)
            writer.write(image, change(image.pixels), target)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cube_is_read_plane_by_plane_and_copied_byte_for_byte(tmp_path, kind):
    pixels, header = KINDS[kind]
    write(tmp_path / "a.fits", pixels, header)
    places = images_in(tmp_path / "a.fits")
    assert [place.page for place in places] == [0, 1, 2]
    blank = header.get("BLANK")
    for place, plane in zip(places, pixels, strict=True):
        image = read_image(*place)
        known = plane[::-1] != blank
        np.testing.assert_array_equal(image.pixels[0][known], plane[::-1][known], strict=True)
        assert (image.missing is None) == bool(known.all())
    assert output_name(tmp_path / "a.fits") == "a.fits"
    copied(tmp_path / "a.fits", tmp_path / "b.fits")
    assert (tmp_path / "b.fits").read_bytes() == (tmp_path / "a.fits").read_bytes()


def test_scaled_integers_are_physical_values_and_come_back_exactly(tmp_path):
    stored = PLANES[0].astype(np.int16)
    stored[2, 3:6] = -32768
    hdu = fits.PrimaryHDU(stored)
    hdu.header.update({"BSCALE": 0.01, "BZERO": 1e6, "BLANK": -32768})
    hdu.writeto(tmp_path / "a.fits", output_verify="silentfix")
    (place,) = images_in(tmp_path / "a.fits")
    image = read_image(*place)
    assert place.page is None and image.pixels.dtype == np.float64
    known = stored[::-1] != -32768
    np.testing.assert_allclose(
        image.pixels[0][known], (1e6 + 0.01 * stored.astype(float))[::-1][known], rtol=1e-15
    )
    np.testing.assert_array_equal(image.missing.where[0], ~known)
    copied(tmp_path / "a.fits", tmp_path / "b.fits")
    assert (tmp_path / "b.fits").read_bytes() == (tmp_path / "a.fits").read_bytes()
    copied(tmp_path / "a.fits", tmp_path / "c.fits", lambda pixels: pixels - 1e9)
    with fits.open(tmp_path / "c.fits", do_not_scale_image_data=True) as hdus:
        np.testing.assert_array_equal(hdus[0].data == -32768, stored == -32768)
        assert set(np.unique(hdus[0].data)) == {-32768, -32767}


@pytest.mark.parametrize(
    ("kind", "told", "stored"),
    [
        ("int16", -99999, None),
        ("int16", True, None),
        ("int16", "none", None),
        ("int16", -5.0, -5),
        ("uint16", 65535, 32767),
        ("uint16", -32768, -32768),
        ("uint16", -99999, None),
    ],
)
def test_blank_is_missing_data_where_the_type_has_it(tmp_path, kind, told, stored):
    """Some files give it with BZERO in it; what no pixel can have is no value for missing data."""
    pixels = KINDS[kind][0][0].copy()
    zero = 32768 if kind == "uint16" else 0
    pixels[3, 4:6] = -7 + zero if stored is None else stored + zero
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write(tmp_path / "a.fits", pixels, {"BLANK": told})
    image = read_image(tmp_path / "a.fits")
    assert (image.missing is None) == (stored is None)
    if stored is not None:
        np.testing.assert_array_equal(image.missing.where[0], pixels[::-1] == stored + zero)
    copied(tmp_path / "a.fits", tmp_path / "b.fits")
    assert (tmp_path / "b.fits").read_bytes() == (tmp_path / "a.fits").read_bytes()


def test_scaled_integers_that_are_clipped_are_counted(tmp_path):
    hdu = fits.PrimaryHDU(np.arange(-50, 50, dtype=np.int16).reshape(10, 10))
    hdu.header.update({"BSCALE": -0.5, "BZERO": 3.0})
    hdu.writeto(tmp_path / "a.fits")
    image = read_image(tmp_path / "a.fits")
    values = image.pixels.copy()
    ends = 3 + 0.5 * 32768, 3 - 0.5 * 32767
    values[0, 0, :8] = [*ends, ends[0] + 0.2, ends[1] - 0.2, ends[0] + 0.3, ends[1] - 0.3, 1e9, -1e9]
    image = replace(image, range=Range(-1, 1))
    assert image.clipped(values) == 4 / 100
    with ImageWriter() as writer:
        writer.write(image, values, tmp_path / "b.fits")
    written = read_image(tmp_path / "b.fits").pixels
    assert np.count_nonzero(np.abs(written - values) > 0.25) == 4


def test_a_stack_that_is_given_up_tells_its_own_error(tmp_path):
    """Its header, which astropy makes no checksum for, is an error of those that are whole alone."""
    write(tmp_path / "a.fits", PLANES.astype(np.int16), {"FOO": 1}, checksum=True)
    data = (tmp_path / "a.fits").read_bytes()
    (tmp_path / "a.fits").write_bytes(
        data.replace(b"FOO     = ".ljust(29) + b"1", b"FOO     = 'abc".ljust(30))
    )
    place, *_ = images_in(tmp_path / "a.fits")
    image = read_image(*place)
    with pytest.raises(KeyError, match="the real one"), ImageWriter() as writer:
        writer.write(image, image.pixels, tmp_path / "b.fits")
        raise KeyError("the real one")
    with pytest.raises(DataError, match=r"a\.fits has a header for which astropy makes no checksum"):
        copied(tmp_path / "a.fits", tmp_path / "b.fits")
    assert [path.name for path in tmp_path.iterdir()] == ["a.fits"]


def test_the_first_image_changes_and_all_else_stays(tmp_path):
    table = fits.BinTableHDU.from_columns([fits.Column("x", "E", array=np.arange(5))])
    others = [
        fits.ImageHDU(PLANES[0].astype(np.float32), name="SCI"),
        fits.ImageHDU(PLANES[1], name="ERR"),
        table,
    ]
    fits.HDUList([fits.PrimaryHDU(), *others]).writeto(tmp_path / "a.fits", checksum=True)
    copied(tmp_path / "a.fits", tmp_path / "b.fits", lambda pixels: pixels + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of checksums that do not hold
        before, after = (fits.open(tmp_path / name, checksum=True) for name in ("a.fits", "b.fits"))
    with before, after:
        np.testing.assert_array_equal(after["SCI"].data, before["SCI"].data + 1)
        for one, other in zip(before, after, strict=True):
            changed = {key for key in one.header if one.header[key] != other.header[key]}
            assert changed <= {"CHECKSUM", "DATASUM"}
        np.testing.assert_array_equal(after["ERR"].data, before["ERR"].data)
        np.testing.assert_array_equal(after[3].data["x"], before[3].data["x"])


def test_a_cube_and_its_pages_are_restored_alike(sagd, tmp_path):
    y, x = np.mgrid[:32, :32]
    random = np.random.default_rng(0)
    cube = [np.sin(x / (5 + k) + y / 9) * 1e-7 + random.normal(0, 6e-9, (32, 1)) for k in range(3)]
    cube = np.array(cube, np.float32)
    cube[1], cube[2, 5, 5:9] = np.nan, np.nan
    write(tmp_path / "a.fits", cube, {"BUNIT": "W"})
    tifffile.imwrite(tmp_path / "a.tif", cube[:, ::-1], photometric="minisblack")
    options = (
        "--band",
        "stripe:horizontal,0,0",
        "--estimate",
        "wiener",
        "--removed",
        tmp_path / "r",
        "--json",
    )
    for name in ("a.fits", "a.tif"):
        done = sagd("omit", tmp_path / name, *options, "--force", "--output", tmp_path / name[2:])
        assert done.code == 0, done.err
    with fits.open(tmp_path / "fits" / "a.fits") as hdus:
        found = np.array(hdus[0].data, np.float32)
        assert hdus[0].header["BUNIT"] == "W"
    np.testing.assert_array_equal(found[:, ::-1], tifffile.imread(tmp_path / "tif" / "a.tif"))
    assert np.abs(found - cube)[0].max() > 1e-9 and np.isnan(found[1]).all()
    assert tifffile.imread(tmp_path / "r" / "a.tiff").shape == cube.shape


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: write(path, None), "holds no image"),
        (lambda path: write(path, PLANES), "holds integers of 64 bits"),
        (lambda path: write(path, PLANES.astype(np.int16), {"BSCALE": 0.0}), "has BSCALE 0"),
        (lambda path: path.write_bytes(b"SIMPLE  = nonsense"), "is not a readable FITS file"),
    ],
)
def test_what_is_refused_has_its_reason(tmp_path, make, message):
    make(tmp_path / "a.fits")
    with pytest.raises(DataError, match=rf"a\.fits {message}"):
        read_image(tmp_path / "a.fits")


def test_without_astropy_it_says_what_to_install(tmp_path):
    write(tmp_path / "a.fits", PLANES.astype(np.int16))
    code = (
        "import sys; sys.modules['astropy'] = None\nfrom sagd_cli.__main__ import main\n"
        f"main(['spectrum', {str(tmp_path / 'a.fits')!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "pip install 'sagd[fits]'" in done.stderr, done.stderr
