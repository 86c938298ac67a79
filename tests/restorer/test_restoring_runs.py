"""`sagd train --restore`: runs that are trained like any other, and that `omit --model` serves from."""

import numpy as np
import pytest
import tifffile
import torch
from support.interruption import hashes, stop_at

from sagd_cli.config.layers import resolve
from sagd_cli.errors import ConfigError, Interrupted
from sagd_cli.system.console import Output
from sagd_cli.training.train import run_training

CPU, WEAKEST = torch.device("cpu"), "the strength must be from 1e-06 to"


@pytest.fixture(scope="module")
def config(tiny_settings):
    return resolve({**tiny_settings, "restoration.bands": ["mid", "rings"], "training.images": 48})


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "restorer"
    run_training(config, path, CPU, Output(quiet=True))
    return path


def test_stopping_and_resuming_equals_one_go_bit_for_bit(config, run, tmp_path):
    with pytest.raises(Interrupted):
        run_training(config, tmp_path / "run", CPU, stop_at(3))
    assert run_training(config, tmp_path / "run", CPU, Output(quiet=True))["step"] == 6
    assert hashes(tmp_path / "run") == hashes(run)


@pytest.mark.parametrize("band", ["mid", "0.3:0.9", "low"])
@pytest.mark.parametrize("shape", [(8, 8), (3, 5), (13, 9)], ids=str)
def test_it_serves_its_bands_at_any_size(sagd, run, tmp_path, band, shape):
    """Outside the band the images come back as they were."""
    folder = tmp_path / "in"
    folder.mkdir()
    image = np.random.default_rng(0).random(shape).astype(np.float32)
    tifffile.imwrite(folder / "a.tiff", image)
    tifffile.imwrite(folder / "large.tiff", np.pad(image, 8, mode="reflect" if min(shape) > 8 else "wrap"))
    omit = ("omit", folder, "--band", band, "--model", run, "--strength", 0.5, "--output", tmp_path / "o")
    assert sagd(*omit).code == 0
    rho = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None]) / np.sqrt(0.5)
    low, high = {"mid": (0.25, 0.5), "low": (0, 0.25)}.get(band, (0.3, 0.9))
    change = np.fft.rfft2(tifffile.imread(tmp_path / "o" / "a.tiff") - image)
    assert np.abs(change[(rho < low - 1e-9) | (rho >= high)]).max() < 1e-4 * np.abs(np.fft.rfft2(image)).max()


def test_a_finished_training_says_how_to_use_it(sagd, tiny_settings, tmp_path):
    settings = [f"--set={key}={value}" for key, value in tiny_settings.items() if key != "training.images"]
    result = sagd("train", "--restore", "mid", *settings, "--steps", 1, "--output", tmp_path / "run")
    assert result.code == 0 and f"sagd omit INPUT --band BAND --model {tmp_path / 'run'}" in result.err


def test_squares_larger_than_the_images_and_choices_that_are_none_are_refused(tiny_settings, tmp_path):
    wanted = {**tiny_settings, "restoration.bands": ["mid"]}
    with pytest.raises(ConfigError, match="squares of 64 pixels cannot be cut from images of 8x8"):
        run_training(resolve({**wanted, "training.crops": [64]}), tmp_path / "run", CPU, Output(quiet=True))
    with pytest.raises(ConfigError, match="no choice of loss"):
        resolve({**wanted, "loss": "whitened"})
    with pytest.raises(ConfigError, match="unknown noise 'wite'"):
        resolve({**wanted, "restoration.bands": ["mid", "wite:level=0.1"]})
    with pytest.raises(ConfigError, match="damage is noise of one spectrum"):
        resolve({**wanted, "restoration.bands": ["mid", "low"], "restoration.damage": 0.5})
    with pytest.raises(ConfigError, match="least to the largest"):
        resolve({**wanted, "restoration.strengths": [1.0, 0.1]})
    for level, words in (("inf", "levels are finite"), (0, WEAKEST), (1e-7, WEAKEST)):
        with pytest.raises(ConfigError, match=words):
            resolve({**wanted, "restoration.bands": [f"mid:level={level}"]})
    with pytest.raises(ConfigError, match=WEAKEST):
        resolve({**wanted, "restoration.strengths": [1e-7, 1.0]})
    with pytest.raises(ConfigError, match=r"from:dark\.tif was not measured"):
        unread = resolve({**wanted, "restoration.bands": ["mid", "from:dark.tif"]})
        run_training(unread, tmp_path / "run", CPU, Output(quiet=True))
    assert not (tmp_path / "run").exists()
