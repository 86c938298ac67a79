"""`corrupt` and `omit` on real digits, end to end, with small budgets."""

import contextlib
import io
import json

import numpy as np
import pytest
import tifffile
from PIL import Image

from sagd_cli.__main__ import main
from sagd_cli.config.arguments import parse_dataset
from sagd_cli.data.ranges import array_signal
from sagd_cli.datasets.loading import load_images
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.grid import FrequencyGrid

COUNT = 120  # damaged digits


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


def call(*arguments):
    """The JSON object of a command, for fixtures that several tests share."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main([*map(str, arguments), "--json"])
    return json.loads(out.getvalue())


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


def test_corruption_follows_from_seed_and_name(sagd, few, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        sagd("corrupt", few, "--band", "mid", "--strength", 0.3, "--seed", seed, "--output", tmp_path / name)
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
    difference = np.fft.rfft2(values[:, 0] - array_signal(clean.images)[:, 0], norm="ortho")
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
    corrupt = ("corrupt", digits / "000.png", "--band", "mid", "--strength", 0.3, "--clip")
    assert sagd(*corrupt, "--output", tmp_path / "d").code == 0
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["000.png"]


@pytest.fixture(scope="module")
def damaged(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("damaged") / "d"
    call("corrupt", digits, "--band", "high", "--strength", 0.5, "--output", folder)
    for path in sorted(folder.iterdir())[COUNT:]:
        path.unlink()
    return folder


@pytest.fixture(scope="module")
def learned(digits, damaged, tmp_path_factory):
    """What one call wrote that learned from clean digits of other writers, and its JSON object."""
    folder = tmp_path_factory.mktemp("learned")
    result = call(
        *("omit", damaged, "--band", "high", "--reference", "digits", "--steps", 60, "--truth", digits),
        *("--output", folder / "o", "--save-model", folder / "run", "--figure", folder / "figure.png"),
    )
    return folder, result


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of `train --restore` on the digits, for strengths down to the finest, which samples need."""
    run = tmp_path_factory.mktemp("trained") / "run"
    tiny = (
        "--set",
        "backbone.options={channels: [8, 8], layers_per_block: 1}",
        "--steps",
        20,
        "--output",
        run,
    )
    call("train", "--restore", "high", "--set", "restoration.strengths=[0.01, 1]", *tiny)
    return run


@pytest.fixture(scope="module")
def few(damaged, tmp_path_factory):
    """Three of the damaged digits."""
    folder = tmp_path_factory.mktemp("few")
    for path in sorted(damaged.iterdir())[:3]:
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def assert_unchanged_outside(before, after):
    before, after = (np.fft.rfftn(read(folder), axes=(1, 2)) for folder in (before, after))
    inside = Band.parse("high").mask(FrequencyGrid((8, 8)))
    assert np.abs(after - before)[:, ~inside].max() <= 1e-5 * np.abs(before).max()
    assert np.abs(after - before)[:, inside].max() > 0.1


def test_notch_removes_the_band(sagd, digits, damaged, tmp_path):
    notch = ("omit", damaged, "--band", "high", "--estimate", "notch", "--truth", digits)
    result = sagd(*notch, "--output", tmp_path / "o", "--json").json
    # docs/theory.md, section 6: band removed, 16.7 dB, of all the digits.
    assert result["psnr_mean"] == pytest.approx(16.7, abs=0.5)
    assert all(record["band_power_after"] < 1e-8 < record["band_power_before"] for record in result["files"])


@pytest.mark.slow
def test_a_reference_makes_the_digits_better_and_says_by_how_much(damaged, learned):
    """A Wiener filter that knows the true spectrum reaches 19.8 dB (docs/theory.md, section 6)."""
    folder, result = learned
    assert result["method"] == "reference-mean" and not result["lost"] and result["failed"] == []
    low, high = result["strength_interval"]
    assert low <= 0.5 <= high and result["strength"] == pytest.approx(0.5, rel=0.1)
    assert result["psnr_mean"] > 21.5 > 17 > result["psnr_before_mean"]
    assert result["ssim_mean"] > result["ssim_before_mean"]
    assert set(result) == {
        *(
            "band",
            "noise",
            "strength",
            "strength_interval",
            "lost",
            "method",
            "output",
            "files",
            "run",
            "figure",
        ),
        *("psnr_before_mean", "psnr_mean", "ssim_before_mean", "ssim_mean", "failed"),
    }
    assert set(result["files"][0]) == {
        *("input", "output", "method", "band_power_before", "band_power_after", "range", "clipped", "parts"),
        *("psnr_before", "psnr", "ssim_before", "ssim"),
    }
    assert [record["input"] for record in result["files"]] == [str(p) for p in sorted(damaged.iterdir())]
    assert_unchanged_outside(damaged, folder / "o")


