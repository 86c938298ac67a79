"""`sagd spectrum` as one types it: any data, the power law, and bands that `sagd omit` can take out."""

import subprocess
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image
from support.expectations import refused
from support.synthetic import natural, wave

from sagd_cli.config.arguments import parse_dataset
from sagd_cli.datasets.loading import load_images
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.grid import FrequencyGrid

KEYS = ["count", "shape", "beta", "beta_se", "profile"]


def save_png(field, path):
    """A field of unit variance as 8-bit grey levels: 40 of them a standard deviation."""
    Image.fromarray(np.clip(128 + 40 * field, 0, 255).astype(np.uint8)).save(path)
    return path


def save_npy(array, path):
    np.save(path, array)
    return path


def covers(band, frequency, shape):
    """Whether `band` holds the bin of a field of `shape` that is nearest to `frequency`."""
    bins = [round(f * n) % n for f, n in zip(frequency, shape, strict=True)]
    grid = FrequencyGrid(shape)
    return bool(grid.full(Band.parse(band).mask(grid).astype(float))[tuple(bins)])


def off(peak, frequency):
    """Distance in cycles/pixel from a reported peak to a frequency or its mirror, on the torus."""
    center = np.array([peak["f_y"], peak["f_x"]])
    both = [center - sign * np.array(frequency) for sign in (1, -1)]
    return min(float(np.linalg.norm(d - np.round(d))) for d in both)


def kinds(document):
    return {":".join(peak["band"].split(",")[0].split(":")[:2]) for peak in document["peaks"]}


# What is measured


def test_the_json_of_digits_has_the_keys_of_the_contract(sagd):
    document = sagd("spectrum", "digits", "--json").json
    assert set(KEYS) <= set(document) and "peaks" not in document
    assert document["count"] == 1500 and document["shape"] == [8, 8] and document["window"] == "hann"
    assert document["data"]["sha256"] == sagd("data", "info", "digits", "--json").json["sha256"]
    rho, power = np.array(document["profile"]).T
    assert np.all(np.diff(rho) > 0) and rho[0] == pytest.approx(np.sqrt(2) / 8) and rho[-1] == 1
    # Strokes are smooth: 17 dB from the lowest frequency to the corner.
    assert 10 < power[0] / power[-1] < 100
    assert 0 < document["beta_se"] < 0.1 * document["beta"]
    assert sagd("spectrum", "digits:test", "--json").json["count"] == 297


def test_the_profile_without_a_window_is_the_mean_over_annuli(sagd):
    document = sagd("spectrum", "digits", "--window", "none", "--json").json
    signal = load_images(parse_dataset("digits")).images[:, 0] / 127.5 - 1
    signal = signal - signal.mean(axis=(1, 2), keepdims=True)
    power = np.mean(np.abs(np.fft.fft2(signal)) ** 2, axis=0) / 64
    radius = np.round(np.hypot(np.fft.fftfreq(8)[:, None], np.fft.fftfreq(8)), 9)
    assert document["window"] == "none"
    profile = {round(rho, 9): value for rho, value in document["profile"]}
    for rho in (0.125, 0.25, 0.5**0.5):  # radii alone in their annulus
        assert profile[round(rho / 0.5**0.5, 9)] == pytest.approx(
            power[radius == round(rho, 9)].mean(), rel=1e-9
        )


@pytest.mark.parametrize("beta", [1.0, 2.5])
def test_beta_is_that_of_the_fields(sagd, tmp_path, beta):
    fields = natural((48, 48), 0, 60, beta)
    document = sagd("spectrum", save_npy(fields[:, None], tmp_path / "f.npy"), "--json").json
    assert abs(document["beta"] - beta) < 4 * document["beta_se"] < 0.3
    low, high = document["fitted_rho"]
    assert 0 < low < 0.2 and 0.6 < high <= 0.5**0.5 + 1e-9


