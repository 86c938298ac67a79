"""Training that survives kills, signals, damage and changes: nothing sound is lost, nothing torn is read."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from support.interruption import hashes, stop_at
from support.listening import newest_and_skipped
from support.plans import a_plan

from sagd_cli.config.layers import resolve
from sagd_cli.errors import CheckpointError, Interrupted
from sagd_cli.run import checkpoint, manifest
from sagd_cli.run.folder import open_run
from sagd_cli.system.console import Output
from sagd_cli.system.distributed import World
from sagd_cli.training import loop
from sagd_cli.training.batches import Batches
from sagd_cli.training.task import Task
from sagd_cli.training.train import Conduct, run_training

CPU, QUIET = torch.device("cpu"), Output(quiet=True)
TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture
def run(tiny_run, tmp_path):
    return shutil.copytree(tiny_run, tmp_path / "run")


@pytest.mark.slow
def test_a_kill_tears_nothing_and_costs_one_interval_at_most():
    command = [sys.executable, str(TESTS / "support" / "killing.py"), "8"]
    paths = os.pathsep.join([str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["kills"] == 8 and figures["most_steps_lost"] <= 2
    broken = ("torn", "unreadable", "refused", "more_than_an_interval_lost", "unequal")
    assert {name: figures[name] for name in broken} == dict.fromkeys(broken, 0), done.stderr


@pytest.mark.parametrize(
    "left", [[], ["run.lock"], ["run.lock", ".sagd-x1.yaml"], ["run.lock", "config.yaml"]]
)
def test_a_training_killed_before_its_first_step_starts_again(tiny_run, tiny_config, tmp_path, left):
    for name in left:
        (tmp_path / name).write_bytes(
            (tiny_run / name).read_bytes() if (tiny_run / name).exists() else b"back"
        )
    assert run_training(tiny_config, tmp_path, CPU, QUIET)["step"] == 8
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in tiny_run.iterdir()}


def test_a_checkpoint_that_was_half_pruned_does_not_look_damaged(run, tiny_config, monkeypatch):
    """A kill while the old one is removed leaves it under a name that no reader takes for a checkpoint."""
    monkeypatch.setattr(manifest.shutil, "rmtree", lambda path, **options: None)
    manifest.prune(run / "checkpoints", keep=1)
    assert [path.name for path in (run / "checkpoints").glob("step-*")] == ["step-00000008"]
    monkeypatch.undo()
    manifest.prune(run / "checkpoints", keep=1)
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-00000008"]


@pytest.mark.parametrize("fails", [1, 2])
def test_saving_a_step_again_never_removes_it_before_the_new_one_is_there(
    run, tiny_config, monkeypatch, fails
):
    found = manifest.newest(run / "checkpoints", QUIET)
    state = checkpoint.TrainingState(open_run(run, QUIET).model(CPU).network, tiny_config.training, CPU)
    state.step = found.step
    rename, calls = Path.rename, []

    def renamed(path, target):
        calls.append(path)
        if len(calls) == fails:
            raise OSError(5, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", renamed)
    arguments = (run / "checkpoints", state, tiny_config.filter.weights((8, 8)), {}, {})
    with pytest.raises(CheckpointError, match="Input/output error"):
        checkpoint.save(*arguments)
    assert newest_and_skipped(run / "checkpoints") == (found, [])
    monkeypatch.undo()
    checkpoint.save(*arguments)
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["step-00000006", "step-00000008"]
    assert manifest.newest(run / "checkpoints", QUIET).manifest != found.manifest


@pytest.mark.parametrize(
    ("minutes", "rank", "steps"),
    [(1, 0, [1, 4, 7, 8]), (1, 1, [8]), (0, 0, [8]), (10, 0, [3, 8]), (100, 0, [8])],
)
def test_checkpoints_are_also_written_by_the_clock_of_the_first_process(
    tiny_run, tiny_settings, tmp_path, monkeypatch, minutes, rank, steps
):
    """The first one comes after a tenth of the minutes. They change nothing that is trained."""
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: 1000.0 + 25 * state.step))
    settings = {"checkpoint_images": 10**9, "checkpoint_minutes": minutes, "log_steps": 2}
    config = resolve({**tiny_settings, **{f"training.{key}": value for key, value in settings.items()}})
    saved = []
    task = Task.of(config)
    state, loss = task.start(CPU)
    callbacks = loop.Callbacks(checkpoint=lambda: saved.append(state.step))
    batches = task.batches(CPU, World().parts(8, 1))
    loop.run_loop(state, batches.at, loss, config.training, callbacks, World(rank))
    assert saved == steps
    if rank:
        return  # it has other images than the first one
    expected = load_file(tiny_run / "checkpoints" / "step-00000008" / "model.safetensors")
    assert all(torch.equal(values, expected[name]) for name, values in state.network.state_dict().items())


def without_the_clock(run, keep):
    """Make a run one that was written before checkpoints were asked for by the clock, with the first `keep` of them."""
    path = run / "config.yaml"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if "checkpoint_minutes" not in line))
    for folder in sorted((run / "checkpoints").iterdir())[keep:]:
        shutil.rmtree(folder)
    for path in run.rglob("manifest.json"):
        document = json.loads(path.read_text())
        del document["config"]["training"]["checkpoint_minutes"]
        path.write_text(json.dumps(document | {"digest": manifest.digest(document)}))


@pytest.mark.parametrize("minutes", [10, 0.5])
def test_a_run_of_an_earlier_version_goes_on_and_its_clock_may_change(run, tiny_run, tiny_settings, minutes):
    without_the_clock(run, keep=1)
    open_run(run, QUIET)
    config = resolve({**tiny_settings, "training.checkpoint_minutes": minutes})
    assert run_training(config, run, CPU, QUIET)["step"] == 8
    assert hashes(run) == hashes(tiny_run) and open_run(run, QUIET).config == config
    run_training(resolve(tiny_settings), run, CPU, QUIET)


def test_the_clock_has_no_part_in_what_a_run_and_a_sweep_are(tiny_config, tiny_settings, tmp_path):
    other = resolve({**tiny_settings, "training.checkpoint_minutes": 3})
    assert (other.sha256(), other.default_name) == (tiny_config.sha256(), tiny_config.default_name)
    assert other.identity() == tiny_config.identity() and "checkpoint_minutes" not in str(other.identity())
    plan = a_plan(tmp_path, "filter.options.alpha=0")
    assert replace(plan, base=other).study == replace(plan, base=tiny_config).study


def test_a_folder_whose_name_is_not_utf_8_holds_a_run_like_any_other(run, tiny_run, tiny_config, tmp_path):
    odd = tmp_path / os.fsdecode(b"run-\xff")
    run.rename(odd)
    shutil.rmtree(odd / "checkpoints" / "step-00000008")
    assert run_training(tiny_config, odd, CPU, QUIET)["step"] == 8
    assert hashes(odd) == hashes(tiny_run)
    assert open_run(odd, QUIET).model(CPU).name == str(odd)


def test_a_copy_of_a_checkpoint_under_another_name_is_none(run, tiny_config):
    folder = run / "checkpoints"
    shutil.copytree(folder / "step-00000008", folder / "step-00000008-copy")
    shutil.copytree(folder / "step-00000008", folder / "step-best")
    manifest.prune(folder, keep=1)
    assert {path.name for path in folder.iterdir()} == {"step-00000008", "step-00000008-copy", "step-best"}
    assert run_training(tiny_config, run, CPU, QUIET)["step"] == 8


def flipped(path, rng):
    """Change one byte of a file; of a manifest, one that changes what it says."""
    sound = path.read_bytes()
    while True:
        data = bytearray(sound)
        data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
        try:
            same = path.suffix == ".json" and json.loads(data) == json.loads(sound)
        except ValueError:
            same = False
        if not same:
            path.write_bytes(data)
            return sound


def test_every_flipped_byte_is_found(run):
    folder = run / "checkpoints" / "step-00000008"
    rng = random.Random(0)
    paths = sorted(folder.iterdir())
    assert len(paths) == 6
    for path in paths * 50:
        sound = flipped(path, rng)
        found, skipped = newest_and_skipped(run / "checkpoints")
        path.write_bytes(sound)
        assert found.step == 6 and len(skipped) == 1 and f"{folder} is damaged" in skipped[0]
    assert manifest.newest(run / "checkpoints", QUIET).step == 8


@pytest.mark.parametrize("name", ["manifest.json", "optimizer.safetensors"])
@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_training_goes_on_from_the_checkpoint_before_a_damaged_one_and_says_so(
    run, tiny_run, sagd, tiny_config, tmp_path, name, damage
):
    path = run / "checkpoints" / "step-00000008" / name
    flipped(path, random.Random(0)) if damage == "flipped" else path.unlink()
    (tmp_path / "tiny.yaml").write_text((run / "config.yaml").read_text())
    result = sagd("train", "--config", tmp_path / "tiny.yaml", "--output", run, "--device", "cpu")
    assert result.code == 0 and f"resuming {run} at step 6" in result.err
    assert f"skipped: {path.parent} is damaged: " in result.err
    assert hashes(run) == hashes(tiny_run)
    kept = [path.name for path in (run / "checkpoints").glob("damaged-*")]
    assert len(kept) == 1 and kept[0].startswith("damaged-step-00000008-")


def test_a_checkpoint_of_a_newer_version_is_neither_passed_over_nor_touched(run, sagd):
    path = run / "checkpoints" / "step-00000008" / "manifest.json"
    document = {**json.loads(path.read_text()), "format": manifest.FORMAT + 1}
    path.write_text(json.dumps(document | {"digest": manifest.digest(document)}))
    before = tree(run)
    for command in (["train", "--config", run / "config.yaml", "--output", run], ["sample", run]):
        result = sagd(*command, "--device", "cpu")
        assert result.code == 1 and "step-00000008 was written by a newer version of sagd" in result.err
    assert tree(run) == before


def tree(run):
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


runs = st.fixed_dictionaries(
    {
        "training.batch_size": st.sampled_from([4, 8]),
        "training.accumulate": st.sampled_from([1, 2, 4]),
        "training.checkpoint_images": st.sampled_from([1, 16, 1000]),
        "training.seed": st.integers(0, 9),
        "class_conditional": st.booleans(),
        "filter.type": st.sampled_from(["white", "powerlaw", "learned"]),
    }
)


@pytest.mark.slow
@settings(deadline=None, derandomize=True, max_examples=6)
@given(chosen=runs, steps=st.integers(2, 6), data=st.data())
def test_whenever_it_is_stopped_the_outcome_is_the_same_bit_for_bit(
    tmp_path_factory, tiny_settings, chosen, steps, data
):
    step = data.draw(st.integers(1, steps - 1), label="stopped at")
    images = {"training.images": steps * chosen["training.batch_size"]}
    config, folder = resolve({**tiny_settings, **chosen, **images}), tmp_path_factory.mktemp("laws")
    run_training(config, folder / "whole", CPU, QUIET)
    with pytest.raises(Interrupted):
        run_training(config, folder / "parts", CPU, stop_at(step))
    run_training(config, folder / "parts", CPU, QUIET)
    parts = hashes(folder / "parts", steps)
    assert {"model.safetensors", "ema.safetensors", "optimizer.safetensors"} <= set(parts)
    assert parts == hashes(folder / "whole", steps)
    shutil.rmtree(folder)


def test_settings_change_only_on_request_and_the_run_stays_readable(run, tiny_settings, sagd, tmp_path):
    """Also when it is killed before the first checkpoint of the new settings: config.yaml then is the old one."""
    other = tmp_path / "other.yaml"
    text = (run / "config.yaml").read_text()
    other.write_text(
        text.replace("images: 64", "images: 96").replace("learning_rate: 0.002", "learning_rate: 0.001")
    )
    again = ("train", "--config", other, "--output", run, "--device", "cpu")
    sample = (
        "sample",
        run,
        "-n",
        1,
        "--steps",
        1,
        "--device",
        "cpu",
        "--force",
        "--output",
        tmp_path / "images",
    )
    before = tree(run)
    refused = sagd(*again)
    assert refused.code == 2 and "training.images, training.learning_rate differ" in refused.err
    assert tree(run) == before

    class Killed(BaseException):
        pass

    def kill(*arguments):
        raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(checkpoint, "save", kill)
        run_training(resolve({}, [], other), run, CPU, QUIET, Conduct(allow_change=True))
    assert (run / "config.yaml").read_text() == text and sagd(*sample).code == 0
    assert sagd(*again, "--allow-config-change").code == 0
    opened = open_run(run, QUIET)
    assert opened.checkpoint.step == 12 and opened.config.training.learning_rate == 0.001
    assert sagd(*sample).code == 0


@pytest.mark.parametrize(("first", "then"), [("powerlaw", "learned"), ("learned", "powerlaw")])
def test_a_run_does_not_go_from_a_fixed_to_a_learned_filter(tiny_settings, tmp_path, first, then):
    half = {"training.images": 32}
    run_training(resolve({**tiny_settings, **half, "filter.type": first}), tmp_path / "run", CPU, QUIET)
    before = tree(tmp_path)
    with pytest.raises(CheckpointError, match=r"cannot go on with a (learned|given) one"):
        run_training(
            resolve({**tiny_settings, "filter.type": then}),
            tmp_path / "run",
            CPU,
            QUIET,
            Conduct(allow_change=True),
        )
    assert tree(tmp_path) == before


def test_a_batch_larger_than_the_data_shows_each_image_as_often_as_epochs_without_end():
    images = torch.arange(3, dtype=torch.uint8).view(3, 1, 1, 1)
    batches = Batches(images, 8, seed=1)
    shown = torch.cat([batches.at(step).images for step in range(3)]).flatten()
    values = ((shown + 1) * 127.5).round().int()
    assert values.view(8, 3).sort(dim=1).values.tolist() == [[0, 1, 2]] * 8
    assert torch.equal(batches.at(1, range(2, 5)).images, batches.at(1).images[2:5])


def test_a_batch_larger_than_the_data_trains_and_resumes(tiny_settings, tmp_path):
    np.save(tmp_path / "few.npy", np.random.default_rng(0).integers(0, 256, (3, 1, 8, 8), dtype=np.uint8))
    data = {"name": "npy", "options": {"path": str(tmp_path / "few.npy")}}
    config = resolve({**tiny_settings, "dataset": data})
    run_training(config, tmp_path / "whole", CPU, QUIET)
    with pytest.raises(Interrupted):
        run_training(config, tmp_path / "parts", CPU, stop_at(5))
    run_training(config, tmp_path / "parts", CPU, QUIET)
    assert hashes(tmp_path / "parts") == hashes(tmp_path / "whole")


def test_a_finished_run_whose_metrics_are_lost_is_still_finished(run, sagd):
    (run / "metrics.jsonl").unlink()
    result = sagd("train", "--config", run / "config.yaml", "--output", run, "--device", "cpu", "--json")
    assert result.code == 0 and result.json["step"] == 8 and result.json["loss"] is None


@pytest.mark.parametrize("rate", [1e6, 1e39])
def test_a_divergence_names_its_step_and_rate_and_leaves_nothing_that_is_not_finite(tmp_path, sagd, rate):
    """A rate above the largest float32 breaks the weights in a step whose loss and gradient are finite."""
    run = tmp_path / "run"
    tiny = "backbone.options={channels: [8, 8], layers_per_block: 1, attention: [false, false]}"
    command = ("train", "--steps", 30, "--batch-size", 8, "--lr", rate, "--set", tiny, "--output", run)
    result = sagd(*command, "--set", "training.checkpoint_images=8", "--device", "cpu")
    assert result.code == 1
    line = next(line for line in result.err.splitlines() if "not finite at step" in line)
    step = int(line.split("at step ")[1].split()[0])
    found, skipped = newest_and_skipped(run / "checkpoints")
    assert skipped == [] and (found.step if found else 0) == step - 1
    assert (f"The last good checkpoint is {found.path}" if found else "no checkpoint yet") in result.err
    figure = float(line.split("learning rate ")[1].split(")")[0])
    assert 0 < figure <= rate
    for path in run.rglob("*.safetensors"):
        assert all(torch.isfinite(values).all() for values in load_file(path).values())


@contextmanager
def without_rights():
    """Be a user like others: root may write anywhere."""
    user = os.geteuid()
    os.seteuid(user or 65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("place", [".", "checkpoints"])
def test_a_run_that_may_not_be_written_is_left_as_it_was(run, sagd, monkeypatch, place):
    (run / "checkpoints" / "step-00000008" / "manifest.json").unlink()  # there is something left to train
    run.chmod(0o777)
    for path in run.rglob("*"):
        path.chmod(0o777)
    (run / place).chmod(0o555)
    if place == ".":
        (run / "run.lock").unlink()
    before = tree(run)
    monkeypatch.chdir(run)  # the folders above are private
    with without_rights():
        result = sagd("train", "--config", "config.yaml", "--output", ".", "--device", "cpu")
    assert result.code == 1 and "ermission denied" in result.err and "Traceback" not in result.err
    assert "internal" not in result.err
    if place == ".":
        assert tree(run) == before
    else:
        held = {path.name for path in (run / place).iterdir()}
        assert held == {"step-00000006", "step-00000008"}


SLOW_STEP = """
import signal, sys, time
from sagd_cli.__main__ import main
from sagd_cli.training import loop

