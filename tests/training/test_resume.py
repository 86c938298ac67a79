"""Rerun to resume: what a step computes depends on (seed, step) alone."""

import fcntl
import hashlib
import json
import os
import signal
from contextlib import contextmanager

import pytest
import torch

from sagd_cli.config import resolve
from sagd_cli.console import Output
from sagd_cli.errors import Interrupted, SagdError, UsageError
from sagd_cli.training.data import Batches
from sagd_cli.training.run import train

CPU = torch.device("cpu")
QUIET = Output(quiet=True)


class StopAt(Output):
    """An Output whose progress sends a signal to this process at a step."""

    @contextmanager
    def progress(self, label, total, done=0, images_per_step=1):
        outer = self

        class Bar:
            steps = done

            def advance(self):
                self.steps += 1
                if self.steps == outer.at:
                    os.kill(os.getpid(), outer.signum)

            def show(self, **figures):
                pass

        yield Bar()


def stop_at(step, signum=signal.SIGTERM):
    output = StopAt(quiet=True)
    object.__setattr__(output, "at", step)
    object.__setattr__(output, "signum", signum)
    return output


def hashes(run, step=8):
    folder = run / "checkpoints" / f"step-{step:08d}"
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.glob("*.safetensors")}


@pytest.mark.parametrize("step", [1, 3, 7])
def test_stopping_and_resuming_equals_one_go_bit_for_bit(tiny_run, tiny_config, tmp_path, step):
    run = tmp_path / "run"
    with pytest.raises(Interrupted) as stop:
        train(tiny_config, run, CPU, stop_at(step))
    assert stop.value.exit_code == 128 + signal.SIGTERM
    assert train(tiny_config, run, CPU, QUIET)["step"] == 8
    assert hashes(run) == hashes(tiny_run)
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 9))


def test_the_second_signal_is_not_held_back(tiny_config, tmp_path):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted) as stop:
        train(tiny_config, tmp_path / "run", CPU, stop_at(2, signal.SIGINT))
    assert stop.value.exit_code == 130 and signal.getsignal(signal.SIGINT) is before


def test_a_finished_run_is_left_alone(tiny_run, tiny_config):
    before = hashes(tiny_run)
    assert train(tiny_config, tiny_run, CPU, QUIET)["checkpoint"].endswith("step-00000008")
    assert hashes(tiny_run) == before


def test_other_settings_are_refused_by_key(tiny_run, tiny_settings):
    other = resolve({**tiny_settings, "training.learning_rate": 1e-4, "filter.type": "white"})
    with pytest.raises(UsageError, match=r"filter\.type, training\.learning_rate differ"):
        train(other, tiny_run, CPU, QUIET)


def test_a_run_in_use_is_refused(tiny_run, tiny_config):
    with (tiny_run / "run.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="another process is training"):
            train(tiny_config, tiny_run, CPU, QUIET)


def test_a_folder_that_is_no_run_is_not_touched(tmp_path, tiny_config):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="is not a run"):
        train(tiny_config, tmp_path, CPU, QUIET)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_torn_metrics_line_is_dropped(tiny_config, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        train(tiny_config, run, CPU, stop_at(3))
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "los')
    train(tiny_config, run, CPU, QUIET)
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == list(range(1, 9))
    assert all(record["images"] == 8 * record["step"] for record in records)


def test_a_loss_that_is_not_finite_stops_before_anything_is_saved(tmp_path, tiny_settings):
    diverging = resolve({**tiny_settings, "training.learning_rate": 1e30, "training.gradient_clip": 1e30})
    with pytest.raises(SagdError, match=r"loss is not finite at step \d+ \(learning rate"):
        train(diverging, tmp_path / "run", CPU, QUIET)
    for path in (tmp_path / "run" / "checkpoints").glob("*/ema.safetensors"):
        from safetensors.torch import load_file

        assert all(torch.isfinite(value).all() for value in load_file(path).values())


def test_every_epoch_shows_every_image_once():
    images = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1)
    batches = Batches(images, 4, seed=3)
    shown = torch.cat([batches.at(step) for step in range(5)]).flatten()
    values = ((shown + 1) * 127.5).round().int().tolist()
    assert sorted(values[:10]) == list(range(10)) and sorted(values[10:]) == list(range(10))
    assert values[:10] != values[10:]
    assert torch.equal(Batches(images, 4, seed=3).at(4), batches.at(4))