def test_a_folder_a_file_and_an_array_of_the_same_pixels_agree(sagd, tmp_path):
    (tmp_path / "one").mkdir()
    image = save_png(natural((64, 80), 1)[0], tmp_path / "one" / "a.png")
    array = save_npy(np.asarray(Image.open(image))[None, None], tmp_path / "same.npy")
    documents = [sagd("spectrum", data, "--peaks", "--json").json for data in (image.parent, image, array)]
    names = [document.pop("data").pop("data") for document in documents]
    assert names == [str(image.parent), str(image), str(array)]
    assert documents[0] == documents[1] == documents[2]
    assert documents[0]["shape"] == [64, 80] and documents[0]["count"] == 1


def test_one_image_has_no_standard_error_and_says_so(sagd, tmp_path):
    image = save_png(natural((64, 64), 2)[0], tmp_path / "a.png")
    result = sagd("spectrum", image, "--json")
    assert result.json["beta_se"] is None and result.json["beta"] == pytest.approx(2, abs=0.5)
    assert result.err == "warning: one image gives no standard error of beta: the bootstrap needs several\n"
    text = sagd("spectrum", image).out
    assert "beta = " in text and "standard error" not in text


def test_audio_of_three_and_two_and_one_axes(sagd, tmp_path):
    signals = natural((1000,), 3, 4, 1.0)
    three = sagd("spectrum", save_npy(signals[:, None], tmp_path / "n1t.npy"), "--json").json
    two = sagd("spectrum", save_npy(signals, tmp_path / "nt.npy"), "--json").json
    assert three["shape"] == two["shape"] == [1000] and three["count"] == 4
    assert three["profile"] == two["profile"] and three["data"]["sha256"] == two["data"]["sha256"]
    assert abs(three["beta"] - 1) < 0.2
    one = sagd("spectrum", save_npy(signals[0], tmp_path / "t.npy"), "--json").json
    assert one["shape"] == [1000] and one["count"] == 1


def test_images_of_different_sizes_are_measured_in_tiles(sagd, tmp_path):
    for i, shape in enumerate([(64, 90), (80, 70), (100, 100)]):
        save_png(natural(shape, i)[0], tmp_path / f"{i}.png")
    document = sagd("spectrum", tmp_path, "--json").json
    assert document["shape"] == [64, 70] and document["count"] == 3
    refused(
        sagd("spectrum", tmp_path, "--window", "none"), 1, "differ in size or colours", "sagd data prepare"
    )


# Peaks and stripes


@pytest.mark.parametrize("frequency", [(0.31, -0.12), (0.0, 0.208), (-0.47, 0.46)])
def test_a_planted_wave_is_printed_as_a_band_that_covers_it(sagd, tmp_path, frequency):
    shape = (96, 128)
    image = save_png(natural(shape, 4)[0] + 0.5 * wave(shape, frequency), tmp_path / "a.png")
    document = sagd("spectrum", image, "--peaks", "--json").json
    (peak,) = document["peaks"]
    assert set(peak) == {"band", "f_y", "f_x", "excess_db"} and peak["excess_db"] > 15
    assert off(peak, frequency) < 1 / 96
    assert document["band"] == peak["band"] and covers(peak["band"], frequency, shape)
    assert not covers(peak["band"], (0.2, 0.3), shape)
    assert f"peak         {peak['band']}" in sagd("spectrum", image, "--peaks").out


def test_peaks_are_joined_into_one_band(sagd, tmp_path):
    shape, frequencies = (128, 128), [(0.3, 0.1), (0.05, -0.4), (0.25, 0.25)]
    field = natural(shape, 5)[0] + sum(0.4 * wave(shape, f) for f in frequencies)
    data = save_npy(field[None, None].astype(np.float32), tmp_path / "f.npy")
    document = sagd("spectrum", data, "--peaks", "--json").json
    assert document["band"] == "+".join(peak["band"] for peak in document["peaks"])
    assert len(document["peaks"]) == 3 and all(covers(document["band"], f, shape) for f in frequencies)
    heights = [peak["excess_db"] for peak in document["peaks"]]
    assert heights == sorted(heights, reverse=True)
    lines = sagd("spectrum", data, "--peaks").out.splitlines()
    assert lines[-1] == f"band         {document['band']}"


