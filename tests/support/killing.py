"""Trainings that are killed at random moments: what was left of them.

`python tests/support/killing.py KILLS [SEED]` prints it.

Every other training is slowed where it writes, so that most of its kills hit a save. Processes are forked after the
imports: a kill costs a tenth of a second, not a start of Python.
"""

import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # it is run as a script

from support.interruption import hashes
from support.settings import TINY

from sagd_cli.config.layers import resolve
from sagd_cli.datasets.loading import load_images
from sagd_cli.errors import SagdError
from sagd_cli.model.network import build_backbone, resolve_backbone
from sagd_cli.run import manifest
from sagd_cli.run.folder import open_run
from sagd_cli.system.console import Output
from sagd_cli.training.train import run_training

QUIET = Output(quiet=True)
STEPS = 12
SLOW = 0.004  # seconds before and after each call that changes the disk


def config_of(interval: int):
    return resolve({**TINY, "training.images": 8 * STEPS, "training.checkpoint_images": 8 * interval})


def slow_down() -> None:
    """Make this process sleep around whatever a save does to the disk."""

    def slowed(call: Callable[..., Any]) -> Callable[..., Any]:
        def slow(*arguments: Any, **options: Any) -> Any:
            time.sleep(SLOW)
            result = call(*arguments, **options)
            time.sleep(SLOW)
            return result

        return slow

    for name in ("fsync", "rename", "replace", "unlink", "rmdir", "mkdir"):
        setattr(os, name, slowed(getattr(os, name)))


def start(run: Path, interval: int, slow: bool) -> int:
    """Train in a process of its own; return its id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        if slow:
            slow_down()
        run_training(config_of(interval), run, torch.device("cpu"), QUIET)
        code = 0
    except SagdError as error:
        print(f"{run}: {error.message}", file=sys.stderr)
    finally:
        os._exit(code)


def finish(run: Path, interval: int) -> float:
    """Train to the end; return the seconds that took."""
    begun = time.monotonic()
    _, status = os.waitpid(start(run, interval, slow=False), 0)
    assert status == 0, f"{run} could not be trained"
    return time.monotonic() - begun


def recorded_step(run: Path) -> int:
    """The last step that metrics.jsonl names in a whole line: the process had done it."""
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return max((json.loads(line)["step"] for line in lines if line.endswith("\n")), default=0)


def is_sound(checkpoint: Path) -> bool:
    """Whether a checkpoint's hashes hold, in a run that holds it alone."""
    with tempfile.TemporaryDirectory() as alone:
        (Path(alone) / checkpoint.name).symlink_to(checkpoint)
        return manifest.newest(Path(alone), QUIET) is not None


def inspect(run: Path, interval: int, pid: int, figures: dict[str, int]) -> None:
    """Add to `figures` what the killed process `pid` left in `run`."""
    checkpoints = run / "checkpoints"
    found = manifest.newest(checkpoints, QUIET)
    saved = found.step if found else 0
    figures["torn"] += sum(not is_sound(path) for path in checkpoints.glob("step-*"))
    figures["in_save"] += any(checkpoints.glob(f".tmp-*-{pid}"))
    lost = recorded_step(run) - saved
    figures["most_steps_lost"] = max(figures["most_steps_lost"], lost)
    figures["more_than_an_interval_lost"] += lost > interval
    if found:
        try:
            open_run(run, QUIET).model(torch.device("cpu"))
        except SagdError:
            figures["unreadable"] += 1


def kill_trainings(folder: Path, kills: int, seed: int) -> dict[str, int]:
    """Kill trainings until there were `kills`, each resumed until it ends; return how they fared."""
    rng = random.Random(seed)
    names = ("kills", "in_save", "torn", "unreadable", "refused", "most_steps_lost")
    figures = dict.fromkeys((*names, "more_than_an_interval_lost", "finished", "unequal"), 0)
    config = resolve_backbone(config_of(1), load_images(config_of(1).dataset).images.shape[1:])
    build_backbone(config.backbone, (1, 8, 8))  # what is imported late is so before the first fork
    wholes, seconds = {}, 0.0
    for interval in (1, 2):
        whole = folder / f"whole-{interval}"
        seconds = finish(whole, interval)
        wholes[interval] = hashes(whole, STEPS)
    while figures["kills"] < kills:
        slow, interval = bool(figures["finished"] % 2), rng.choice((1, 2))
        run = folder / f"run-{figures['finished']}"
        while not manifest.path_of(run / "checkpoints", STEPS).exists() and figures["kills"] < kills:
            pid = start(run, interval, slow)
            time.sleep(rng.uniform(0, (3 if slow else 1) * seconds))
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            if os.WIFSIGNALED(status):
                figures["kills"] += 1
                inspect(run, interval, pid, figures)
            else:
                figures["refused"] += os.WEXITSTATUS(status)
        finish(run, interval)
        figures["finished"] += 1
        figures["unequal"] += hashes(run, STEPS) != wholes[interval]
    return figures


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        kills, seed = [*map(int, sys.argv[1:]), 0][:2]
        print(json.dumps(kill_trainings(Path(temporary), kills, seed)))
