"""Sweeps as they run: each cell once, whatever kills them; neighbours of what fails; early stopping; processes."""

import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.plans import a_plan

from sagd_cli.config.layers import resolve
from sagd_cli.errors import ConfigError, UsageError
from sagd_cli.sweep.folder import joined_plan, read_plan, write_plan
from sagd_cli.sweep.plan import hash_file
from sagd_cli.sweep.scoring import check_measure
from sagd_cli.sweep.study import DONE, Study
from sagd_cli.system.console import Output
from sagd_cli.system.signals import StopRequest
from sagd_cli.training.train import Conduct, run_training

TINY = [
    "--set",
    "backbone.options={channels: [8, 8], layers_per_block: 1, attention: [false, false]}",
    *(
        "--set",
        "training.batch_size=8",
        "--set",
        "training.images=64",
        "--set",
        "training.checkpoint_images=16",
    ),
    *(
        "--set",
        "training.log_steps=1",
        "--set",
        "training.warmup_images=8",
        "--set",
        "sampling.steps=1",
        "-n",
        "12",
    ),
]


def test_a_run_is_claimed_by_one_and_comes_back_as_the_same_trial(tmp_path, monkeypatch):
    plan = a_plan(tmp_path, "filter.options.alpha=0,0.1")
    keys = [f"{cell.name}/seed-0" for cell in plan.cells]
    study, other = Study(plan), Study(plan)
    study.enqueue(keys)
    other.enqueue(keys)
    trial = study.claim(keys[0])
    monkeypatch.setattr("socket.gethostname", lambda: "another")
    with study.alive(trial):
        time.sleep(0.3)
        assert other.claim(keys[0]) is None  # it lives, on another machine
    monkeypatch.setattr("sagd_cli.sweep.study.STALE", -1.0)
    assert other.claim(keys[0]) == trial  # it gives no sign of life
    other.release(trial, "out of luck")
    assert study.records()[keys[0]].state == "failed" and study.records()[keys[0]].error == "out of luck"
    assert study.claim(keys[0]) is None  # not twice in one go
    study.enqueue(keys)
    assert study.claim(keys[0]) == trial
    study.finish(trial, {"value": 1.5, "label": "x"})
    assert other.claim(keys[0]) is None
    assert other.records()[keys[0]].result == {"value": 1.5, "label": "x"}
    assert study.records()[keys[1]].state == "waiting"


def test_trials_added_twice_at_one_time_count_once(tmp_path):
    plan = a_plan(tmp_path, "filter.options.alpha=0,0.1")
    study = Study(plan)
    for _ in range(2):  # what two machines do that see no trials
        for key in ("alpha=0/seed-0", "alpha=0.1/seed-0"):
            study._study.enqueue_trial({}, user_attrs={"key": key})
    trial = study.claim("alpha=0/seed-0")
    study.finish(trial, {"value": 1.0})
    assert study.records()["alpha=0/seed-0"].state == DONE
    assert study.claim("alpha=0/seed-0") is None


def test_a_study_is_shared_by_threads_of_one_machine(tmp_path):
    """File locks let one of many claim: of 4 workers on 3 runs each run is done by one."""
    from sagd_cli.system.files import try_lock

    plan = a_plan(tmp_path, "filter.options.alpha=0,0.1,0.2")
    keys = [f"{cell.name}/seed-0" for cell in plan.cells]
    Study(plan).enqueue(keys)

    def worker(_):
        study, did = Study(plan), []
        for key in keys:
            with try_lock(tmp_path / key.replace("/", "-")) as held:
                trial = study.claim(key) if held else None
                if trial is not None:
                    time.sleep(0.1)
                    study.finish(trial, {"value": 0.0})
                    did.append(key)
        return did

    with ThreadPoolExecutor(4) as pool:
        done = [key for did in pool.map(worker, range(4)) for key in did]
    assert sorted(done) == sorted(keys)