@pytest.mark.slow
def test_the_figure_is_a_picture(learned):
    with Image.open(learned[0] / "figure.png") as figure:
        assert figure.format == "PNG" and min(figure.size) > 300


@pytest.mark.slow
def test_a_model_that_was_kept_gives_the_same_images(sagd, damaged, learned, tmp_path):
    folder, _ = learned
    model = ("omit", damaged, "--band", "high", "--model", folder / "run", "--strength")
    served = sagd(*model, learned[1]["strength"], "--output", tmp_path / "o", "--json")
    assert served.code == 0, served.err
    assert served.json["method"] == "model-mean" and served.json["strength_interval"] is None
    np.testing.assert_allclose(read(tmp_path / "o"), read(folder / "o"), rtol=0, atol=1e-6)


def test_samples_are_draws_that_follow_from_seed_and_name(sagd, few, trained, tmp_path):
    sample = ("omit", few, "--band", "high", "--model", trained, "--estimate", "sample")
    sample = (*sample, "--strength", 0.5, "--sampling-steps", 6)
    for name, options in {"a": ("--draws", 2), "b": (), "c": ("--seed", 1)}.items():
        assert sagd(*sample, *options, "--output", tmp_path / name).code == 0
    names = [path.name for path in sorted((tmp_path / "a").iterdir())]
    assert names == [f"{i:03d}{draw}.tiff" for i in range(3) for draw in (".2", "")]
    first, second = read(tmp_path / "a")[1::2], read(tmp_path / "a")[::2]
    np.testing.assert_allclose(first, read(tmp_path / "b"), rtol=0, atol=1e-6)
    assert np.abs(first - second).mean() > 0.01
    assert np.abs(read(tmp_path / "c") - read(tmp_path / "b")).mean() > 0.01
    assert_unchanged_outside(few, tmp_path / "b")


def test_an_uncertainty_needs_more_samples_than_are_written(sagd, few, trained, tmp_path):
    sample = ("omit", few, "--band", "high", "--model", trained, "--strength", 0.5, "--sampling-steps", 2)
    sample = (*sample, "--estimate", "sample", "--uncertainty", tmp_path / "u")
    assert sagd(*sample, "--output", tmp_path / "o").code == 0
    assert [path.name for path in sorted((tmp_path / "o").iterdir())] == [f"{i:03d}.tiff" for i in range(3)]


def test_the_uncertainty_is_the_deviation_of_samples_as_floats(sagd, few, trained, tmp_path):
    """On the scale of float images, where white is 1; and the mean beside it is the mean."""
    served = ("omit", few, "--band", "high", "--model", trained, "--strength", 0.5, "--sampling-steps", 6)
    sample = (*served, "--estimate", "sample", "--draws", 3, "--output", tmp_path / "draws")
    assert sagd(*sample, "--uncertainty", tmp_path / "u").code == 0
    draws = read(tmp_path / "draws").reshape(3, 3, 8, 8)
    deviations = read(tmp_path / "u")
    assert deviations.dtype == np.float32
    np.testing.assert_allclose(deviations, draws.std(axis=1, ddof=1), rtol=0, atol=1e-5)
    mean = sagd(*served, "--uncertainty", tmp_path / "v", "--draws", 3, "--output", tmp_path / "o", "--json")
    np.testing.assert_allclose(read(tmp_path / "v"), deviations, rtol=0, atol=1e-6)
    assert sagd(*served, "--output", tmp_path / "alone").code == 0
    assert np.array_equal(read(tmp_path / "alone"), read(tmp_path / "o"))
    written = [record["uncertainty"] for record in mean.json["files"]]
    assert written == [str(path) for path in sorted((tmp_path / "v").iterdir())]


