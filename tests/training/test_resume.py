"""Rerun to resume: what a step computes depends on (seed, step) alone."""

import fcntl
import json
import os
import shutil
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from support.interruption import hashes, stop_at

from sagd_cli.config.arguments import parse_dataset
from sagd_cli.config.layers import resolve
from sagd_cli.design.advice import data_moments
from sagd_cli.diffusion.schedule import make_schedule
from sagd_cli.errors import CheckpointError, Interrupted, SagdError, UsageError
from sagd_cli.run.folder import open_run, read_config
from sagd_cli.run.manifest import newest
from sagd_cli.spectral.filter import SpectralFilter
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.snr import largest_snr
from sagd_cli.system import devices
from sagd_cli.system.console import Output
from sagd_cli.system.signals import stop_on_signal
from sagd_cli.training import train
from sagd_cli.training.batches import Ahead, Batches, Views
from sagd_cli.training.train import Conduct, run_training

CPU = torch.device("cpu")
QUIET = Output(quiet=True)


@pytest.mark.parametrize("step", [1, 3, 7])
def test_stopping_and_resuming_equals_one_go_bit_for_bit(tiny_run, tiny_config, tmp_path, step):
    run = tmp_path / "run"
    with pytest.raises(Interrupted) as stop:
        run_training(tiny_config, run, CPU, stop_at(step))
    assert stop.value.exit_code == 128 + signal.SIGTERM
    assert run_training(tiny_config, run, CPU, QUIET)["step"] == 8
    assert hashes(run) == hashes(tiny_run)
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 9))


def without_precision(folder, output):
    found = newest(folder, output)
    return replace(found, manifest=found.manifest.model_copy(update={"precision": None}))


