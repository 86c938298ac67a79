"""`--removed`: input less output, in the units of the input."""

import numpy as np
import pytest
import tifffile
from PIL import Image


@pytest.fixture
def damaged():
    """Floats about 1000 and 3000 of two pages, with offsets of rows."""
    random = np.random.default_rng(0)
    smooth = np.add.outer(np.sin(np.arange(96) / 15), np.cos(np.arange(112) / 18))
    noise = random.normal(0, 0.02, (2, 96, 112)) + random.normal(0, 0.15, (2, 96, 1))
    return (2000 + 300 * (smooth + noise)).astype(np.float32)


def omitted(sagd, path, tmp_path, *options):
    told = ("omit", path, "--noise", "stripe:horizontal,0,0", "--estimate", "wiener", "--json", *options)
    result = sagd(*told, "--output", tmp_path / "o", "--removed", tmp_path / "r")
    assert result.code == 0, result.err
    return result.json["files"]


def test_output_and_removed_are_the_input_of_floats_and_of_stacks(sagd, damaged, tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, damaged, photometric="minisblack")
    records = omitted(sagd, path, tmp_path, "--range", "1000:3000")
    assert [record["removed"] for record in records] == [str(tmp_path / "r" / "a.tiff")] * 2
    assert {record["method"] for record in records} == {"lines"}
    output, removed = (tifffile.imread(tmp_path / name) for name in ("o/a.tif", "r/a.tiff"))
    assert removed.dtype == np.float32 and removed.shape == damaged.shape
    assert removed.std(axis=(1, 2)) == pytest.approx(45, rel=0.3)
    assert np.abs(output + removed - damaged).max() <= np.spacing(np.float32(3000))


@pytest.mark.parametrize(
    "form", [{"imagej": True}, {"ome": True}, {"photometric": "minisblack"}], ids=["ImageJ", "OME", "shaped"]
)
def test_it_has_the_axes_of_a_stack_and_not_its_display_range(sagd, damaged, tmp_path, form):
    path, stack = tmp_path / "a.tif", np.stack([damaged, damaged[::-1], damaged]).astype(np.uint16)
    about = {"axes": "ZCYX", **({"min": 0.0, "max": 3000.0} if "imagej" in form else {})}
    tifffile.imwrite(path, stack, **form, resolution=(2.5, 2.5), metadata=about)
    omitted(sagd, path, tmp_path, "--range", "1000:3000")
    with tifffile.TiffFile(path) as given, tifffile.TiffFile(tmp_path / "r" / "a.tiff") as removed:
        for one, other in zip(given.series, removed.series, strict=True):
            assert (one.axes, one.shape) == (other.axes, other.shape)
        assert given.pages[0].resolution == removed.pages[0].resolution
        assert removed.series[0].dtype == np.float32 and "max" not in (removed.imagej_metadata or {})


def test_of_integers_it_is_the_input_up_to_rounding_and_missing_data_are_nan(sagd, damaged, tmp_path):
    (tmp_path / "in").mkdir()
    pixels = np.rint(damaged[0] / 16).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in" / "a.png")
    holes = damaged[1].copy()
    holes[20:30, 40:60] = np.nan
    tifffile.imwrite(tmp_path / "in" / "b.tif", holes)
    omitted(sagd, tmp_path / "in", tmp_path)
    removed = tifffile.imread(tmp_path / "r" / "a.tiff")
    output = np.asarray(Image.open(tmp_path / "o" / "a.png"), np.float64)
    assert np.abs(output + removed - pixels).max() <= 0.5 + 1e-4
    assert np.array_equal(np.isnan(tifffile.imread(tmp_path / "r" / "b.tiff")), np.isnan(holes))


def test_it_overwrites_nothing(sagd, damaged, tmp_path):
    path = tmp_path / "in" / "a.tif"
    path.parent.mkdir()
    tifffile.imwrite(path, damaged[0])
    notch = ("omit", path, "--band", "high", "--estimate", "notch", "--output", tmp_path / "o", "--removed")
    for folder, reason in (("o", "lie among the images"), ("in", "is where the input is")):
        refused = sagd(*notch, tmp_path / folder)
        assert refused.code == 2 and reason in refused.err, refused.err
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "a.tiff").write_bytes(b"mine")
    assert sagd(*notch, tmp_path / "r").code == 2 and (tmp_path / "r" / "a.tiff").read_bytes() == b"mine"