@pytest.mark.parametrize("strength", [0.01, "inf"])
def test_the_finest_strength_and_a_lost_band_can_be_sampled(sagd, few, trained, tmp_path, strength):
    """At the finest strength a sample is the image but for that noise; of a lost band the strength is null."""
    sample = ("omit", few, "--band", "high", "--model", trained, "--estimate", "sample", "--json")
    sample = (*sample, "--strength", strength, "--sampling-steps", 6, "--output", tmp_path / "o")
    if strength == "inf":
        refused = sagd(*sample)
        assert refused.code == 2 and "was trained for strengths from 0.01 to 1" in refused.err
        return
    assert sagd(*sample).json["strength"] == 0.01
    assert np.abs(read(tmp_path / "o") - read(few)).max() < 0.05


def test_a_lost_band_is_filled_in_from_a_reference(sagd, few, tmp_path):
    """What the damaged band held, of any strength, does not matter."""
    omit = ("omit", few, "--band", "high", "--reference", "digits", "--strength", "inf", "--steps", 2)
    result = sagd(*omit, "--output", tmp_path / "o", "--json").json
    assert result["lost"] and result["strength"] is None and result["strength_interval"] is None
    louder = tmp_path / "louder"
    assert sagd("corrupt", few, "--band", "high", "--strength", 3, "--output", louder).code == 0
    assert sagd("omit", louder, *omit[2:], "--output", tmp_path / "p").code == 0
    np.testing.assert_allclose(read(tmp_path / "p"), read(tmp_path / "o"), rtol=0, atol=1e-4)


def test_each_image_can_have_a_strength_of_its_own(sagd, damaged, tmp_path):
    """A clean image among the damaged ones comes back as it was."""
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for path in sorted(damaged.iterdir())[:20]:
        (mixed / path.name).write_bytes(path.read_bytes())
    flat = np.full((8, 8), 0.25, np.float32)
    tifffile.imwrite(mixed / "flat.tiff", flat)
    served = ("omit", mixed, "--band", "high", "--reference", "digits", "--per-image", "--steps", 2)
    result = sagd(*served, "--output", tmp_path / "o", "--json")
    assert result.code == 0, result.err
    strengths = [record["strength"] for record in result.json["files"]]
    assert strengths[-1] == 0 and np.array_equal(tifffile.imread(tmp_path / "o" / "flat.tiff"), flat)
    assert np.median(strengths) == pytest.approx(0.5, rel=0.15)


@pytest.mark.slow
def test_self_supervised_beats_the_notch_and_its_model_serves_again(sagd, digits, damaged, tmp_path):
    """No clean data at all, few images and few steps; removing the band gives 16.7 dB."""
    learn = ("omit", damaged, "--band", "high", "--strength", 0.5, "--truth", digits, "--steps", 40, "--json")
    result = sagd(*learn, "--output", tmp_path / "o", "--save-model", tmp_path / "run").json
    assert result["method"] == "self-supervised-mean"
    assert result["psnr_mean"] > 19
    assert_unchanged_outside(damaged, tmp_path / "o")
    model = ("omit", damaged, "--band", "high", "--strength", 0.5, "--model", tmp_path / "run")
    served = sagd(*model, "--output", tmp_path / "p")
    assert served.code == 0, served.err
    np.testing.assert_allclose(read(tmp_path / "p"), read(tmp_path / "o"), rtol=0, atol=1e-6)


def photographs(folder, **sizes):
    """RGB images of a natural spectrum; `sizes` are their heights and widths by name."""
    folder.mkdir()
    for seed, (name, size) in enumerate(sizes.items()):
        radius = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])[None])
        white = np.random.default_rng(seed).standard_normal((3, *size))
        field = np.fft.irfftn(np.fft.rfftn(white, axes=(1, 2)) / (radius + 0.02), s=size, axes=(1, 2))
        pixels = (128 + 40 * field / field.std()).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels.transpose(1, 2, 0)).save(folder / f"{name}.png")
    return folder


def test_the_bare_command_writes_beside_its_input_in_colour_and_any_sizes(sagd, tmp_path, monkeypatch):
    monkeypatch.setattr("sagd_cli.restorer.estimates.DRAWS", 4)
    folder, photos = photographs(tmp_path / "clean", a=(40, 56), b=(49, 44)), tmp_path / "photos"
    assert sagd("corrupt", folder, "--band", "0.6:1", "--strength", 0.6, "--output", photos).code == 0
    result = sagd("omit", "--band", "0.6:1", photos, "--steps", 5, "--json")
    assert result.code == 0, result.err
    assert result.json["strength"] == pytest.approx(0.6, rel=0.1)
    restored = {path.name: tifffile.imread(path).shape for path in (tmp_path / "photos-omitted").iterdir()}
    assert restored == {"a.tiff": (40, 56, 3), "b.tiff": (49, 44, 3)}


