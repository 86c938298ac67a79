"""What shows a training: contact sheets, profiles, several averages; none of it changes the training."""

import json
import math
import types

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from support.interruption import hashes, stop_at

from sagd_cli.config.layers import resolve
from sagd_cli.data.images import contact_sheet
from sagd_cli.diffusion.loss import NOISE
from sagd_cli.errors import CheckpointError, Interrupted, UsageError
from sagd_cli.run.folder import open_run
from sagd_cli.sampling.generator import ImageGenerator
from sagd_cli.system.console import Output
from sagd_cli.training import sheets as sheets_module
from sagd_cli.training.loop import BACKWARD, FORWARD
from sagd_cli.training.profiling import MARKS, _kernel_times, _parts, profile_training
from sagd_cli.training.train import Conduct, run_training

CPU, QUIET = torch.device("cpu"), Output(quiet=True)
LEARNED = {"filter.type": "learned", "loss": "whitened"}


def records(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def sheets(run):
    return sorted(path.name for path in (run / "samples").glob("*.png"))


def without_times(run):
    timing = {"images_per_second", "memory_bytes"}
    return [{key: value for key, value in record.items() if key not in timing} for record in records(run)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"class_conditional": True, "sampling.guidance": 2.0},
        LEARNED,
        {"sampling.sampler": "ddpm", "backbone.options.dropout": 0.2},
    ],
    ids=["plain", "classes", "learned", "random"],
)
def test_sheets_change_nothing_and_show_what_sample_draws(tiny_settings, tmp_path, chosen):
    settings = {**tiny_settings, **chosen, "sampling.steps": 3}
    watched, unwatched = tmp_path / "watched", tmp_path / "unwatched"
    run_training(resolve({**settings, "training.sample_images": 24}), watched, CPU, QUIET)
    run_training(resolve(settings), unwatched, CPU, QUIET)
    assert hashes(watched) == hashes(unwatched)
    assert without_times(watched) == without_times(unwatched)
    assert sheets(watched) == [f"step-{step:08d}.png" for step in (3, 6, 8)]
    run = open_run(watched, QUIET)
    drawn = ImageGenerator(run.model(CPU), run.config.sampling).draw(range(64))
    shown = np.asarray(Image.open(watched / "samples" / "step-00000008.png"))
    # A learned filter is saved with six digits, so a rounding may fall to the other side.
    assert np.abs(shown - contact_sheet(drawn)[0].astype(int)).max() <= (1 if chosen == LEARNED else 0)


