"""One picture on five ranges: the same damage, the same restoration, the same figures."""

import json
import shutil

import numpy as np
import pytest
import tifffile
from support.settings import TINY

from sagd_cli.config.arguments import parse_dataset
from sagd_cli.data.images import Image
from sagd_cli.data.ranges import Range
from sagd_cli.datasets.truth import clean_images
from sagd_cli.errors import UsageError

RANGES = {
    "bytes": (1, 0, "uint8", []),
    "unit": (1 / 255, 0, "float32", []),
    "float_bytes": (1, 0, "float32", []),
    "hounsfield": (8, -1000, "float32", []),
    "twelve_bits": (16, 0, "uint16", []),
    "si_units": (1e-9, 3e-9, "float32", []),
    "far_from_zero": (1e-3, 1e6, "float64", []),
    "with_a_sign": (100, -12000, "int16", []),
    "32_bits": (10**6, 0, "uint32", []),
    "told": (10, 5000, "uint16", ["--range", "5000:7550"]),
}
KEYS = ("psnr_before_mean", "psnr_mean", "ssim_before_mean", "ssim_mean")


@pytest.fixture(scope="module")
def picture():
    y, x = np.mgrid[:48, :64]
    plain = 128 + 90 * np.sin(x / 7 + np.sin(y / 9)) + 37 * np.cos(y / 5)
    plain = np.rint((plain - plain.min()) / (plain.max() - plain.min()) * 255)
    return plain


def figures(sagd, tmp_path, picture, name, clip=()):
    scale, offset, kind, told = RANGES[name]
    (tmp_path / name).mkdir()
    truth, damaged, out = tmp_path / name / "a.tif", tmp_path / name / "damaged", tmp_path / name / "out"
    tifffile.imwrite(truth, (picture * scale + offset).astype(kind))
    made = sagd(
        "corrupt", truth, "--band", "0.3:0.6", "--strength", 0.3, "--output", damaged, *clip, *told, "--json"
    )
    assert made.code == 0, made.err
    result = sagd(
        "omit",
        damaged,
        "--band",
        "0.3:0.6",
        "--estimate",
        "wiener",
        "--truth",
        truth,
        "--output",
        out,
        *told,
        "--json",
    )
    assert result.code == 0, result.err
    return result.json, tifffile.imread(out / f"a.{'tif' if clip else 'tiff'}"), scale, offset


def test_the_figures_of_a_restoration_do_not_depend_on_the_range(sagd, tmp_path, picture):
    plain, *_ = figures(sagd, tmp_path, picture, "bytes")
    assert plain["psnr_mean"] > plain["psnr_before_mean"] + 3
    for name in [*RANGES][1:]:
        found, *_ = figures(sagd, tmp_path, picture, name)
        for key in KEYS:
            assert found[key] == pytest.approx(plain[key], abs=1e-3), (name, key)
        assert found["strength"] == pytest.approx(plain["strength"], rel=1e-3)


def damaged_elsewhere(folder, picture, name):
    """Write the picture on a range with noise that another program added, as floats that do not state the range."""
    scale, offset, _, _ = RANGES[name]
    folder.mkdir()
    tifffile.imwrite(folder / "a.tif", ((picture + noise_of(picture)) * scale + offset).astype(np.float32))
    return folder


def noise_of(picture):
    return np.random.default_rng(1).normal(0, 25, picture.shape)


@pytest.mark.parametrize("truth", ["bytes", "unit", "same"])
@pytest.mark.parametrize("name", ["bytes", "unit", "float_bytes", "hounsfield", "twelve_bits"])
def test_figures_beside_a_truth_of_any_type(sagd, tmp_path, picture, name, truth):
    """They are right, or asked about where the units cannot be known; with --range they are always right."""
    scale, offset, kind, _ = RANGES[name if truth == "same" else truth]
    (tmp_path / "t").mkdir()
    tifffile.imwrite(tmp_path / "t" / "a.tif", (picture * scale + offset).astype(kind))
    damaged = damaged_elsewhere(tmp_path / "d", picture, name)
    scale, offset, _, _ = RANGES[name]
    told = ["--range", f"{offset}:{255 * scale + offset}"]
    seen = np.clip(picture + noise_of(picture), 0, 255)
    expected = 10 * np.log10(255**2 / np.mean((seen - picture) ** 2))
    for more in ([], told):
        result = sagd(
            *("omit", damaged, "--band", "high", "--estimate", "notch", "--truth", tmp_path / "t", "--json"),
            *("--output", tmp_path / f"o{len(more)}", *more),
        )
        if result.code:
            assert not more and truth != "same" and name in ("hounsfield", "twelve_bits")
            assert "has other units than" in result.err and "--range LO:HI" in result.err
            continue
        assert result.json["psnr_before_mean"] == pytest.approx(expected, abs=1e-3)