def test_another_precision_of_auto_on_resuming_is_said(tiny_config, tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    run_training(tiny_config, run, CPU, QUIET, Conduct(until=2))
    run_training(tiny_config, run, CPU, Output(), Conduct(until=4))
    assert "auto means" not in capsys.readouterr().err
    assert open_run(run, QUIET).checkpoint.manifest.precision == "fp32"
    monkeypatch.setattr(devices, "_cpu_has_bfloat16", lambda: True)
    monkeypatch.setattr(devices, "WIDE", 1)
    with monkeypatch.context() as patch:  # an early checkpoint does not tell it, and auto was fp32 on CPUs
        patch.setattr(train, "newest", without_precision)
        run_training(tiny_config, run, CPU, Output(), Conduct(until=4))
        assert "was trained in fp32 until step 4, and goes on in bf16" in capsys.readouterr().err
    run_training(tiny_config, run, CPU, Output())
    assert "was trained in fp32 until step 4, and goes on in bf16" in capsys.readouterr().err
    assert open_run(run, QUIET).checkpoint.manifest.precision == "bf16"


@pytest.mark.parametrize("step", [3])
def test_in_bf16_too_stopping_and_resuming_equals_one_go(tiny_settings, tmp_path, step):
    config = resolve({**tiny_settings, "training.precision": "bf16"})
    with pytest.raises(Interrupted):
        run_training(config, tmp_path / "stopped", CPU, stop_at(step))
    for name in ("stopped", "whole"):
        run_training(config, tmp_path / name, CPU, QUIET)
    assert hashes(tmp_path / "stopped") == hashes(tmp_path / "whole")


@pytest.fixture
def interruptible():
    """Python's own answer to SIGINT, which a parent process may have switched off."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_second_signal_is_not_held_back(interruptible):
    with pytest.raises(KeyboardInterrupt), stop_on_signal() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested() and stop.signum == signal.SIGINT
        os.kill(os.getpid(), signal.SIGINT)


def test_a_finished_run_is_left_alone(tiny_run, tiny_config):
    before = hashes(tiny_run)
    assert run_training(tiny_config, tiny_run, CPU, QUIET)["checkpoint"].endswith("step-00000008")
    assert hashes(tiny_run) == before


def test_other_settings_are_refused_by_key(tiny_run, tiny_settings):
    other = resolve({**tiny_settings, "training.learning_rate": 1e-4, "filter.type": "white"})
    with pytest.raises(UsageError, match=r"filter\.type, training\.learning_rate differ"):
        run_training(other, tiny_run, CPU, QUIET)


def test_a_run_in_use_is_refused(tiny_run, tiny_config):
    with (tiny_run / "run.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="another process is training"):
            run_training(tiny_config, tiny_run, CPU, QUIET)


def test_a_folder_that_is_no_run_is_not_touched(tmp_path, tiny_config):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="is not a run"):
        run_training(tiny_config, tmp_path, CPU, QUIET)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_torn_metrics_line_is_dropped(tiny_config, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        run_training(tiny_config, run, CPU, stop_at(3))
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "los')
    run_training(tiny_config, run, CPU, QUIET)
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == list(range(1, 9))
    assert all(record["images"] == 8 * record["step"] for record in records)


def test_a_loss_that_is_not_finite_stops_before_anything_is_saved(tmp_path, tiny_settings):
    diverging = resolve({**tiny_settings, "training.learning_rate": 1e30, "training.gradient_clip": 1e30})
    with pytest.raises(SagdError, match=r"not finite at step \d+ \(learning rate"):
        run_training(diverging, tmp_path / "run", CPU, QUIET)
    saved = list((tmp_path / "run" / "checkpoints").glob("*/*.safetensors"))
    assert all(torch.isfinite(value).all() for path in saved for value in load_file(path).values())


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"backbone.options": {"channels": [8, 8], "attention": [False, False], "dropout": 0.3}},
        {"backbone.name": "dit", "backbone.options": {"depth": 1, "heads": 1, "head_width": 16}},
    ],
    ids=["dropout", "dit"],
)
def test_networks_with_randomness_of_their_own_resume_bit_for_bit(tiny_settings, settings, tmp_path):
    config = resolve({**tiny_settings, **settings})
    torch.manual_seed(1)
    run_training(config, tmp_path / "whole", CPU, QUIET)
    torch.manual_seed(2)
    with pytest.raises(Interrupted):
        run_training(config, tmp_path / "parts", CPU, stop_at(3))
    run_training(config, tmp_path / "parts", CPU, QUIET)
    assert hashes(tmp_path / "parts") == hashes(tmp_path / "whole")


def damage(run, step):
    path = run / "checkpoints" / f"step-{step:08d}" / "ema.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def test_a_damaged_newer_checkpoint_does_not_outlive_the_new_ones(tiny_run, tiny_config, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    damage(run, 8)
    with pytest.raises(Interrupted):
        run_training(tiny_config, run, CPU, stop_at(7))
    assert {p.name for p in (run / "checkpoints").glob("step-*")} == {"step-00000006", "step-00000007"}
    run_training(tiny_config, run, CPU, QUIET)
    assert hashes(run) == hashes(tiny_run)


def test_a_run_without_a_sound_checkpoint_is_not_started_over(tiny_run, tiny_config, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    for step in (6, 8):
        damage(run, step)
    before = sorted((p.name, p.stat().st_size) for p in run.rglob("*"))
    with pytest.raises(CheckpointError, match="none that is sound"):
        run_training(tiny_config, run, CPU, QUIET)
    assert sorted((p.name, p.stat().st_size) for p in run.rglob("*")) == before


def test_what_was_trained_counts_not_what_config_yaml_says_now(tiny_run, tiny_settings, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    other = resolve({**tiny_settings, "schedule": "cosine"})
    (run / "config.yaml").write_text(
        (run / "config.yaml").read_text().replace("schedule: linear", "schedule: cosine")
    )
    with pytest.raises(UsageError, match="trained with other settings: schedule differ"):
        run_training(other, run, CPU, QUIET)
    with pytest.raises(UsageError, match="trained with other settings: schedule differ"):
        open_run(run, QUIET)


def test_the_batch_size_of_a_run_cannot_change(tiny_run, tiny_settings, tmp_path):
    """Its steps are counted in batches: with others the budget, the order and the averages would silently differ."""
    run = shutil.copytree(tiny_run, tmp_path / "run")
    other = resolve({**tiny_settings, "training.batch_size": 16, "training.images": 640})
    with pytest.raises(UsageError, match="was trained with batches of 8"):
        run_training(other, run, CPU, QUIET, Conduct(allow_change=True))


def test_other_images_under_the_same_name_are_refused(tiny_settings, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (20, 1, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    config = resolve(
        {**tiny_settings, "dataset": {"name": "npy", "options": {"path": str(tmp_path / "images.npy")}}}
    )
    with pytest.raises(Interrupted):
        run_training(config, tmp_path / "run", CPU, stop_at(2))
    np.save(tmp_path / "images.npy", 255 - images)
    with pytest.raises(
        UsageError, match=f"the images of {tmp_path / 'images.npy'}, or their labels, are not those"
    ):
        run_training(config, tmp_path / "run", CPU, QUIET)
    other = resolve({**tiny_settings, "dataset": {"name": "digits"}})
    with pytest.raises(UsageError, match=r"other settings: .*dataset\.name"):
        run_training(other, tmp_path / "run", CPU, QUIET)


@pytest.mark.parametrize("size", [None, 8])
def test_images_that_an_earlier_version_may_have_reduced_otherwise_are_hinted_at(
    tiny_settings, tmp_path, size
):
    for index in range(20):
        Image.new("L", (8, 8), index).save(tmp_path / f"{index}.jpg")
    options = {"path": str(tmp_path)} | ({} if size is None else {"size": size})
    config = resolve({**tiny_settings, "dataset": {"name": "folder", "options": options}})
    run = tmp_path / "a" / "run"
    with pytest.raises(Interrupted):
        run_training(config, run, CPU, stop_at(2))
    Image.new("L", (8, 8), 99).save(tmp_path / "0.jpg")
    with pytest.raises(UsageError, match="are not those") as caught:
        run_training(config, run, CPU, QUIET)
    assert ("earlier versions reduced them otherwise" in caught.value.hint) == (size is not None)


def test_the_same_images_by_another_name_are_resumed(tiny_settings, tmp_path, monkeypatch):
    """What counts is what the data are, by their hash, not how their path is spelled."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "photos"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{i:02d}.png")
    (tmp_path / "link").symlink_to(folder)
    np.save(tmp_path / "photos.npy", pixels[:, None])
    whole = tmp_path / "whole"
    spellings = [str(folder), "./photos/", "link", "photos.npy"]
    configs = [resolve({**tiny_settings, "dataset": parse_dataset(text).document()}) for text in spellings]
    run_training(configs[0], whole, CPU, QUIET)
    for step, config in enumerate(configs[:-1], 1):
        assert run_training(config, tmp_path / "run", CPU, QUIET, Conduct(until=step))["step"] == step
        assert (
            read_config(tmp_path / "run").dataset
            == open_run(tmp_path / "run", QUIET).checkpoint.config.dataset
        )
    assert run_training(configs[-1], tmp_path / "run", CPU, QUIET)["step"] == 8
    step = "checkpoints/step-00000008"
    for name in ("model", "ema"):
        one, two = (load_file(run / step / f"{name}.safetensors") for run in (whole, tmp_path / "run"))
        assert all(torch.equal(one[key], two[key]) for key in one)
    assert run_training(configs[1], tmp_path / "run", CPU, QUIET)["step"] == 8