def test_a_sweep_ends_with_its_table_and_the_same_command_does_nothing_more(sagd, tmp_path):
    command = [
        "sweep",
        "--grid",
        "filter.options.alpha=-0.1,0",
        "--seeds",
        "0,1",
        *TINY,
        "--output",
        tmp_path / "s",
    ]
    found = sagd(*command, "--json")
    assert found.code == 0, found.err
    assert json.loads((tmp_path / "s" / "sweep.json").read_text()) == found.json
    assert [run["state"] for cell in found.json["cells"] for run in cell["runs"]] == ["done"] * 4
    assert (tmp_path / "s" / "figures" / "sweep.png").stat().st_size > 1000
    run = tmp_path / "s" / "cells" / "alpha=0" / "seed-1"
    assert (
        json.loads((run / "evaluation" / "sweep.json").read_text())["fd"]
        == found.json["cells"][1]["runs"][1]["fd"]
    )
    before = {
        path: path.stat().st_mtime_ns
        for path in (tmp_path / "s" / "cells").rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }
    assert sagd(*command, "--json").json == found.json
    assert {path: path.stat().st_mtime_ns for path in before} == before
    grown = sagd(*command[:2], "filter.options.alpha=-0.1,0,0.1", *command[3:], "--json")
    assert [cell["count"] for cell in grown.json["cells"]] == [2, 2, 2]
    assert grown.json["cells"][:2] == found.json["cells"]
    narrower = sagd(*command[:2], "filter.options.alpha=0.1", *command[5:], "--json")  # and without its seeds
    assert (
        narrower.json == grown.json and json.loads((tmp_path / "s" / "sweep.json").read_text()) == grown.json
    )
    bare = ["sweep", "--output", tmp_path / "s"]
    assert sagd(*bare, "--json").json == grown.json
    more = sagd(*bare, "--seeds", "2", "--dry-run", "--json").json
    assert more["seeds"] == [0, 1, 2] and more["cells"] == [cell["name"] for cell in grown.json["cells"]]
    refused = sagd(*bare, "--set", "training.learning_rate=1e-4", "--count", 12)
    assert refused.code == 2 and "so --set, --count cannot be had" in refused.err
    refused = sagd(*command[:2], "training.flips=true", *command[3:])
    assert refused.code == 2 and "sweeps filter.options.alpha, not training.flips" in refused.err
    other = sagd(*command, "--set", "training.learning_rate=1e-4")
    assert other.code == 2 and "base.training.learning_rate differ" in other.err
    assert sagd("sample", run, "-n", 2, "--output", tmp_path / "samples").code == 0


def test_what_cannot_run_is_refused_before_anything_is_written(sagd, tmp_path, monkeypatch):
    np.save(tmp_path / "big.npy", np.arange(8 * 256, dtype=np.uint8).reshape(8, 1, 16, 16))
    np.save(tmp_path / "latents.npy", np.arange(8 * 256, dtype=np.float32).reshape(8, 4, 8, 8))
    for arguments, words in (
        (["--grid", "filter.options.alhpa=1"], "Did you mean alpha?"),
        (["--grid", "filter.options.alpha=1", "--metric", "isc"], "Metrics of a sweep"),
        (["--grid", "filter.options.alpha=1", "--features", "nosuch"], "unknown feature"),
        (["--grid", "filter.options.alpha=1", "--set", "filter.omit=0:1"], "zero at every frequency"),
        (["--grid", "dataset=digits,nosuch", "--reference", "digits:test"], "unknown dataset"),
        (["--grid", "filter.options.alpha=1", "--storage", "nosuch://x"], "no address of a database"),
        (["--grid", "filter.options.alpha=1", "--storage", "somewhere"], "no address of a database"),
        (["--grid", "filter.options.alpha=1", "--storage", "mssql+pymssql://x/y"], "driver of the database"),
        (["--grid", "filter.options.alpha=1", "--weights", tmp_path / "none"], "none cannot be read"),
        (["--grid", "dataset=digits,digits:test"], "no common reference"),
        (["--grid", "filter.options.alpha=1", "--features", "inception"], "need the weights"),
        (["--grid", "filter.options.alpha=1", "--reference", tmp_path / "big.npy"], "of (1, 16, 16)"),
        (["--grid", "filter.options.alpha=1", "--dataset", tmp_path / "latents.npy"], "not grey or RGB"),
        ([], "nothing to sweep"),
    ):
        for dry in ([], ["--dry-run"]):
            refused = sagd("sweep", *arguments, *TINY, *dry, "--output", tmp_path / "s")
            assert refused.code in (1, 2) and words in refused.err, refused.err
            assert not (tmp_path / "s").exists()
    monkeypatch.setenv("WORLD_SIZE", "2")
    refused = sagd("sweep", "--grid", "filter.options.alpha=1", *TINY, "--output", tmp_path / "s")
    assert refused.code == 2 and "torchrun" in refused.err