def test_omit_takes_the_band_and_the_wave_is_gone(sagd, tmp_path):
    frequency, shape = (0.3125, 0.125), (64, 64)
    save_png(natural(shape, 6)[0] + 0.5 * wave(shape, frequency), tmp_path / "a.png")
    band = sagd("spectrum", tmp_path / "a.png", "--peaks", "--json").json["band"]
    clean = tmp_path / "clean"
    command = ["omit", tmp_path / "a.png", "--band", band, "--estimate", "notch", "--output", clean]
    assert sagd(*command).code == 0
    power = [
        np.abs(np.fft.fft2(np.asarray(Image.open(path), float)))[20, 8]
        for path in (tmp_path / "a.png", clean / "a.png")
    ]
    assert power[1] < 0.02 * power[0]
    assert sagd("spectrum", clean / "a.png", "--peaks", "--json").json["peaks"] == []


@pytest.mark.parametrize(("axis", "name"), [(0, "horizontal"), (1, "vertical")])
def test_planted_stripes_are_named_by_their_direction(sagd, tmp_path, axis, name):
    offsets = np.expand_dims(0.5 * np.random.default_rng(7).standard_normal(128), 1 - axis)
    image = save_png(natural((128, 128), 7)[0] + offsets, tmp_path / "a.png")
    document = sagd("spectrum", image, "--peaks", "--json").json
    assert kinds(document) == {f"stripe:{name}"}
    (peak,) = document["peaks"]
    assert (peak["f_y"], peak["f_x"]) == ((None, 0.0), (0.0, None))[axis]
    for f in (0.1, 0.3, 0.49):
        assert covers(document["band"], (f, 0) if axis == 0 else (0, f), (128, 128))
        assert not covers(document["band"], (0, f) if axis == 0 else (f, 0), (128, 128))


def test_hum_in_audio_is_a_notch_in_one_dimension(sagd, tmp_path):
    """50 Hz and 100 Hz at 4 kHz, in four recordings of a second."""
    signals = natural((4000,), 8, 4) + 0.3 * wave((4000,), (0.0125,)) + 0.1 * wave((4000,), (0.025,))
    document = sagd("spectrum", save_npy(signals[:, None], tmp_path / "a.npy"), "--peaks", "--json").json
    assert len(document["peaks"]) == 2
    for frequency in (0.0125, 0.025):
        near = [peak for peak in document["peaks"] if abs(peak["f_x"] - frequency) <= 1 / 4000]
        assert len(near) == 1 and near[0]["f_y"] is None
        assert covers(near[0]["band"], (frequency,), (4000,))


def test_without_peaks_there_is_no_band(sagd, tmp_path):
    image = save_png(natural((96, 96), 9)[0], tmp_path / "a.png")
    document = sagd("spectrum", image, "--peaks", "--json").json
    assert document["peaks"] == [] and document["band"] is None
    assert sagd("spectrum", image, "--peaks").out.splitlines()[-1] == "peak         none found"


@pytest.mark.parametrize(("shape", "room"), [((20, 64), 21), ((48,), 49)])
def test_fields_too_small_for_peaks_are_said_to_be(sagd, tmp_path, shape, room):
    """An empty list would read as a clean bill of health."""
    data = save_npy(natural(shape, 0, 3)[:, None], tmp_path / "small.npy")
    result = sagd("spectrum", data, "--peaks", "--json")
    assert result.code == 0 and result.json["peaks"] == []
    warning = f"warning: no peaks were sought: they need fields of {room} samples along each axis at least"
    assert warning in result.err.splitlines()
    assert "no peaks were sought" not in sagd("spectrum", data).err
    large = save_npy(natural(tuple(max(n, room) for n in shape), 0, 3)[:, None], tmp_path / "large.npy")
    assert "no peaks were sought" not in sagd("spectrum", large, "--peaks").err


MARINER = [(0.462, -0.482), (0.477, 0.465), (0.009, 0.208)]


