"""The shared record: one process has a run, whatever comes between its steps, and a dead one loses it."""

import sqlite3
import subprocess
import sys

import pytest

from sagd_cli.config.run import DatasetConfig
from sagd_cli.sweep.grid import make_cells, parse_grid
from sagd_cli.sweep.plan import Evaluation, Plan
from sagd_cli.sweep.study import Study

KEY = "alpha=0/seed-0"


def a_plan(output, storage=None):
    cells = make_cells(parse_grid(["filter.options.alpha=0"]), {}, [], None, None)
    return Plan(
        base=cells[0].config,
        cells=cells,
        seeds=(0,),
        evaluation=Evaluation("fd", 100, DatasetConfig()),
        halving=None,
        output=output,
        storage=storage,
    )


@pytest.fixture
def study(tmp_path):
    study = Study(a_plan(tmp_path))
    study.enqueue([KEY])
    return study


def test_a_run_just_claimed_is_not_dead_to_other_machines(study, tmp_path, monkeypatch):
    """Machines that start together look at the same run first, before its first renewed sign of life."""
    trial = study.claim(KEY)
    monkeypatch.setattr("socket.gethostname", lambda: "another")
    assert trial is not None and Study(a_plan(tmp_path)).claim(KEY) is None


def test_a_run_of_another_output_of_this_machine_is_not_taken(tmp_path):
    storage = f"sqlite:///{tmp_path / 'shared.sqlite3'}"
    one, two = (Study(a_plan(tmp_path / name, storage)) for name in ("one", "two"))
    one.enqueue([KEY])
    trial = one.claim(KEY)
    assert two.claim(KEY) is None  # its file lock is free here, and says nothing
    assert one.claim(KEY) == trial  # here it says that the process has died


def test_the_place_of_one_that_stopped_says_nothing_of_the_next(study, tmp_path, monkeypatch):
    study.release(study.claim(KEY))
    original = study._storage.set_trial_state_values
    seen = []

    def claimed_then_watched(*arguments):
        done = original(*arguments)
        seen.append(Study(a_plan(tmp_path)).claim(KEY))  # the one that stopped is back, and looks
        return done

    with monkeypatch.context() as patch:
        patch.setattr("socket.gethostname", lambda: "another")
        patch.setattr(study._storage, "set_trial_state_values", claimed_then_watched)
        assert study.claim(KEY) is not None
    assert seen == [None]


def test_what_two_have_done_counts_as_it_was_finished_first(study, tmp_path, monkeypatch):
    first = study.claim(KEY)
    monkeypatch.setattr("socket.gethostname", lambda: "another")
    monkeypatch.setattr("sagd_cli.sweep.study.STALE", -1.0)
    other = Study(a_plan(tmp_path))
    second = other.claim(KEY)  # taken for dead, as after an hour of sleep
    assert second == first
    other.finish(second, {"value": 1.0})
    for late in (
        lambda: study.report(first, 8, 9.0),
        lambda: study.finish(first, {"value": 2.0}),
        lambda: study.release(first, "too late"),
    ):
        late()
        assert study.records()[KEY].state == "done" and study.records()[KEY].result == {"value": 1.0}


def test_what_failed_is_tried_once_each_time_the_sweep_is_started(study, tmp_path):
    trial = study.claim(KEY)
    study.release(trial, "diverged")
    assert study.claim(KEY) is None and Study(a_plan(tmp_path)).claim(KEY) is None
    assert study.records()[KEY].state == "failed"
    study.enqueue([KEY])
    assert study.records()[KEY].state == "waiting" and study.claim(KEY) == trial


@pytest.mark.parametrize("name", ["<script>", "a?b=c", "{x}", "p%41", "h#x", "[1] 2", "é"])
def test_any_path_holds_its_database(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    Study(a_plan(folder)).enqueue([KEY])
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with sqlite3.connect(folder / "study.sqlite3") as database:
        assert database.execute("select count(*) from trials").fetchone() == (1,)


OPENING = """
import pathlib, optuna
from test_study import KEY, Study, a_plan
plan = a_plan(pathlib.Path(sys.argv[1]))
print(flush=True)
sys.stdin.readline()
Study(plan).enqueue([KEY])
"""


def test_processes_may_open_a_new_study_at_one_time(tmp_path):
    command = [sys.executable, "-c", f"import sys\nsys.path[:0] = {sys.path!r}{OPENING}"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([*command, str(tmp_path)], **pipes) for _ in range(3)]
    for process in processes:
        process.stdout.readline()
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        _, said = process.communicate()
        assert process.returncode == 0, said
    assert Study(a_plan(tmp_path)).claim(KEY) is not None