@pytest.mark.slow
def test_sheets_of_a_resumed_run_are_those_of_one_go(tiny_settings, tmp_path):
    config = resolve({**tiny_settings, "training.sample_images": 16, "sampling.steps": 2})
    run_training(config, tmp_path / "one", CPU, QUIET)
    with pytest.raises(Interrupted):
        run_training(config, tmp_path / "two", CPU, stop_at(5))
    run_training(config, tmp_path / "two", CPU, QUIET)
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    names = sheets(tmp_path / "one")
    assert names == sheets(tmp_path / "two") and len(names) == 4
    for name in names:
        one, two = (tmp_path / run / "samples" / name for run in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()


def test_the_cost_of_sheets_is_stated_before(sagd, tiny_settings, tmp_path):
    """3 sheets of 64 images, each of 2 x 3 evaluations with guidance, against 64 images of training."""
    chosen = {**tiny_settings, "class_conditional": True, "sampling.guidance": 2.0, "sampling.steps": 3}
    sets = [f"--set={key}={json.dumps(value)}" for key, value in chosen.items()]
    result = sagd("train", *sets, "--set=training.sample_images=24", "--output", tmp_path / "run")
    assert result.code == 0
    line = "3 contact sheets of 64 images: 1,152 network evaluations, 1800.0% of training's 64"
    assert result.err.count(line) == 1
    assert result.err.index(line) < result.err.index("8 steps, loss")


def test_data_that_cannot_be_drawn_trains_with_one_warning(tiny_settings, tmp_path, capfd):
    path = tmp_path / "latents.npy"
    np.save(path, np.random.default_rng(0).normal(size=(32, 4, 8, 8)).astype(np.float32))
    dataset = {"name": "npy", "options": {"path": str(path)}}
    config = resolve({**tiny_settings, "dataset": dataset, "training.sample_images": 8})
    assert run_training(config, tmp_path / "run", CPU, QUIET)["step"] == 8
    assert capfd.readouterr().err.count("no contact sheets") == 1
    assert not (tmp_path / "run" / "samples").exists()


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory"), UsageError("no such class")])
def test_sheets_that_cannot_be_prepared_stop_no_training(tiny_settings, tmp_path, capfd, monkeypatch, error):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr(sheets_module, "ImageGenerator", fails)
    config = resolve({**tiny_settings, "training.sample_images": 24})
    assert run_training(config, tmp_path / "run", CPU, QUIET)["step"] == 8
    assert f"no contact sheets: {error}" in capfd.readouterr().err


def test_a_sheet_that_cannot_be_written_stops_no_training(tiny_settings, tmp_path, capfd):
    config = resolve({**tiny_settings, "training.sample_images": 64, "sampling.steps": 2})
    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        run_training(config, run, CPU, stop_at(2))
    (run / "samples").write_text("in the way")
    assert run_training(config, run, CPU, QUIET)["step"] == 8
    assert "no contact sheet of step 8" in capfd.readouterr().err


def test_the_shares_of_a_profile_sum_to_one(tiny_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = profile_training(tiny_config, CPU, 3).document()
    parts = found["cpu"]
    assert list(parts) == [
        *("data", "noise", "forward", "backward", "optimizer", "average", "metrics"),
        "rest",
    ]
    assert math.isclose(sum(part["share"] for part in parts.values()), 1)
    assert math.isclose(sum(part["ms"] for part in parts.values()), found["step_ms"])
    assert all(part["ms"] > 0 for part in parts.values())
    assert found["images_per_second"] == pytest.approx(1000 * 8 / found["step_ms"])
    assert not list(tmp_path.iterdir())


def test_a_slow_part_is_found_where_it_is(tiny_config, monkeypatch):
    """Noise that takes 300 ms more in each step adds them to noise, and nothing to the forward pass it lies in.

    However busy the machine is, a sleep is never shorter, and a forward pass that held the noise would never be faster.
    """
    import time

    from sagd_cli.spectral.noise import SpectralNoise

    draw = SpectralNoise.draw

    def slow(self, *arguments):
        time.sleep(0.3)
        return draw(self, *arguments)

    monkeypatch.setattr(SpectralNoise, "draw", slow)
    found = profile_training(tiny_config, CPU, 3).cpu
    noise, forward = (mark.removeprefix("sagd/") for mark in (NOISE, FORWARD))
    assert found[noise] >= 300
    assert found[forward] < found[noise]


def test_kernels_belong_to_the_part_that_launched_them():
    """Two steps: the backward pass launches from a thread of its own, noise within the forward pass."""

    def event(name, start, end, *microseconds):
        kernels = [types.SimpleNamespace(duration=duration) for duration in microseconds]
        span = types.SimpleNamespace(start=start, end=end)
        return types.SimpleNamespace(name=name, time_range=span, kernels=kernels)

    marks, launches = [], []
    for begin in (0, 1000):
        marks += [event(FORWARD, begin + 10, begin + 100), event(NOISE, begin + 20, begin + 30)]
        marks += [event(BACKWARD, begin + 100.5, begin + 300)]
        launches += [
            event("randn", begin + 25, begin + 26, 2000),
            event("conv", begin + 50, begin + 51, 5000),
        ]
        launches += [event("conv_backward", begin + 150, begin + 151, 3000, 4000)]
        launches += [event("copy", begin + 400, begin + 401, 500)]
    times, total = _kernel_times(launches + marks, marks)
    assert times == dict.fromkeys(MARKS, 0.0) | {NOISE: 4.0, FORWARD: 14.0, BACKWARD: 14.0}
    parts = _parts(times, total)
    assert (parts["noise"], parts["forward"], parts["backward"], parts["rest"]) == (4, 10, 14, 1)


def test_one_process_alone_is_profiled(tiny_config, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="torchrun"):
        profile_training(tiny_config, CPU, 1)


def test_the_command_prints_a_profile_and_leaves_nothing(sagd, tiny_settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sets = [f"--set={key}={json.dumps(value)}" for key, value in tiny_settings.items()]
    result = sagd("train", *sets, "--profile", 2, "--device", "cpu", "--json")
    assert result.code == 0 and result.json["steps"] == 2 and result.json["cuda"] is None
    table = sagd("train", *sets, "--profile", 2, "--device", "cpu")
    assert [line.split()[0] for line in table.out.splitlines()] == ["part", *result.json["cpu"]]
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def two_averages(tiny_settings, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "two"
    config = resolve({**tiny_settings, "training.ema_half_life_images": [2, 5]})
    run_training(config, run, CPU, QUIET)
    return run, config


def averages(run):
    folder = run / "checkpoints" / "step-00000008"
    return {path.name: load_file(path) for path in folder.glob("ema*.safetensors")}


def equal(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_each_average_is_the_one_of_a_run_of_its_own(two_averages, tiny_settings, tmp_path):
    both = averages(two_averages[0])
    assert set(both) == {"ema.safetensors", "ema-5.safetensors"}
    assert not equal(both["ema.safetensors"], both["ema-5.safetensors"])
    for images, name in ((2, "ema.safetensors"), (5, "ema-5.safetensors")):
        run = tmp_path / str(images)
        run_training(resolve({**tiny_settings, "training.ema_half_life_images": images}), run, CPU, QUIET)
        alone = averages(run)
        assert set(alone) == {"ema.safetensors"}
        assert equal(alone["ema.safetensors"], both[name])


def test_two_averages_are_resumed_bit_for_bit(two_averages, tmp_path):
    run, config = two_averages
    with pytest.raises(Interrupted):
        run_training(config, tmp_path / "run", CPU, stop_at(3))
    run_training(config, tmp_path / "run", CPU, QUIET)
    assert hashes(tmp_path / "run") == hashes(run) and "ema-5.safetensors" in hashes(run)


def test_sample_takes_the_average_that_is_asked_for(sagd, two_averages):
    run, _ = two_averages
    opened, weights = open_run(run, QUIET), averages(run)
    for images, name in ((None, "ema.safetensors"), (2, "ema.safetensors"), (5, "ema-5.safetensors")):
        assert equal(opened.model(CPU, images).network.state_dict(), weights[name])
    result = sagd("sample", run, "-n", 1, "--steps", 1, "--ema", 5, "--json")
    assert result.json["ema_half_life_images"] == 5 and "ema5" in result.json["output"]
    refused = sagd("sample", run, "--ema", 7)
    assert refused.code == 2 and "There are: 2, 5." in refused.err


def test_a_half_life_cannot_be_added_on_the_way(two_averages, tiny_settings, tmp_path):
    config = resolve({**tiny_settings, "training.ema_half_life_images": 2})
    with pytest.raises(Interrupted):
        run_training(config, tmp_path / "run", CPU, stop_at(3))
    with pytest.raises(UsageError, match=r"training\.ema_half_life_images differ"):
        run_training(two_averages[1], tmp_path / "run", CPU, QUIET)
    with pytest.raises(CheckpointError, match=r"holds no ema-5\.safetensors"):
        run_training(two_averages[1], tmp_path / "run", CPU, QUIET, Conduct(allow_change=True))


def test_one_half_life_reads_and_names_a_run_as_it_always_did():
    one, listed = (resolve({"training.ema_half_life_images": value}) for value in (20_000, [20_000]))
    assert one == listed and one.document()["training"]["ema_half_life_images"] == 20_000
    assert one.default_name == listed.default_name
    assert resolve({"training.ema_half_life_images": 10_000}).default_name == resolve({}).default_name