def test_settings_may_come_through_a_pipe(sagd, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("training: {batch_size: 16, images: 320}"))
    command = ["sweep", "--config", "-", "--grid", "filter.options.alpha=-0.1,0", "--output", tmp_path / "s"]
    assert sagd(*command, "--dry-run", "--json").json["images"] == 640


def test_a_run_whose_process_is_dying_is_had_at_the_next_look(tmp_path, monkeypatch):
    from contextlib import contextmanager

    from sagd_cli.sweep import work

    held = iter([False, *[True] * 5])

    @contextmanager
    def lock(path):
        yield next(held)

    plan, did = a_plan(tmp_path, "filter.options.alpha=0,0.1"), []
    Study(plan).enqueue([job.key for job in work.jobs_of(plan)])
    monkeypatch.setattr(work, "try_lock", lock)

    def run(task):
        did.append(task.job.key)
        task.study.finish(task.trial, {"value": 0.0})

    monkeypatch.setattr(work, "_run", run)
    work.work(plan, torch.device("cpu"), Output(quiet=True), lambda: None)
    assert did == ["alpha=0.1/seed-0", "alpha=0/seed-0"]


def test_the_baseline_is_never_stopped_early(sagd, tmp_path, monkeypatch):
    monkeypatch.setattr("sagd_cli.sweep.study.Study.should_prune", lambda study, trial: True)
    command = ["sweep", "--grid", "filter.options.alpha=-0.1,0", "--halving", 2, *TINY]
    found = sagd(*command, "--output", tmp_path / "s", "--json")
    assert [cell["runs"][0]["state"] for cell in found.json["cells"]] == ["pruned", "done"]
    assert found.json["best"] == found.json["baseline"] == "alpha=0"


def test_a_run_goes_on_from_the_rung_it_has_passed(tmp_path, monkeypatch):
    from sagd_cli.sweep import work
    from sagd_cli.sweep.plan import Halving

    plan = a_plan(tmp_path, "filter.options.alpha=0.1")
    plan = replace(plan, halving=Halving(2, (2, 4), 2 * 128))
    study, steps = Study(plan), []
    study.enqueue(["alpha=0.1/seed-0"])
    trial = study.claim("alpha=0.1/seed-0")
    for images in (2 * 128, 4 * 128):
        study.report(trial, images, 1.0)
    job = next(work.jobs_of(plan))
    task = work._Work(
        plan=plan,
        job=job,
        path=tmp_path,
        study=study,
        trial=trial,
        device=torch.device("cpu"),
        output=Output(quiet=True),
        stop=StopRequest(),
    )
    monkeypatch.setattr(work._Work, "train", lambda self, until=None: steps.append(until) or 8)
    receipt = {"reference": {"sha256": "r"}, "weights_sha256": "w"}
    found = {"fd": 1.0, "label": "x", "receipt": receipt}
    monkeypatch.setattr(work._Work, "measure", lambda self, count, name: found)
    work._train_and_measure(task)
    assert steps == [None] and study.records()["alpha=0.1/seed-0"].state == DONE


def test_the_output_may_be_left_by_a_sweep_that_had_not_begun_and_by_nothing_else(sagd, tmp_path):
    command = ["sweep", "--grid", "filter.options.alpha=0", *TINY, "--dry-run", "--output"]
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "study.sqlite3").write_bytes(b"")
    assert sagd(*command, tmp_path / "s").code == 0
    (tmp_path / "s" / "notes.txt").write_text("mine")
    for path in (tmp_path / "s", tmp_path / "s" / "notes.txt"):
        assert sagd(*command, path).code == 2


def test_an_address_with_a_password_stays_a_secret(sagd, tmp_path):
    storage = f"sqlite://me:secret@/{tmp_path}/none/x.sqlite3"
    command = [
        "sweep",
        "--grid",
        "filter.options.alpha=0",
        *TINY,
        "--storage",
        storage,
        "--output",
        tmp_path / "s",
    ]
    refused = sagd(*command)
    assert refused.code == 1 and "secret" not in refused.err and list((tmp_path / "s").iterdir()) == []
    for address in ("nosuch://me:secret@localhost/x", "mysql+pymysql://me:secret@localhost:x/y"):
        refused = sagd(*command, "--storage", address)
        assert refused.code == 2 and "secret" not in refused.err
    plan = a_plan(tmp_path / "s", "filter.options.alpha=0")
    write_plan(replace(plan, storage="postgresql://me:secret@host/x"))
    assert all("secret" not in path.read_text() for path in (tmp_path / "s").rglob("*.yaml"))
    with pytest.raises(UsageError, match="whose password is not kept"):
        read_plan(tmp_path / "s")
    assert read_plan(tmp_path / "s", plan.storage) == plan


