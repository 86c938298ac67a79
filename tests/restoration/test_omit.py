"""`corrupt` and `omit` on real digits, end to end, with small budgets."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from sagd_cli.arguments import parse_dataset
from sagd_cli.datasets import as_signal, load_images
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.grid import FrequencyGrid


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The 297 held-out digits as PNG files."""
    from sklearn.datasets import load_digits

    folder = tmp_path_factory.mktemp("digits") / "clean"
    folder.mkdir()
    for i, image in enumerate(load_digits().images[1500:]):
        Image.fromarray(np.rint(image * (255 / 16)).astype(np.uint8)).save(folder / f"{i:03d}.png")
    return folder


def read(folder):
    return np.stack([tifffile.imread(path) for path in sorted(folder.iterdir())])


def test_corruption_is_in_the_band_only_and_has_the_declared_strength(sagd, digits, tmp_path):
    result = sagd(
        "corrupt", digits, "--band", "high", "--strength", 0.5, "--output", tmp_path / "d", "--json"
    )
    assert result.code == 0 and len(result.json["files"]) == 297 and result.json["failed"] == []
    clean = np.stack([np.asarray(Image.open(path)) for path in sorted(digits.iterdir())]) / 255
    difference = np.fft.rfftn(2 * (read(tmp_path / "d") - clean), axes=(1, 2))
    f = np.hypot(np.fft.fftfreq(8)[:, None], np.fft.rfftfreq(8)[None])
    inside = f / np.sqrt(0.5) >= 0.5
    assert np.abs(difference[:, ~inside]).max() < 1e-4
    power = np.abs(difference[:, inside]) ** 2 / 64
    # Each bin is exponential (or chi-squared with one degree of freedom) with mean gamma^2.
    assert np.all(np.abs(power.mean(0) - 0.25) < 5 * np.sqrt(2) * 0.25 / np.sqrt(297))


