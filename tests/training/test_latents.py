"""Float data: trained on as they are, sampled as they are, and refused as images unless they are grey or RGB."""

import json

import numpy as np
import pytest
import torch
from support.interruption import hashes

from sagd_cli.config.arguments import parse_dataset
from sagd_cli.config.layers import resolve
from sagd_cli.data.images import contact_sheet, read_image
from sagd_cli.data.ranges import UNIT, ToBytes
from sagd_cli.datasets.loading import load_images
from sagd_cli.report.portrait import portray
from sagd_cli.run.folder import Run, open_run
from sagd_cli.run.manifest import Checkpoint, Manifest
from sagd_cli.sampling.generator import ImageGenerator
from sagd_cli.system.console import Output
from sagd_cli.training.train import run_training

CPU = torch.device("cpu")
QUIET = Output(quiet=True)


def config_of(path, settings):
    return resolve({**settings, "dataset": {"name": "npy", "options": {"path": str(path)}}})


def save(path, values):
    np.save(path, values)
    return path


@pytest.fixture
def latents():
    """Smooth fields of unit variance, (N, 4, 8, 8), exact in float16."""
    white = np.random.default_rng(0).normal(size=(64, 4, 8, 8))
    return ((white + np.roll(white, 1, -1)) / 2**0.5).astype(np.float16)


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_settings):
    """A run of 8 steps on float16 data whose values are up to about 4."""
    folder = tmp_path_factory.mktemp("latents")
    values = np.random.default_rng(1).normal(size=(64, 4, 8, 8)).astype(np.float16)
    run_training(config_of(save(folder / "a.npy", values), tiny_settings), folder / "run", CPU, QUIET)
    return folder / "run"


def test_pixels_and_the_same_signal_in_floats_train_the_same_network(tmp_path, tiny_settings):
    pixels = np.random.default_rng(2).integers(0, 256, (40, 1, 8, 8), dtype=np.uint8)
    signal = (torch.from_numpy(pixels).float() / 127.5 - 1).numpy()
    found = []
    for name, values in (("pixels", pixels), ("signal", signal)):
        run_training(
            config_of(save(tmp_path / f"{name}.npy", values), tiny_settings), tmp_path / name, CPU, QUIET
        )
        found.append(hashes(tmp_path / name)["model.safetensors"])
    assert found[0] == found[1]


def test_the_width_of_the_floats_changes_nothing(tmp_path, tiny_settings, latents):
    found = []
    for dtype in ("float16", "float32"):
        path = save(tmp_path / f"{dtype}.npy", latents.astype(dtype))
        run_training(config_of(path, tiny_settings), tmp_path / dtype, CPU, QUIET)
        found.append(hashes(tmp_path / dtype))
        assert open_run(tmp_path / dtype, QUIET).dtype == dtype
    assert found[0] == found[1]


def test_a_manifest_that_does_not_name_a_type_is_of_pixels(tiny_run):
    opened = open_run(tiny_run, QUIET)
    assert opened.dtype == np.uint8
    written = opened.checkpoint.manifest.model_dump(exclude={"dtype"})
    manifest = Manifest.model_validate(written)
    old = Run(opened.path, opened.config, Checkpoint(opened.checkpoint.path, manifest), opened.shape)
    assert old.dtype == np.uint8


def test_samples_are_floats_beyond_the_range_of_images(sagd, run, tmp_path):
    common = ["sample", run, "-n", 8, "--steps", 5, "--output", tmp_path / "s"]
    assert sagd(*common).code == 0  # the format that suits it
    with np.load(tmp_path / "s" / "samples.npz") as archive:
        images = archive["images"]
    assert images.dtype == np.float32 and images.shape == (8, 4, 8, 8)
    assert np.abs(images).max() > 1.5  # neither the samples nor the estimates of x0 on the way were clipped
    again = sagd("data", "info", tmp_path / "s" / "samples.npz", "--json").json
    assert again["dtype"] == "float32"