def test_the_interference_of_mariner_6(sagd, data_root):
    path = data_root / "corrupted" / "mariner6_mars_interference.png"
    document = sagd("spectrum", path, "--peaks", "--json").json
    strongest = document["peaks"][:3]
    nearest = [min(MARINER, key=lambda f: off(peak, f)) for peak in strongest]
    assert sorted(nearest) == sorted(MARINER)
    assert all(off(peak, f) < 0.01 for peak, f in zip(strongest, nearest, strict=True))
    assert kinds(document) == {
        "notch:" + peak["band"].split(":")[1].split(",")[0] for peak in document["peaks"]
    }
    assert all(covers(document["band"], f, tuple(document["shape"])) for f in MARINER)


@pytest.mark.parametrize(
    ("name", "found", "other"),
    [
        ("florida_satellite_scanlines.tif", "stripe:horizontal", "stripe:vertical"),
        ("sinogram_neutron_stripes.tif", "stripe:vertical", "stripe:horizontal"),
    ],
)
def test_the_stripes_of_real_images(sagd, data_root, name, found, other):
    document = sagd("spectrum", data_root / "corrupted" / name, "--peaks", "--json").json
    assert found in kinds(document) and other not in kinds(document)
    assert found in str(Band.parse(document["band"]))


# What is refused


def test_constant_images_have_no_spectrum(sagd, tmp_path):
    Image.new("L", (32, 32), 77).save(tmp_path / "a.png")
    refused(sagd("spectrum", tmp_path / "a.png", "--peaks"), 1, "constant")
    refused(sagd("spectrum", save_npy(np.full((3, 1, 40), 0.1), tmp_path / "c.npy")), 1, "constant")


def test_values_that_are_not_finite_name_the_image(sagd, tmp_path):
    array = np.zeros((5, 1, 16, 16), np.float32)
    array[3, 0, 0, 0] = np.nan
    refused(sagd("spectrum", save_npy(array, tmp_path / "n.npy")), 1, "image 3 of", "not finite")
    tifffile.imwrite(
        tmp_path / "n.tif", np.where(np.isnan(array[3, 0]), np.nan, np.eye(16, dtype=np.float32))
    )
    assert "missing data (NaN at 1 of its values)" in sagd("spectrum", tmp_path / "n.tif").err


def test_wrong_use(sagd, tmp_path):
    refused(sagd("spectrum", "digits", "--peaks", "--window", "none"), 2, "Hann window. Leave out --window.")
    refused(sagd("spectrum", "digits", "--window", "hamming"), 2, "unknown window 'hamming'", "hann and none")
    refused(sagd("spectrum", "digitz"), 2, "unknown dataset 'digitz'", "Did you mean digits")
    refused(sagd("spectrum", tmp_path), 2, "holds no image")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnot really")
    refused(sagd("spectrum", tmp_path), 1, "broken.png")


def test_a_missing_array_is_an_error_of_one_sentence(sagd):
    refused(sagd("spectrum", "no-such.npy"), 2, "there is no file no-such.npy")


def test_no_power_law_is_a_warning_and_the_profile_is_still_there(sagd, tmp_path):
    data = save_npy(
        np.random.default_rng(0).integers(0, 256, (5, 1, 4, 4), dtype=np.uint8), tmp_path / "s.npy"
    )
    result = sagd("spectrum", data, "--json")
    assert result.code == 0 and result.json["beta"] is None and result.json["beta_se"] is None
    assert len(result.json["profile"]) >= 4
    (line,) = result.err.splitlines()
    assert line.startswith("warning: no power law was fitted: a spectrum of 4x4 samples is too small")
    assert "power law" not in sagd("spectrum", data).out


# Figures and text


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_the_figure_is_written_once(sagd, tmp_path, suffix):
    shape = (64, 64)
    image = save_png(natural(shape, 4)[0] + 0.5 * wave(shape, (0.3, 0.1)), tmp_path / "a.png")
    plot = tmp_path / f"figure.{suffix}"
    arguments = ["spectrum", image, "--peaks", "--plot", plot]
    assert sagd(*arguments, "--json").json["plot"] == str(plot)
    first = plot.read_bytes()
    assert first.startswith(b"\x89PNG") if suffix == "png" else b"notch:" in first or b"<svg" in first[:600]
    refused(sagd(*arguments), 2, f"{plot} exists")
    assert sagd(*arguments, "--force").code == 0 and plot.read_bytes() == first