def test_files_that_state_their_ranges_keep_them_in_one_folder(sagd, tmp_path, picture):
    alone, names = {}, ("bytes", "hounsfield", "twelve_bits")
    (tmp_path / "all").mkdir()
    noise = ("--band", "high", "--strength", 0.3)
    for name in names:
        scale, offset, kind, _ = RANGES[name]
        tifffile.imwrite(tmp_path / "all" / f"{name}.tif", (picture * scale + offset).astype(kind))
    assert sagd("corrupt", tmp_path / "all", *noise, "--output", tmp_path / "d").code in (0, 1)
    places = ("--truth", tmp_path / "all", "--output", tmp_path / "o")
    result = sagd("omit", tmp_path / "d", *noise, "--estimate", "notch", *places, "--json").json
    for record in result["files"]:
        alone[record["input"]] = record["psnr_before"]
    assert len(alone) == 3 and max(alone.values()) - min(alone.values()) < 1  # each has noise of its own


@pytest.fixture
def float_files(tmp_path):
    """A folder of two float files on [0, 1], black and white, with a value beyond; and their signals."""
    pixels = np.random.default_rng(0).random((2, 16, 16), np.float32)
    pixels[:, 0, :3] = 0, 1, 1.25
    (tmp_path / "clean").mkdir()
    for k, plane in enumerate(pixels):
        tifffile.imwrite(tmp_path / "clean" / f"{k}.tif", plane)
    return tmp_path / "clean", 2 * pixels[:, None] - 1


@pytest.mark.parametrize(
    "form", ["folder", "folder,range=0:1", "folder,size=16", "array", "float64", "prepared"]
)
def test_a_reference_of_floats_has_the_same_signals_in_every_form(sagd, tmp_path, float_files, form):
    folder, signals = float_files
    text = f"{folder}{form.removeprefix('folder')}" if form.startswith("folder") else f"{tmp_path}/r.npy"
    if form == "prepared":
        assert sagd("data", "prepare", folder, "--output", tmp_path / "r.npy").code == 0
    elif text.endswith("r.npy"):
        np.save(tmp_path / "r.npy", signals.astype("float64" if form == "float64" else "float32"))
    clean = clean_images(text)
    for values in (None, Range(0, 1), Range(-1, 1), Range(0, 1)):  # of the images that are damaged
        damaged = [] if values is None else [Image(signals[0], None, folder, values)]
        if form == "folder" and values == Range(-1, 1):
            continue  # files keep their unit
        np.testing.assert_allclose(np.stack(clean.signals(damaged)), signals, rtol=0, atol=1e-6)
    assert clean.data == parse_dataset(text)


def test_a_reference_of_float_rgb_serves_and_one_of_latents_does_not(tmp_path):
    values = np.random.default_rng(1).normal(size=(3, 4, 8, 8)).astype(np.float16)
    for count in (1, 3):
        np.save(tmp_path / "a.npy", values[:, :count])
        found = clean_images(f"{tmp_path}/a.npy").signals(
            [Image(np.zeros((1, 8, 8), np.uint8), None, tmp_path)]
        )
        np.testing.assert_array_equal(np.stack(found), values[:, :count].astype(np.float32))
        assert {signal.dtype.name for signal in found} == {"float32"}
    for count in (2, 4):
        np.save(tmp_path / "a.npy", values[:, :count])
        with pytest.raises(UsageError, match="not grey or RGB images"):
            clean_images(f"{tmp_path}/a.npy")


@pytest.mark.slow
def test_damaged_images_are_the_same_training_data_on_every_range(sagd, tmp_path, picture):
    """From `corrupt` by `data prepare` and `train --omit-band` to `sample`: nothing is clipped on the way."""
    drawn = {}
    for name in ("bytes", "hounsfield", "twelve_bits"):
        scale, offset, kind, told = RANGES[name]
        home = tmp_path / name
        (home / "clean").mkdir(parents=True)
        for k in range(6):
            values = np.roll(picture[:16, :16], 3 * k, axis=1) + 7 * k
            values[0, :2] = 0, 255  # the same range in each set
            tifffile.imwrite(
                home / "clean" / f"{k}.tif", (np.clip(values, 0, 255) * scale + offset).astype(kind)
            )
        noise = ("--band", "high", "--strength", 1)
        assert sagd("corrupt", home / "clean", *noise, "--output", home / "damaged", *told).code == 0
        made = sagd("data", "prepare", home / "damaged", "--output", home / "d.npy", "--json")
        assert (made.code, made.json["shape"]) == (0, [1, 16, 16])
        tiny = [word for key, value in TINY.items() for word in ("--set", f"{key}={json.dumps(value)}")]
        run = home / "run"
        trained = sagd("train", "--dataset", home / "d.npy", "--omit-band", "high", *tiny, "--output", run)
        assert trained.code == 0, trained.err
        assert sagd("sample", run, "-n", 4, "--steps", 3, "--format", "npz", "--output", home / "s").code == 0
        drawn[name] = np.load(home / "d.npy"), np.load(home / "s" / "samples.npz")["images"]
    data, samples = drawn["bytes"]
    assert data.dtype == np.float32 and np.abs(data).max() > 2
    for other, others in drawn.values():
        np.testing.assert_allclose(other, data, atol=2e-5)
        error = 10 * np.log10(4 / np.mean((others - samples) ** 2).clip(1e-12))
        assert error > 60