def test_a_plan_is_read_as_it_was_written(tmp_path):
    grid = ["filter=white,powerlaw:alpha=-0.1,{type: white, omit: high}", "schedule=linear,cosine"]
    plan = replace(a_plan(tmp_path / "s", *grid, seeds=(0, 3)), storage="sqlite:///x.sqlite3")
    write_plan(plan)
    assert read_plan(tmp_path / "s") == plan and joined_plan(plan) == plan
    assert read_plan(tmp_path / "s").study == plan.study


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("sweep.yaml", "", "sweep.yaml is empty"),
        ("sweep.yaml", "{identity: 1}", "sweep.yaml: "),
        ("sweep.yaml", "{cells: [", "sweep.yaml, line 1"),
        ("cells/alpha=0/cell.yaml", "{a: 1}", "cell.yaml: unknown key 'a'"),
        ("cells/alpha=0/cell.yaml", None, "cannot read"),
    ],
)
def test_a_damaged_plan_is_one_sentence(sagd, tmp_path, file, text, words):
    write_plan(a_plan(tmp_path / "s", "filter.options.alpha=0"))
    if text is None:
        (tmp_path / "s" / file).unlink()
    else:
        (tmp_path / "s" / file).write_text(text)
    for command in (["sweep"], ["sweep", "--grid", "filter.options.alpha=0"]):
        refused = sagd(*command, "--output", tmp_path / "s")
        assert refused.code == 2 and words in refused.err and "Traceback" not in refused.err


def test_a_cell_cannot_lead_out_of_the_folder(tmp_path):
    write_plan(a_plan(tmp_path / "s", "filter.options.alpha=0"))
    plan = (tmp_path / "s" / "sweep.yaml").read_text()
    for name in ("../../x", ".", "..", "a/b", "/x"):
        (tmp_path / "s" / "sweep.yaml").write_text(plan.replace("alpha=0:", f"{name}:"))
        with pytest.raises(ConfigError, match="cells"):
            read_plan(tmp_path / "s")


@pytest.mark.slow
def test_two_commands_in_one_folder_lose_nothing_of_each_other(sagd, tmp_path, monkeypatch):
    from sagd_cli.sweep import run

    command = ["sweep", *TINY, "--output", tmp_path / "s", "--json", "--grid"]
    original, found = run.run_plan, []

    def run_while_another_does(*arguments):
        monkeypatch.setattr(run, "run_plan", original)
        other = [
            sys.executable,
            "-m",
            "sagd_cli",
            *map(str, command),
            "filter.options.alpha=0.1",
            "--seeds",
            "1",
        ]
        found.append(json.loads(subprocess.run(other, capture_output=True, check=True).stdout))
        original(*arguments)

    monkeypatch.setattr(run, "run_plan", run_while_another_does)
    found.append(sagd(*command, "filter.options.alpha=0", "--seeds", "0").json)
    for one in (*found, json.loads((tmp_path / "s" / "sweep.json").read_text())):
        assert one["seeds"] == [0, 1] and [cell["count"] for cell in one["cells"]] == [2, 2]
    monkeypatch.setattr(run, "run_plan", original)
    write_plan(replace(read_plan(tmp_path / "s"), seeds=(0,)))  # as one that began at the same moment
    assert sagd(*command, "filter.options.alpha=0", "--seeds", "1").json == found[1]


def test_weights_are_known_by_their_content(tmp_path):
    """At another path they make the same study; another file at the same path is refused before anything runs."""
    digest = {}
    for name in ("a", "b"):
        (tmp_path / f"{name}.safetensors").write_bytes(b"weights")
        digest[name] = hash_file(tmp_path / f"{name}.safetensors")
    plan = a_plan(tmp_path / "s", "filter.options.alpha=0")
    one, two = (
        replace(
            plan, evaluation=replace(plan.evaluation, weights=f"{tmp_path}/{n}.safetensors", weights_sha256=d)
        )
        for n, d in digest.items()
    )
    assert one.study == two.study != plan.study
    (tmp_path / "a.safetensors").write_bytes(b"others")
    with pytest.raises(UsageError, match="is not the file that runs of this sweep"):
        check_measure(one)