step = loop._Trainer.step
signal.signal(signal.SIGINT, signal.default_int_handler)  # a parent may have switched it off

def slow(trainer):
    if trainer._state.step < 3:
        return step(trainer)
    before = signal.getsignal(signal.SIGTERM)
    print("training", file=sys.stderr, flush=True)
    while signal.getsignal(signal.SIGTERM) is before:
        time.sleep(0.01)
    print("asked", file=sys.stderr, flush=True)
    time.sleep(600)

loop._Trainer.step = slow
main(sys.argv[1:])
"""


@pytest.mark.slow
@pytest.mark.parametrize(("second", "code"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 130)])
def test_the_second_signal_ends_a_step_that_takes_long(run, tiny_run, sagd, tmp_path, second, code):
    settings = tmp_path / "config.yaml"
    settings.write_text((run / "config.yaml").read_text())
    command = ("train", "--config", str(settings), "--output", str(tmp_path / "slow"), "--device", "cpu")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", SLOW_STEP, *command], **pipes) as child:
        try:
            assert "training\n" in child.stderr  # reads up to that line
            child.send_signal(signal.SIGTERM)
            assert "asked\n" in child.stderr
            child.send_signal(second)
            _, err = child.communicate()
        finally:
            child.kill()
    assert child.returncode == code and "Traceback" not in err
    assert manifest.newest(tmp_path / "slow" / "checkpoints", QUIET).step == 2
    assert sagd(*command).code == 0 and hashes(tmp_path / "slow") == hashes(tiny_run)