@pytest.mark.parametrize("options", [["--format", "tiff"], ["--format", "png"], ["--grid", "grid.png"]])
def test_latents_are_not_drawn(sagd, run, tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    result = sagd("sample", run, "-n", 2, "--output", "s", *options)
    assert result.code == 2 and "fields of float16 of shape (4, 8, 8) cannot be drawn as images" in result.err
    assert "--format npz" in result.err and list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def float_run(tmp_path_factory, tiny_settings):
    """A run of 8 steps on float RGB images, of which many values are beyond black and white."""
    folder = tmp_path_factory.mktemp("floats")
    values = np.random.default_rng(3).normal(size=(20, 3, 8, 8)).astype(np.float32)
    settings = {**tiny_settings, "training.sample_images": 64, "sampling.steps": 3}
    run_training(config_of(save(folder / "a.npy", values), settings), folder / "run", CPU, QUIET)
    return folder / "run"


def drawn(run, count):
    opened = open_run(run, QUIET)
    return ImageGenerator(opened.model(CPU), opened.config.sampling).draw(range(count))


def test_samples_of_float_images_are_tiff_files_that_lose_nothing(sagd, float_run, tmp_path):
    expected = drawn(float_run, 4)
    assert np.abs(expected).max() > 1.5
    result = sagd("sample", float_run, "-n", 4, "--output", tmp_path / "s", "--grid", tmp_path / "grid.png")
    assert result.code == 0, result.err
    assert sorted(path.name for path in (tmp_path / "s").glob("0*")) == [f"{i:06d}.tiff" for i in range(4)]
    for i in range(4):
        image = read_image(tmp_path / "s" / f"{i:06d}.tiff")
        assert image.pixels.dtype == np.float32 and image.range == UNIT  # the file states black and white
        np.testing.assert_allclose(image.pixels, (expected[i] + 1) / 2, rtol=1e-6, atol=1e-6)
    change = ToBytes()
    sheet = contact_sheet(change(0, expected))
    np.testing.assert_array_equal(read_image(tmp_path / "grid.png").pixels, sheet)
    assert f"{change.clipped:,} of 768 were beyond" in " ".join(result.err.split()) and change.clipped > 100
    again = load_images(parse_dataset(str(tmp_path / "s"))).images
    np.testing.assert_allclose(again, expected, rtol=1e-6, atol=1e-6)


def test_sheets_and_reports_show_float_images(float_run):
    sheet = read_image(float_run / "samples" / "step-00000008.png").pixels.astype(int)
    expected = contact_sheet(ToBytes()(0, drawn(float_run, 64)))
    assert np.abs(sheet - expected).max() <= 1 and sheet.std() > 50  # of two computations, one may round up
    portrait = portray(float_run, CPU, 4, QUIET)
    assert portrait.missing == [] and portrait.sheet.shape[0] == 3 and portrait.sheet.dtype == np.uint8


def test_a_format_that_would_clip_is_refused(sagd, float_run, tmp_path):
    result = sagd("sample", float_run, "-n", 2, "--format", "png", "--output", tmp_path / "s")
    assert result.code == 2 and "PNG files would clip" in result.err and "--format tiff" in result.err
    result = sagd("sample", float_run, "-n", 2, "--format", "jpeg", "--output", tmp_path / "s")
    assert result.code == 2 and "Formats are png, tiff and npz" in result.err
    assert not (tmp_path / "s").exists()


def test_samples_of_bytes_are_png_files_by_default_and_tiff_on_demand(sagd, tiny_run, tmp_path):
    for name, options, suffix in (("a", [], "png"), ("b", ["--format", "tiff"], "tiff")):
        assert (
            sagd("sample", tiny_run, "-n", 2, "--steps", 3, "--output", tmp_path / name, *options).code == 0
        )
        assert sorted(path.name for path in (tmp_path / name).glob("0*")) == [
            f"{i:06d}.{suffix}" for i in (0, 1)
        ]
    one, two = (load_images(parse_dataset(str(tmp_path / name))).images for name in "ab")
    np.testing.assert_array_equal(one, two, strict=True)


@pytest.mark.slow
def test_damaged_files_are_trained_on_sampled_and_measured(sagd, tmp_path, tiny_settings):
    """Each command takes what the one before wrote, without an option that says what it is."""
    clean, damaged, data, run, samples = (tmp_path / name for name in ("c", "d", "d.npy", "run", "s"))
    digits = load_images(parse_dataset("digits:test")).images[:24]
    assert sagd("data", "prepare", save(tmp_path / "c.npy", digits), "--output", clean).code == 0
    assert sagd("corrupt", clean, "--band", "high", "--strength", 0.5, "--output", damaged).code == 0
    assert sagd("data", "prepare", damaged, "--output", data).code == 0
    tiny = [word for key, value in tiny_settings.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    trained = sagd("train", "--dataset", data, "--omit-band", "high", *tiny, "--output", run)
    assert trained.code == 0 and f"sagd sample {run}" in " ".join(trained.err.split())
    assert sagd("sample", run, "-n", 4, "--output", samples).code == 0
    assert load_images(parse_dataset(str(samples))).images.dtype == np.float32
    measure = ("--metrics", "fid", "--count", 4, "--json")
    stored, again = (sagd("fid", source, "digits:test", *measure) for source in (samples, run))
    assert stored.code == again.code == 0, (stored.err, again.err)
    assert "were clipped" in stored.err and "were clipped" in again.err
    assert stored.json["fd"] == pytest.approx(again.json["fd"], rel=1e-2)


def test_what_needs_images_refuses_latents(sagd, tmp_path):
    path = save(tmp_path / "a.npy", np.random.default_rng(4).normal(size=(20, 4, 8, 8)).astype(np.float32))
    assert sagd("data", "prepare", "digits:test", "--output", tmp_path / "digits").code == 0
    before = sorted(tmp_path.iterdir())
    for command in (
        ["fid", path, "digits"],
        ["fid", "digits", path],
        ["omit", tmp_path / "digits", "--band", "high", "--reference", path],
        ["data", "prepare", path, "--output", tmp_path / "png"],
    ):
        result = sagd(*command)
        assert result.code == 2 and f"{path} holds float32 fields of shape (4, 8, 8)" in result.err
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_image_that_is_not_finite_is_named(sagd, tmp_path, latents, value):
    latents[[17, 40], 2, 3, 4] = value
    path = save(tmp_path / "a.npy", latents)
    for command in (["train", "--dataset", path, "--output", tmp_path / "run"], ["data", "info", path]):
        result = sagd(*command)
        assert result.code == 1 and f"image 17 of {path} holds values that are not finite" in result.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("scale", "warned"), [(0.25, True), (0.35, False), (2.8, False), (3.5, True)])
def test_data_far_from_unit_scale_are_warned_of(tmp_path, tiny_settings, capfd, scale, warned):
    values = np.random.default_rng(5).normal(size=(64, 1, 8, 8)).astype(np.float32)
    path = save(tmp_path / "a.npy", values / values.std() * np.float32(scale))
    run_training(config_of(path, {**tiny_settings, "training.images": 8}), tmp_path / "run", CPU, QUIET)
    assert (f"standard deviation {scale:.3g}" in " ".join(capfd.readouterr().err.split())) == warned
