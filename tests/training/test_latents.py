"""Float data: trained on as they are, sampled as they are, and refused wherever pixels are needed."""

import numpy as np
import pytest
import torch
from support.interruption import hashes

from sagd_cli.config.layers import resolve
from sagd_cli.run.folder import Run, open_run
from sagd_cli.run.manifest import Checkpoint, Manifest
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
    assert sagd(*common, "--format", "npz").code == 0
    with np.load(tmp_path / "s" / "samples.npz") as archive:
        images = archive["images"]
    assert images.dtype == np.float32 and images.shape == (8, 4, 8, 8)
    assert np.abs(images).max() > 1.5  # neither the samples nor the estimates of x0 on the way were clipped
    again = sagd("data", "info", tmp_path / "s" / "samples.npz", "--json").json
    assert again["dtype"] == "float32"


@pytest.mark.parametrize("options", [[], ["--format", "png"], ["--format", "npz", "--grid", "grid.png"]])
def test_float_samples_are_not_drawn(sagd, run, tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    result = sagd("sample", run, "-n", 2, "--output", "s", *options)
    assert result.code == 2 and "fields of float16 of shape (4, 8, 8) cannot be drawn as images" in result.err
    assert "--format npz" in result.err and list(tmp_path.iterdir()) == []


def test_float_fields_of_one_channel_are_not_drawn_either(sagd, tmp_path, tiny_settings):
    path = save(tmp_path / "a.npy", np.random.default_rng(3).normal(size=(20, 1, 8, 8)).astype(np.float32))
    run_training(config_of(path, tiny_settings), tmp_path / "run", CPU, QUIET)
    result = sagd("sample", tmp_path / "run", "-n", 2)
    assert result.code == 2 and "fields of float32 of shape (1, 8, 8)" in result.err


def test_what_needs_pixels_refuses_floats(sagd, tmp_path):
    path = save(tmp_path / "a.npy", np.random.default_rng(4).normal(size=(20, 1, 8, 8)).astype(np.float32))
    assert sagd("data", "prepare", "digits:test", "--output", tmp_path / "digits").code == 0
    before = sorted(tmp_path.iterdir())
    for command in (
        ["fid", path, "digits"],
        ["fid", "digits", path],
        ["omit", tmp_path / "digits", "--band", "high", "--reference", path],
        ["data", "prepare", path, "--output", tmp_path / "png"],
    ):
        result = sagd(*command)
        assert result.code == 2 and f"{path} is float32 data" in result.err and "Traceback" not in result.err
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
