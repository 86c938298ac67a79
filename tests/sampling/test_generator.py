"""The precision and the device of the noise that samples are drawn with, and where both are said."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sagd_cli.config.layers import resolve
from sagd_cli.evaluation.sources import run_source
from sagd_cli.run.folder import open_run
from sagd_cli.sampling.generator import ImageGenerator, sampling_of
from sagd_cli.system import devices
from sagd_cli.system.console import Output
from sagd_cli.training.task import Task

CPU, QUIET = torch.device("cpu"), Output(quiet=True)


def generator_of(tiny_settings, trained="auto", **chosen):
    task = Task.of(resolve({**tiny_settings, "training.precision": trained}))
    model = task.model(task.start(CPU)[0], "run")
    return ImageGenerator(model, sampling_of(model.config, {"steps": 2, **chosen}))


def test_precision_is_that_of_training_unless_it_is_chosen(tiny_settings):
    for trained, chosen, said in (
        ("auto", "auto", "fp32"),
        ("bf16", "auto", "bf16"),
        ("bf16", "fp32", "fp32"),
        ("fp32", "bf16", "bf16"),
    ):
        generator = generator_of(tiny_settings, trained, precision=chosen)
        assert generator.settings["precision"] == said
        assert generator.settings["noise_device"] == "cpu"
    exact, rounded = (generator_of(tiny_settings, precision=p).signals(range(4)) for p in ("fp32", "bf16"))
    assert not torch.equal(exact, rounded)


@pytest.mark.parametrize(
    ("recorded", "setting", "gains", "said"),
    [
        ("fp32", "auto", True, "fp32"),
        (None, "auto", True, "fp32"),
        ("bf16", "auto", True, "bf16"),
        ("bf16", "auto", False, "fp32"),
        (None, "bf16", False, "bf16"),
    ],
)
def test_auto_is_the_precision_of_the_checkpoint(tiny_settings, monkeypatch, recorded, setting, gains, said):
    monkeypatch.setattr(devices, "_cpu_has_bfloat16", lambda: gains)
    monkeypatch.setattr(devices, "WIDE", 1)
    model = replace(generator_of(tiny_settings, setting).model, precision=recorded)
    assert ImageGenerator(model, model.config.sampling).settings["precision"] == said


def test_a_run_says_what_it_was_trained_in(tiny_run):
    assert open_run(tiny_run, QUIET).model(CPU).precision == "fp32"


def test_a_run_is_measured_in_fp32_unless_its_settings_say_otherwise(tiny_run):
    run = open_run(tiny_run, QUIET)
    half = run.config.model_copy(
        update={"training": run.config.training.model_copy(update={"precision": "bf16"})}
    )
    run = type(run)(run.path, half, run.checkpoint, run.shape)
    assert run_source(run, 2).sampling["precision"] == "fp32"
    said = sampling_of(run.config, {"precision": "bf16"})
    assert run_source(run, 2, sampling=said).sampling["precision"] == "bf16"


def test_sample_says_precision_and_device(sagd, tiny_run, tmp_path):
    drawn = sagd("sample", tiny_run, "-n", 1, "--steps", 1, "--output", tmp_path / "drawn", "--json").json
    assert (drawn["precision"], drawn["noise_device"]) == ("fp32", "cpu")


def test_noise_of_the_cpu_is_the_default_there(tiny_settings):
    by_default, chosen = (
        generator_of(tiny_settings, sampler="ddpm", noise_device=where).draw(range(2))
        for where in ("auto", "cpu")
    )
    assert np.array_equal(by_default, chosen)