def test_runs_are_measured_against_the_same_images(sagd, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (20, 1, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "r.npy", images)
    command = ["sweep", "--grid", "filter.options.alpha=0", *TINY, "--reference", tmp_path / "r.npy"]
    assert sagd(*command, "--output", tmp_path / "s").code == 0
    np.save(tmp_path / "r.npy", images[::-1])
    found = sagd(*command, "--output", tmp_path / "s", "--seeds", "1", "--json")
    assert found.code == 1 and [run["state"] for run in found.json["cells"][0]["runs"]] == ["done", "failed"]
    assert "not those of the runs before" in found.json["cells"][0]["runs"][1]["error"]


def test_a_dry_run_says_what_would_be_done(sagd, tmp_path):
    found = sagd(
        "sweep",
        "--grid",
        "filter.options.alpha=-0.1,0",
        "--seeds",
        "0,1,2",
        *TINY,
        "--output",
        tmp_path / "s",
        "--dry-run",
        "--json",
    )
    assert found.json["runs"] == 6 and found.json["images"] == 6 * 64 and not (tmp_path / "s").exists()


def test_a_run_that_fails_is_listed_and_its_neighbours_are_done(sagd, tmp_path):
    command = ["sweep", "--grid", "training.learning_rate=1e-3,1e30", *TINY, "--output", tmp_path / "s"]
    found = sagd(*command, "--json")
    assert found.code == 1 and "1 ok, 1 failed: learning_rate=1e+30/seed-0" in found.err
    assert [cell["runs"][0]["state"] for cell in found.json["cells"]] == ["done", "failed"]
    assert "not finite" in found.json["cells"][1]["runs"][0]["error"]
    assert sagd(*command, "--json").code == 1  # tried again, and failed again


@pytest.mark.slow
def test_runs_are_stopped_early_and_those_that_go_on_end_the_same(sagd, tmp_path):
    grid = ["sweep", "--grid", "training.learning_rate=1e-3,1e-9", "--seeds", "0,1", *TINY]
    plain = sagd(*grid, "--output", tmp_path / "plain", "--json").json
    halved = sagd(*grid, "--output", tmp_path / "halved", "--halving", 2, "--json").json
    states = [[run["state"] for run in cell["runs"]] for cell in halved["cells"]]
    assert "pruned" in states[0] + states[1] and "done" in states[0] + states[1]
    for cell, other in zip(halved["cells"], plain["cells"], strict=True):
        for run, whole in zip(cell["runs"], other["runs"], strict=True):
            if run["state"] == "done":
                assert run["fd"] == whole["fd"]
            else:
                assert run["images"] in (16, 32)
                assert not (tmp_path / "halved" / run["run"] / "evaluation" / "sweep.json").exists()


@pytest.mark.slow
def test_a_pause_changes_no_bit_of_a_training(tmp_path, tiny_settings):
    config, quiet, cpu = resolve(tiny_settings), Output(quiet=True), torch.device("cpu")
    run_training(config, tmp_path / "one", cpu, quiet)
    for until in (2, 2, 5, None):
        result = run_training(config, tmp_path / "two", cpu, quiet, Conduct(until=until))
        assert result["step"] == (until or 8)
    ends = [
        load_file(tmp_path / name / "checkpoints" / "step-00000008" / "ema.safetensors")
        for name in ("one", "two")
    ]
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


@pytest.fixture
def start():
    """Start a command; whatever becomes of the test, none outlives it."""
    started = []

    def run(*arguments, **settings):
        command = [sys.executable, "-m", "sagd_cli", *map(str, arguments)]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **settings
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def children(pid):
    """Processes that a process has started, but for multiprocessing's tracker of resources."""
    listed = subprocess.run(  # -ww: or long paths are cut, and the name that is looked for with them
        ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    return [int(line.split()[0]) for line in listed.stdout.splitlines() if "spawn_main" in line]


def trials(folder):
    with sqlite3.connect(folder / "study.sqlite3") as database:
        return database.execute("select number, state from trials order by number").fetchall()


def wait_until(condition, process):
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


@pytest.mark.slow
def test_killed_twice_it_ends_complete_with_each_cell_run_once(sagd, tmp_path, start):
    folder = tmp_path / "s"
    command = [
        "sweep",
        "--grid",
        "filter.options.alpha=-0.1,0",
        "--seeds",
        "0,1",
        *TINY,
        "--output",
        folder,
    ]
    process = start(*command)
    wait_until(lambda: len([*folder.glob("cells/*/*/evaluation/sweep.json")]) >= 1, process)
    process.kill()
    process.communicate()
    process = start(*command)
    wait_until(lambda: len([*folder.glob("cells/*/*/evaluation/sweep.json")]) >= 2, process)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate()
    assert process.returncode == 143 and "Run the same command again" in said, said
    stamps = {path: path.stat().st_mtime_ns for path in folder.glob("cells/*/*/evaluation/sweep.json")}
    found = sagd("sweep", "--output", folder, "--json").json
    assert [run["state"] for cell in found["cells"] for run in cell["runs"]] == ["done"] * 4
    assert trials(folder) == [(number, "COMPLETE") for number in range(4)]
    kept = [path for path, stamp in stamps.items() if path.stat().st_mtime_ns == stamp]
    assert (
        len(kept) >= len(stamps) - 1
    )  # what was finished was not done again, but for one that was being recorded


@pytest.mark.slow
def test_several_processes_share_a_sweep_and_die_with_it(sagd, tmp_path, start):
    folder = tmp_path / "s"
    command = ["sweep", "--grid", "filter.options.alpha=-0.1,0,0.1", *TINY, "--output", folder, "--jobs", 2]
    process = start(*command)
    wait_until(lambda: [*folder.glob("cells/*/*/metrics.jsonl")], process)
    workers = children(process.pid)
    assert len(workers) == 2
    process.kill()
    process.communicate()
    for pid in workers:
        while _is_alive(pid):
            time.sleep(0.1)
    found = sagd("sweep", "--output", folder, "--json").json
    assert [cell["count"] for cell in found["cells"]] == [1, 1, 1]
    assert trials(folder) == [(number, "COMPLETE") for number in range(3)]


@pytest.mark.slow
def test_several_processes_are_stopped_by_the_end_of_their_terminal_and_go_on(tmp_path, start):
    """It sends SIGHUP to all of them, and more than once."""
    folder = tmp_path / "s"
    command = [
        "sweep",
        "--grid",
        "filter.options.alpha=-0.1,0",
        *(text.replace("images=64", "images=40000") for text in TINY),
        "--output",
        folder,
    ]
    # The tests may run under nohup, and what is ignored is inherited.
    own = {"start_new_session": True, "preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL)}
    process = start(*command, "--jobs", 2, **own)
    wait_until(lambda: len([*folder.glob("cells/*/*/metrics.jsonl")]) == 2, process)
    for _ in range(2):
        os.killpg(process.pid, signal.SIGHUP)
    _, said = process.communicate()
    assert process.returncode == 129, said
    assert len([*folder.glob("cells/*/*/checkpoints/step-*")]) >= 2  # both were saved
    assert [state for _, state in trials(folder)] == ["WAITING", "WAITING"]


@pytest.mark.slow
def test_ctrl_c_while_processes_start_is_one_sentence(tmp_path, start):
    command = [
        "sweep",
        "--grid",
        "filter.options.alpha=-0.1,0",
        *(text.replace("images=64", "images=40000") for text in TINY),  # not done before it is stopped
        "--output",
        tmp_path / "s",
        "--jobs",
        2,
    ]
    process = start(*command, start_new_session=True)
    wait_until(lambda: children(process.pid), process)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, said = process.communicate()
    assert process.returncode == 130 and "Traceback" not in said and "of 2 runs are done" in said, said


def _is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
        return file.read().rsplit(")", 1)[1].split()[0] != "Z"


def test_a_plan_of_another_measure_is_another_study(tmp_path):
    plan = a_plan(tmp_path, "filter.options.alpha=0,0.1")
    other = replace(plan, evaluation=replace(plan.evaluation, count=200))
    assert plan.study != other.study
    assert plan.study == replace(plan, seeds=(0, 1, 2), cells=plan.cells[:1]).study