def test_grey_colour_transparent_small_and_damaged_files_go_together(sagd, tmp_path, monkeypatch):
    """Learned from plane by plane, written as they came; a file that is none is named and the others are done."""
    monkeypatch.setattr("sagd_cli.restorer.estimates.DRAWS", 2)
    folder = photographs(tmp_path / "in", a=(40, 56), b=(49, 44))
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 256, (40, 40), dtype=np.uint8)).save(folder / "grey.png")
    rgba = random.integers(0, 256, (40, 44, 4), dtype=np.uint8)
    Image.fromarray(rgba).save(folder / "rgba.png")
    Image.fromarray(rgba[:3, :3, 0]).save(folder / "tiny.png")
    Image.fromarray(rgba[:5, :7, 0]).save(folder / "small.png")
    (folder / "broken.png").write_bytes(b"this is no image")
    omit = ("omit", folder, "--band", "high", "--strength", 0.5, "--steps", 2, "--json")
    result = sagd(*omit, "--output", tmp_path / "o", "--save-model", tmp_path / "run")
    assert (
        result.code == 1 and json.loads(result.err.splitlines()[-1])["error"]["message"] == "6 ok, 1 failed"
    )
    assert [failed["input"] for failed in result.json["failed"]] == [str(folder / "broken.png")]
    for path in folder.glob("[!b]*.png"):
        with Image.open(path) as before, Image.open(tmp_path / "o" / path.name) as after:
            assert (before.size, before.mode) == (after.size, after.mode)
    with Image.open(tmp_path / "o" / "rgba.png") as image:
        assert np.array_equal(np.asarray(image)[..., 3], rgba[..., 3])
    again = sagd(*omit, "--output", tmp_path / "p", "--model", tmp_path / "run")
    assert again.code == 1 and len(again.json["files"]) == 6


@pytest.mark.parametrize("broken", [False, True])
def test_a_band_is_found_and_omitted_from_striped_images(sagd, tmp_path, broken):
    folder = photographs(tmp_path / "in", a=(160, 200))
    with Image.open(folder / "a.png") as image:
        clean = np.asarray(image.convert("L"), dtype=float)
    lines = np.random.default_rng(1).normal(0, 12, (160, 1))
    Image.fromarray((clean + lines).clip(0, 255).astype(np.uint8)).save(folder / "a.png")
    if broken:
        (folder / "b.png").write_text("this is no image")
    notch = ("omit", folder, "--band", "auto", "--estimate", "notch", "--output", tmp_path / "o", "--json")
    result = sagd(*notch)
    assert result.code == int(broken) and len(result.json["failed"]) == int(broken)
    assert "stripe:horizontal" in result.json["band"]
    with Image.open(tmp_path / "o" / "a.png") as image:
        left = np.asarray(image, dtype=float) - clean
    assert (left - left.mean()).std() < 0.7 * lines.std()


def test_of_many_parts_those_that_were_found_are_said(sagd, tmp_path):
    path = tmp_path / "tone.png"
    rows, columns = np.mgrid[:128, :128]
    field = np.random.default_rng(0).normal(128, 5, (128, 128)) + 30 * np.cos(np.pi * (rows + columns) / 4)
    Image.fromarray(field.astype(np.uint8)).save(path)
    noise = "+".join(f"notch:{0.125 + k % 4 / 10:g},{0.125 + k // 4 / 10:g},0.02" for k in range(15))
    result = sagd("omit", path, "--noise", noise, "--estimate", "notch", "--output", tmp_path / "o")
    assert result.code == 0 and "notch:0.125,0.125,0.02: strength" in result.err
    assert result.err.count("strength") == 1 and "14 of 15 parts are not certain" in result.err
    assert "and 11 more" in result.out


def test_what_is_taken_for_a_halftone_is_said(sagd, tmp_path):
    rows, columns = np.mgrid[:128, :128]
    screen = np.cos(np.pi * (rows + columns) / 6) + np.cos(np.pi * (rows - columns) / 6)
    field = 0.8 * np.sin(rows / 25) + 0.6 * np.cos(columns / 30)
    Image.fromarray(255 * (screen > field).astype(np.uint8)).save(tmp_path / "print.png")
    omit = (
        "omit",
        tmp_path / "print.png",
        "--band",
        "auto",
        "--estimate",
        "notch",
        "--output",
        tmp_path / "o",
    )
    result = sagd(*omit)
    assert result.code == 0 and "taken for a halftone" in result.err