def test_signals_have_a_figure_too(sagd, tmp_path):
    data, plot = save_npy(natural((500,), 0, 3), tmp_path / "a.npy"), tmp_path / "figure.png"
    assert sagd("spectrum", data, "--peaks", "--plot", plot).code == 0
    with Image.open(plot) as figure:
        assert figure.width > 600


def test_the_text_fits_a_terminal_of_100_columns(tmp_path):
    shape = (128, 128)
    field = natural(shape, 5)[0] + sum(
        0.4 * wave(shape, f) for f in [(0.3, -0.1), (-0.05, 0.4), (0.25, 0.25)]
    )
    save_png(field + 0.4 * np.random.default_rng(0).standard_normal((128, 1)), tmp_path / "a.png")
    done = subprocess.run(
        [sys.executable, "-m", "sagd_cli", "spectrum", "a.png", "--peaks"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("band  ")] == lines[-1:]
    assert sum(line.startswith("peak  ") for line in lines) == 4
    assert max(map(len, lines[:-1])) <= 100
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("name", ["kodim02", "kodim04", "kodim10", "kodim24"])
def test_photographs_as_they_are_have_no_peaks(sagd, data_root, name):
    """Two of them have the faint pattern of their scanner at (1/2, 1/2), which is no damage."""
    image = data_root / "kodak" / f"{name}.png"
    if not image.is_file():
        pytest.skip(f"no {image}")
    assert sagd("spectrum", image, "--peaks", "--json").json["peaks"] == []


def test_slow_banding_is_named_though_the_band_of_its_stripe_spares_it(sagd, tmp_path):
    """Square bands of period 32: the fundamental is inside the guard of `stripe:`, so it is a notch of its own."""
    rows = 20 * np.sign(np.sin(2 * np.pi * (np.arange(256) + 0.5) / 32))
    texture = np.random.default_rng(0).normal(128, 8, (256, 256))
    image = np.clip(texture + rows[:, None], 0, 255).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "bands.png")
    found = sagd("spectrum", tmp_path / "bands.png", "--peaks", "--json").json
    mask = Band.parse(found["band"]).mask(FrequencyGrid((256, 256)))
    power = np.abs(np.fft.rfft2(rows[:, None] + np.zeros((256, 256)))) ** 2
    assert power[mask].sum() > 0.9 * power.sum()


def test_an_array_of_images_without_an_axis_of_colours_is_not_taken_for_signals(sagd, tmp_path):
    np.save(tmp_path / "nhw.npy", np.random.default_rng(0).integers(0, 256, (20, 28, 28), dtype=np.uint8))
    refused(sagd("spectrum", tmp_path / "nhw.npy"), 1, "20 images of 28x28 in 1 channel (nhw)")


def test_what_cannot_be_read_is_named_and_left_out(sagd, tmp_path):
    fields = np.random.default_rng(0).integers(0, 255, (6, 64, 64)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", fields, imagej=True)
    (tmp_path / "a.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:-1000])
    found = sagd("spectrum", tmp_path / "a.tif", "--json")
    assert found.code == 1 and found.json["count"] == 5
    assert found.err.count("a.tif, image 6, is cut off") == 1 and "5 ok, 1 failed" in found.err
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "empty.png").touch()
    refused(sagd("spectrum", tmp_path / "in"), 1, "empty.png is empty")
    save_png(natural((64, 64), 0)[0], tmp_path / "in" / "b.png")
    found = sagd("spectrum", tmp_path / "in", "--json")
    assert found.code == 1 and found.json["count"] == 1 and "empty.png is empty" in found.err
    fit = sagd("filter", "fit", tmp_path / "in")
    assert fit.code == 1 and "1 of 2 images" in fit.err