def test_values_keep_their_unit_from_corrupt_to_omit(sagd, tmp_path, picture):
    for name in ("float_bytes", "hounsfield", "twelve_bits"):
        _, restored, scale, offset = figures(sagd, tmp_path, picture, name)
        error = np.sqrt(np.mean((restored - (picture * scale + offset)) ** 2))
        assert error < 25 * scale, name  # of 255


def test_twelve_bits_stay_twelve_bits_with_clip(sagd, tmp_path, picture):
    found, restored, *_ = figures(sagd, tmp_path, picture, "twelve_bits", clip=["--clip"])
    assert restored.dtype == np.uint16 and 4080 < restored.max() < 6000
    assert found["files"][0]["range"] == [0, 4080]  # as the damaged file states
    assert found["files"][0]["clipped"] < 0.2


def test_values_that_are_clipped_are_counted_and_said(sagd, tmp_path, picture):
    (tmp_path / "a").mkdir()
    tifffile.imwrite(tmp_path / "a" / "a.tif", picture.astype(np.uint8))
    made = sagd(
        "corrupt",
        tmp_path / "a",
        "--band",
        "high",
        "--strength",
        0.5,
        "--output",
        tmp_path / "o",
        "--clip",
        "--json",
    )
    share = np.isin(tifffile.imread(tmp_path / "o" / "a.tif"), [0, 255]).mean()
    assert 0 < made.json["files"][0]["clipped"] <= share
    assert "values were beyond the ends of their type and were clipped" in made.err.replace("\n", " ")


def test_missing_data_come_back_as_they_were(sagd, tmp_path, picture):
    """The rest is restored as if there were something in the hole."""
    tifffile.imwrite(tmp_path / "whole.tif", (picture / 255).astype(np.float32))
    omit = ("--band", "high", "--estimate", "wiener", "--strength", 0.1, "--output")
    assert sagd("omit", tmp_path / "whole.tif", *omit, tmp_path / "o").code == 0
    whole = tifffile.imread(tmp_path / "o" / "whole.tif")
    for value in (np.nan, -9999, -3.4028235e38, 9.96921e36):
        values = (picture / 255).astype(np.float32)
        values[3, 4:9] = value
        tifffile.imwrite(tmp_path / "hole.tif", values)
        done = sagd("omit", tmp_path / "hole.tif", *omit, tmp_path / f"{value}", "--json")
        assert done.code == 0 and "at 5 of its values) are filled" in " ".join(done.err.split())
        assert done.json["files"][0]["missing"] == 5
        found = tifffile.imread(tmp_path / f"{value}" / "hole.tif")
        np.testing.assert_array_equal(found[3, 4:9], values[3, 4:9])
        found[3, 4:9] = whole[3, 4:9]
        assert np.abs(found - whole).max() < 0.1
        made = sagd(
            "corrupt",
            tmp_path / "hole.tif",
            *omit[:2],
            "--strength",
            1,
            "--output",
            tmp_path / "c",
            "--force",
        )
        assert made.code == 0
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "c" / "hole.tiff")[3, 4:9], values[3, 4:9])


@pytest.mark.parametrize(
    ("name", "ends"), [("f32_0_255", [0, 255]), ("f32_hu", [-1000, 1040]), ("g12in16", [0, 4080])]
)
def test_the_shared_cases_have_one_figure(sagd, tmp_path, data_root, name, ends):
    source = data_root.parent / "cases" / "tiff" / f"{name}.tif"
    if not source.is_file():
        pytest.skip(f"{source} is absent")
    (tmp_path / "a").mkdir()
    shutil.copy(source, tmp_path / "a" / "a.tif")
    noise = ("--band", "high", "--strength", 0.3)
    assert sagd("corrupt", tmp_path / "a", *noise, "--output", tmp_path / "d").code == 0
    places = ("--truth", tmp_path / "a", "--output", tmp_path / "o")
    result = sagd("omit", tmp_path / "d", *noise, "--estimate", "notch", *places, "--json").json
    assert result["files"][0]["range"] == ends
    assert result["psnr_before_mean"] == pytest.approx(19.5, abs=0.5)
    assert result["psnr_mean"] == pytest.approx(27.8522, abs=1e-3)