def test_a_folder_with_a_lock_alone_can_be_trained_in(tiny_config, tmp_path):
    (tmp_path / "run.lock").touch()
    assert run_training(tiny_config, tmp_path, CPU, QUIET)["step"] == 8


def test_data_that_show_through_the_noise_at_the_end_are_warned_of():
    """On white data of variance 1 the terminal SNR is alpha_1^2 / (sigma_1^2 w^2), the same in every band."""
    images = np.random.default_rng(0).integers(0, 256, (4000, 1, 8, 8), dtype=np.uint8)
    schedule = make_schedule("linear")
    level = float(schedule.log_snr(torch.ones(())).exp())
    white = SpectralFilter.from_weight(FrequencyGrid((8, 8)), np.ones((8, 5)))
    variance = images.std() ** 2 / 127.5**2
    for value in largest_snr(white, data_moments(images)["power_about_mean"], level).values():
        assert value == pytest.approx(level * variance, rel=5 / 4000**0.5)
    low = SpectralFilter.from_weight(FrequencyGrid((8, 8)), np.where(white.grid.rho < 0.25, 0.01, 1.0))
    found = largest_snr(low, data_moments(images)["power_about_mean"], level)
    assert found["low"] > 0.1 > 0.01 > found["high"]


def test_what_is_fetched_ahead_is_what_is_asked_for():
    """Over passes, steps, and a step that is asked for again."""
    images = torch.arange(20, dtype=torch.uint8).view(20, 1, 1, 1)
    batches = Batches(images, 6, seed=3)
    parts = [range(0, 3), range(3, 6)]
    ahead = Ahead(batches.at, parts)
    for step in (0, 1, 2, 7, 8, 8):
        for places in parts:
            assert torch.equal(ahead.at(step, places).images, batches.at(step, places).images)
    assert torch.equal(torch.cat([batches.at(4, places).images for places in parts]), batches.at(4).images)


def test_half_of_the_images_are_mirrored():
    """Within 5 standard errors, the same ones whenever and in whatever parts they are asked for; the rest as is."""
    images = torch.arange(64, dtype=torch.uint8).view(-1, 1, 1, 2)
    plain, flipped = Batches(images, 32, seed=3), Batches(images, 32, seed=3, views=Views(flips=True))
    share = 0.0
    for step in range(50):
        as_is, batch = plain.at(step).images, flipped.at(step).images
        mirrored = (batch != as_is).any(dim=(1, 2, 3))
        assert torch.equal(batch, torch.where(mirrored.view(-1, 1, 1, 1), as_is.flip(-1), as_is))
        assert torch.equal(flipped.at(step, range(5, 9)).images, batch[5:9])
        share += float(mirrored.float().mean()) / 50
    assert share == pytest.approx(0.5, abs=5 * 0.5 / (50 * 32) ** 0.5)


def test_every_epoch_shows_every_image_once():
    images = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1)
    batches = Batches(images, 4, seed=3)
    shown = torch.cat([batches.at(step).images for step in range(5)]).flatten()
    values = ((shown + 1) * 127.5).round().int().tolist()
    assert sorted(values[:10]) == list(range(10)) and sorted(values[10:]) == list(range(10))
    assert values[:10] != values[10:]
    assert torch.equal(Batches(images, 4, seed=3).at(4).images, batches.at(4).images)
