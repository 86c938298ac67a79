"""What `sagd omit` refuses: one sentence, the right exit code, and nothing written."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image as Picture

from sagd_cli.config.layers import resolve
from sagd_cli.data.images import Image
from sagd_cli.restoration.prepared import saturated_share
from sagd_cli.system.console import Output
from sagd_cli.training.train import run_training


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """Twenty digits that no writer of the training split wrote."""
    from sklearn.datasets import load_digits

    folder = tmp_path_factory.mktemp("clean")
    for i, image in enumerate(load_digits().images[1500:1520]):
        tifffile.imwrite(folder / f"{i:02d}.tiff", (image / 16).astype(np.float32))
    return folder


@pytest.fixture(scope="module")
def restorer(tmp_path_factory, tiny_settings):
    """A run that restores the band `mid` from strengths of 0.1 to 1."""
    path = tmp_path_factory.mktemp("runs") / "restorer"
    wanted = {"restoration": {"bands": ["mid"], "strengths": [0.1, 1.0]}, "training.images": 8}
    run_training(resolve({**tiny_settings, **wanted}), path, torch.device("cpu"), Output(quiet=True))
    return path


@pytest.fixture
def refused(sagd, clean, tmp_path):
    """Call `omit` on the digits, and see one sentence with an exit code and nothing written."""

    def check(code, fragment, *arguments, source=clean):
        before = sorted(tmp_path.rglob("*"))
        result = sagd("omit", source, "--output", tmp_path / "o", *arguments)
        assert result.code == code, result
        lines = [line for line in result.err.splitlines() if line.startswith("error:")]
        assert len(lines) == 1 and fragment in lines[0], result.err
        assert "Traceback" not in result.err and sorted(tmp_path.rglob("*")) == before

    return check


@pytest.mark.parametrize(
    ("fragment", "arguments"),
    [
        ("holds no frequency", "--band 0.01:0.02"),
        ("holds no frequency", "--band 0.01:0.02 --estimate notch --strength 0.5"),
        ("strength must be from 1e-06 to 1e+06", "--band mid --strength 0"),
        ("strength must be from 1e-06 to 1e+06", "--band mid --strength=-1"),
        ("strength must be from 1e-06 to 1e+06", "--band mid --strength nan"),
        ("strength must be from 1e-06 to 1e+06", "--band mid --strength 1e7"),
        ("--band and --noise both say", "--band mid --noise white"),
        ("--strength is for noise that is told", "--strength 0.1"),
        ("--strength is for noise that is told", "--band auto --strength 0.1"),
        ("strength must be from 1e-06 to 1e+06", "--noise white:level=0"),
        ("leaves no frequency", "--noise white:level=inf"),
        ("unknown noise 'wite'", "--noise wite"),
        ("noise of one spectrum", "--noise white+mid --reference digits --per-image"),
        ("--learn needs to know the noise", "--learn"),
        ("--learn learns from the images themselves", "--band mid --learn --estimate notch"),
        ("auto, inf or a number", "--band mid --strength much"),
        ("unknown estimate 'best'", "--band mid --estimate best"),
        ("--strength inf needs to know", "--band mid --strength inf --learn"),
        ("--estimate sample needs to know", "--band mid --estimate sample --learn"),
        ("--estimate ode needs to know", "--band mid --estimate ode --learn"),
        ("--per-image needs to know", "--band mid --per-image --learn"),
        ("--uncertainty needs to know", "--band mid --uncertainty u --learn"),
        ("notch has no uncertainty", "--band mid --uncertainty u --estimate notch"),
        ("ode has no uncertainty", "--band mid --uncertainty u --estimate ode --reference digits"),
        ("strengths that are measured", "--band mid --per-image --reference digits --strength 1"),
        ("strengths that are measured", "--band mid --per-image --reference digits --estimate notch"),
        ("one draw has no deviation", "--band mid --uncertainty u --reference digits --draws 1"),
        ("mean draws nothing", "--band mid --reference digits --draws 2"),
        ("learns nothing to save", "--band mid --estimate notch --save-model run"),
        ("unknown dataset 'nothing'", "--band mid --reference nothing"),
    ],
)
def test_settings_that_mean_nothing_or_do_not_go_together(refused, fragment, arguments):
    refused(2, fragment, *arguments.split())


@pytest.mark.parametrize("option", ["--learn", "--save-model"])
def test_the_hint_names_the_option_that_was_given(sagd, clean, tmp_path, option):
    value = [tmp_path / "run"] if option == "--save-model" else []
    omit = ("omit", clean, "--band", "mid", "--estimate", "sample", "--output", tmp_path / "o")
    result = sagd(*omit, option, *value)
    assert result.code == 2 and f"Leave out {option}, or give a --reference" in result.err


def test_models_that_do_not_fit(refused, restorer, tiny_run, tmp_path):
    model = ("--model", restorer, "--strength", 0.5)
    refused(2, "trained for the bands mid, not for 0.5:1", "--band", "high", *model)
    refused(2, "trained for strengths from 0.1 to 1", "--band", "mid", "--model", restorer, "--strength", 2)
    refused(2, "and needed are 0.025 to 0.5", "--band", "mid", *model, "--estimate", "sample")
    refused(2, "trained to make images", "--band", "mid", "--model", tiny_run, "--strength", 0.5)
    refused(2, "missing", "--band", "mid", "--model", tmp_path / "missing", "--strength", 0.5)
    refused(2, "nothing is learned to save", "--band", "mid", *model, "--save-model", tmp_path / "run")


def test_a_restoring_run_makes_no_images(sagd, restorer, tmp_path):
    sampled = sagd("sample", restorer, "-n", 2, "--output", tmp_path / "o")
    assert sampled.code == 2 and f"sagd omit --model {restorer}" in sampled.err
    assert not (tmp_path / "o").exists()


def test_outputs_that_exist_or_would_mix(refused, clean, restorer, tmp_path):
    kept = ("--band", "mid", "--strength", 0.5, "--reference", "digits")
    refused(2, "was trained with other settings", *kept, "--save-model", restorer)
    refused(2, "exists already", *kept, "--save-model", clean)
    refused(2, "lie among the images", *kept, "--uncertainty", tmp_path / "o")
    refused(2, "is where the input is", *kept, "--uncertainty", clean)
    twice = shutil.copytree(clean, tmp_path / "twice")
    shutil.copy(twice / "00.tiff", twice / "00.2.tiff")
    draws = ("--estimate", "sample", "--draws", 2)
    refused(2, "would both be written to 00.2.tiff", *kept, *draws, source=twice)
    shutil.copy(twice / "00.tiff", twice / "00.tif")
    refused(2, "would both be written to 00.tiff", *kept, "--uncertainty", tmp_path / "u", source=twice)


def test_images_without_noise_are_not_changed(refused, clean, tmp_path):
    refused(1, "no more power than a power law explains", "--band", "high")
    refused(1, "no more power than the reference explains", "--band", "high", "--reference", "digits")
    flat = tmp_path / "flat"
    flat.mkdir()
    for i in range(10):
        tifffile.imwrite(flat / f"{i}.tiff", np.full((8, 8), i / 10, np.float32))
    refused(1, "constant", "--band", "high", source=flat)
    refused(1, "constant", "--band", "auto", source=flat)


def test_a_band_that_was_erased_cannot_be_learned_from_what_is_left(sagd, refused, tmp_path):
    """Photographs without any power in the band: the power law says that it is lost."""
    folder = tmp_path / "erased"
    folder.mkdir()
    radius = np.hypot(np.fft.fftfreq(40)[:, None], np.fft.rfftfreq(40)[None])
    for i in range(10):
        white = np.random.default_rng(i).standard_normal((40, 40))
        kept = np.fft.rfft2(white) / (radius + 0.02) * (radius / np.sqrt(0.5) < 0.6)
        tifffile.imwrite(
            folder / f"{i}.tiff", (0.5 + np.fft.irfft2(kept, s=(40, 40)) / 200).astype(np.float32)
        )
    refused(1, "is lost in all images", "--band", "0.6:1", source=folder)


def test_images_too_small_to_learn_from(refused, tmp_path):
    folder = tmp_path / "tiny"
    folder.mkdir()
    tifffile.imwrite(folder / "a.tiff", np.random.default_rng(0).random((3, 3)).astype(np.float32))
    refused(1, "3x3 pixels is too small to learn from", "--band", "high", "--strength", 0.5, source=folder)


@pytest.mark.parametrize("noise", ["stripe:horizontal,0,0", "stripe:90,0,0+notch:0.25,0.1,0.02"])
def test_noise_that_is_not_certain_stays_unless_the_band_is_emptied(sagd, tmp_path, noise):
    smooth = np.add.outer(np.linspace(60, 150, 64), np.linspace(0, 40, 80)).astype(np.uint8)
    Picture.fromarray(smooth).save(tmp_path / "a.png")
    omit = ("omit", tmp_path / "a.png", "--noise", noise, "--output", tmp_path / "o", "--estimate")
    refused = sagd(*omit, "wiener")
    assert refused.code == 1 and "is certain in the images" in refused.err
    assert "Nothing was changed" in refused.err and not (tmp_path / "o").exists()
    emptied = sagd(*omit, "notch")
    assert emptied.code == 0 and (tmp_path / "o" / "a.png").exists()
    assert "may be of the images alone" in emptied.err and "othing was changed" not in emptied.err


def test_constant_images_hold_no_clipped_noise():
    grey = np.random.default_rng(0).integers(0, 2, (1, 8, 8)).astype(np.uint8) * 255
    images = [Image(pixels, None, Path("a.png")) for pixels in (np.full((1, 8, 8), 255, np.uint8), grey)]
    assert saturated_share(images[:1]) == 0 and saturated_share(images) == 1