def test_corruption_follows_from_seed_and_name(sagd, digits, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        sagd(
            "corrupt", digits, "--band", "mid", "--strength", 0.3, "--seed", seed, "--output", tmp_path / name
        )
    assert np.array_equal(read(tmp_path / "a"), read(tmp_path / "b"))
    assert not np.array_equal(read(tmp_path / "a"), read(tmp_path / "c"))


def test_a_data_set_is_corrupted_into_an_array_to_train_on(sagd, tmp_path):
    """The same law, on [-1, 1] and unclipped; labels are kept, and an image's noise follows from seed and index."""
    corrupt = ("corrupt", "digits:test", "--band", "high", "--strength", 2, "--output")
    assert sagd(*corrupt, tmp_path / "d.npz", "--json").json["shape"] == [1, 8, 8]
    clean = load_images(parse_dataset("digits:test"))
    with np.load(tmp_path / "d.npz") as archive:
        values = archive["images"]
        assert values.dtype == np.float32 and np.array_equal(archive["labels"], clean.labels)
    difference = np.fft.rfft2(values[:, 0] - as_signal(clean.images)[:, 0], norm="ortho")
    inside = Band.parse("high").mask(FrequencyGrid((8, 8)))
    assert np.abs(difference[:, ~inside]).max() < 1e-5
    power = np.abs(difference[:, inside]) ** 2
    assert np.all(np.abs(power.mean(0) - 4) < 5 * np.sqrt(2) * 4 / np.sqrt(297))
    for name, seed in (("same.npy", 0), ("other.npy", 1)):
        assert sagd(*corrupt, tmp_path / name, "--seed", seed).code == 0
        assert np.array_equal(np.load(tmp_path / name), values) == (seed == 0)
    refused = sagd(*corrupt, tmp_path / "e.npy", "--clip")
    assert refused.code == 2 and "unclipped" in refused.err and not (tmp_path / "e.npy").exists()
    # The way back: 8-bit images, values past black and white clipped.
    assert sagd("data", "prepare", tmp_path / "d.npz", "--pixels", "--output", tmp_path / "p.npy").code == 0
    expected = np.rint((np.clip(values, -1, 1).astype(np.float64) + 1) * 127.5)
    np.testing.assert_array_equal(np.load(tmp_path / "p.npy"), expected.astype(np.uint8), strict=True)


def test_clip_keeps_the_format(sagd, digits, tmp_path):
    assert (
        sagd("corrupt", digits, "--band", "mid", "--strength", 0.3, "--clip", "--output", tmp_path / "d").code
        == 0
    )
    names = [path.name for path in sorted((tmp_path / "d").iterdir())]
    assert names == [path.name for path in sorted(digits.iterdir())]


@pytest.fixture(scope="module")
def damaged(digits, tmp_path_factory):
    import contextlib

    from sagd_cli.__main__ import main

    folder = tmp_path_factory.mktemp("damaged") / "d"
    arguments = ["corrupt", str(digits), "--band", "high", "--strength", "0.5", "--output", str(folder), "-q"]
    with contextlib.suppress(SystemExit):
        main(arguments)
    return folder


def test_notch_removes_the_band(sagd, digits, damaged, tmp_path):
    result = sagd(
        "omit",
        damaged,
        "--band",
        "high",
        "--estimate",
        "notch",
        "--truth",
        digits,
        "--output",
        tmp_path / "o",
        "--json",
    ).json
    # MATH, section 6: band removed, 16.7 dB.
    assert result["psnr_mean"] == pytest.approx(16.7, abs=0.2)
    assert all(record["band_power_after"] < 1e-8 < record["band_power_before"] for record in result["files"])


def test_self_supervised_beats_the_wiener_filter_after_few_steps(sagd, digits, damaged, tmp_path):
    """No clean data at all; a Wiener filter that knows the true spectrum reaches 19.8 dB (MATH, section 6)."""
    arguments = ["omit", damaged, "--band", "high", "--truth", digits, "--output", tmp_path / "o", "--json"]
    result = sagd(*arguments, "--steps", 100).json
    assert result["method"] == "self-supervised-mean"
    low, high = result["strength_interval"]
    assert low <= 0.5 <= high and result["strength"] == pytest.approx(0.5, rel=0.1)
    assert result["psnr_mean"] > 20.5
    assert set(result["files"][0]) >= {"input", "output", "band_power_before", "band_power_after", "psnr"}
    before, after = (np.fft.rfftn(read(folder), axes=(1, 2)) for folder in (damaged, tmp_path / "o"))
    f = np.hypot(np.fft.fftfreq(8)[:, None], np.fft.rfftfreq(8)[None])
    outside = f / np.sqrt(0.5) < 0.5
    assert np.abs(after - before)[:, outside].max() <= 1e-5 * np.abs(before).max()


def test_a_reference_does_better_still(sagd, digits, damaged, tmp_path):
    arguments = ["omit", damaged, "--band", "high", "--truth", digits, "--output", tmp_path / "o", "--json"]
    result = sagd(*arguments, "--reference", "digits", "--steps", 120).json
    assert result["method"] == "reference-mean" and result["psnr_mean"] > 23
    assert result["strength"] == pytest.approx(0.5, rel=0.05)


def test_a_strength_that_was_given_has_no_interval(sagd, damaged, tmp_path):
    arguments = [
        "omit",
        damaged,
        "--band",
        "high",
        "--steps",
        1,
        "--strength",
        0.5,
        "--output",
        tmp_path / "o",
    ]
    result = sagd(*arguments, "--json")
    assert result.json["strength"] == 0.5 and result.json["strength_interval"] is None
    assert "interval" not in result.err


def test_the_bare_command_writes_beside_its_input_in_colour_and_any_sizes(sagd, tmp_path):
    folder = tmp_path / "clean"
    folder.mkdir()
    for seed, (name, size) in enumerate((("a.png", (40, 56)), ("b.png", (49, 44)))):
        radius = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])[None])
        white = np.random.default_rng(seed).standard_normal((3, *size))
        field = np.fft.irfftn(np.fft.rfftn(white, axes=(1, 2)) / (radius + 0.02), s=size, axes=(1, 2))
        pixels = 128 + 40 * field / field.std()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8).transpose(1, 2, 0)).save(folder / name)
    photos = tmp_path / "photos"
    assert sagd("corrupt", folder, "--band", "0.6:1", "--strength", 0.6, "--output", photos).code == 0
    result = sagd("omit", "--band", "0.6:1", photos, "--steps", 5, "--json")
    assert result.code == 0, result.err
    assert result.json["strength"] == pytest.approx(0.6, rel=0.1)
    restored = {path.name: tifffile.imread(path).shape for path in (tmp_path / "photos-omitted").iterdir()}
    assert restored == {"a.tiff": (40, 56, 3), "b.tiff": (49, 44, 3)}