def test_the_bare_command_finds_the_noise_of_each_image_and_leaves_clean_ones(sagd, tmp_path):
    """Photographs of scikit-learn: rows of one are offset, the other is clean."""
    from sklearn.datasets import load_sample_images

    folder, truth = tmp_path / "in", tmp_path / "truth"
    folder.mkdir()
    truth.mkdir()
    for name, image in zip(("china", "flower"), load_sample_images().images, strict=True):
        grey = image[100:292, 200:424].mean(axis=2)
        offsets = np.random.default_rng(3).normal(0, 8, (192, 1)) if name == "china" else 0
        Image.fromarray(np.rint(grey).astype(np.uint8)).save(truth / f"{name}.png")
        Image.fromarray(np.rint(grey + offsets).clip(0, 255).astype(np.uint8)).save(folder / f"{name}.png")
    result = sagd("omit", folder, "--truth", truth, "--output", tmp_path / "o", "--json")
    assert result.code == 0, result.err
    china, flower = result.json["files"]
    assert (
        china["noise"].startswith("stripe:horizontal,0,0:level=") and china["psnr"] > china["psnr_before"] + 3
    )
    assert flower["noise"] is None and flower["psnr"] == flower["psnr_before"] == 120
    assert (result.json["band"], result.json["noise"], result.json["method"]) == (
        None,
        None,
        "lines, unchanged",
    )
    assert "china.png: stripe:horizontal,0,0" in result.err and "flower.png: no noise found" in result.err
    # Whole lines need no restorer, so it is not even opened.
    assert "restored by the restorer of the package" not in result.err


def test_an_image_is_restored_the_same_beside_images_of_other_kinds(sagd, tmp_path):
    """Bytes and floats of one shape; a paler one; and grey saved in three colours is as good as grey."""
    from sklearn.datasets import load_sample_image

    folder, alone = tmp_path / "in", tmp_path / "alone"
    folder.mkdir()
    alone.mkdir()
    grey = load_sample_image("china.jpg")[100:164, 200:264].mean(axis=2) / 255
    noisy = grey + np.random.default_rng(0).normal(0, 0.1, grey.shape)
    floats = noisy.astype(np.float32)
    tifffile.imwrite(folder / "b.tif", floats)
    tifffile.imwrite(folder / "c.tif", floats * np.float32(0.2))
    tifffile.imwrite(alone / "b.tif", floats)
    pixels = (255 * noisy).clip(0, 255).round().astype(np.uint8)
    Image.fromarray(pixels).save(folder / "a.png")
    Image.fromarray(np.repeat(pixels[..., None], 3, axis=2)).save(folder / "d.png")
    told = ("--noise", "white:level=0.2", "--range", "0:1")
    for name in ("in", "alone"):
        assert sagd("omit", tmp_path / name, *told, "--output", tmp_path / f"{name}-o").code == 0
    one, two = (tifffile.imread(tmp_path / name / "b.tif") for name in ("in-o", "alone-o"))
    np.testing.assert_allclose(one, two, rtol=0, atol=1e-6)
    grey, three = (np.asarray(Image.open(tmp_path / "in-o" / name)) for name in ("a.png", "d.png"))
    assert np.abs(three.astype(int) - grey[..., None]).max() <= 1


def test_what_is_told_stays_told_where_the_rest_is_measured_for_each_image(sagd, tmp_path):
    from sklearn.datasets import load_sample_image

    (tmp_path / "in").mkdir()
    grey = load_sample_image("china.jpg")[100:260, 200:360].mean(axis=2) / 127.5 - 1
    rows = np.random.default_rng(1).normal(0, 0.06, (160, 1))
    tifffile.imwrite(tmp_path / "in" / "a.tif", (grey + rows).astype(np.float32))
    told = ("--noise", "stripe:horizontal,0,0+white:level=0.01", "--range", "-1:1", "--per-image")
    result = sagd("omit", tmp_path / "in", *told, "--output", tmp_path / "o", "--json")
    assert result.code == 0, result.err
    (record,) = result.json["files"]
    assert record["noise"].endswith("+white:level=0.01")
    level = float(record["noise"].partition("+")[0].rpartition("=")[2])
    assert 0 < level < 1.1 * rows.std() * 160**0.5  # a cautious strength is at most a tenth too high
