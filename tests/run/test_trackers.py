"""Trackers get what a training records, once, in one run of theirs; none of them can stop it."""

import json
import sqlite3
import sys
import types
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.interruption import hashes, stop_at

from sagd_cli.config.layers import resolve
from sagd_cli.errors import Interrupted, UsageError
from sagd_cli.run.log import read_records, scalars
from sagd_cli.run.trackers import TRACKERS, Trackers, check_trackers
from sagd_cli.system.console import Output
from sagd_cli.training.train import Conduct, run_training

CPU, QUIET = torch.device("cpu"), Output(quiet=True)
FIGURES = {"loss": 0.5, "band_losses/low": 0.25}
ENVIRONMENT = (
    *("WANDB_MODE", "WANDB_DIR", "WANDB_PROJECT", "WANDB_NAME", "WANDB_API_KEY"),
    *("TRACKIO_DIR", "TRACKIO_PROJECT", "TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"),
    *("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_ALLOW_FILE_STORE", "MLFLOW_DISABLE_TELEMETRY"),
    *("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"),
)


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """The trackers' own settings are unset, and what an adapter sets is gone afterwards."""
    for name in ENVIRONMENT:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.fixture
def fake(monkeypatch):
    def put(name: str, **members: object) -> types.ModuleType:
        module = types.ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
        return module

    return put


class Recorder:
    """A tracker that keeps what it gets, in a list that all of them share."""

    def __init__(self, tracked):
        self.id = tracked.own_id()
        self.calls.append(("begin", tracked.id, tracked.config["training"]["seed"]))

    def scalars(self, figures, step):
        self.calls.append(("scalars", step, dict(figures)))

    def image(self, name, path, step):
        with Image.open(path) as sheet:
            assert min(sheet.size) > 1
        self.calls.append(("image", step, name))

    def end(self, final, step):
        self.calls.append(("end", step, dict(final)))


@pytest.fixture
def calls(monkeypatch):
    calls = []
    monkeypatch.setattr("sagd_cli.run.tracker_kinds.TensorBoard", type("Kept", (Recorder,), {"calls": calls}))
    return calls


def points(run):
    return [("scalars", record["step"], dict(scalars(record))) for record in read_records(run)]


def of_kind(calls, kind):
    return [call for call in calls if call[0] == kind]


def test_a_tracker_gets_configuration_records_sheets_and_final_figures(tiny_settings, tmp_path, calls):
    config = resolve({**tiny_settings, "training.sample_images": 24, "sampling.steps": 1})
    run_training(config, tmp_path / "run", CPU, QUIET, Conduct(track=["tensorboard"]))
    assert calls[0] == ("begin", None, config.training.seed)
    assert of_kind(calls, "scalars") == points(tmp_path / "run")
    assert of_kind(calls, "image") == [("image", step, "samples") for step in (3, 6, 8)]
    last = points(tmp_path / "run")[-1][2]
    assert calls[-1] == ("end", 8, {f"final/{name}": value for name, value in last.items()})
    assert {"loss", "band_losses/low", "learning_rate"} <= set(last)


def test_a_resumed_training_goes_on_in_the_same_run_and_gives_no_step_twice(tiny_config, tmp_path, calls):
    run, conduct = tmp_path / "run", Conduct(track=["tensorboard"])
    with pytest.raises(Interrupted):
        run_training(tiny_config, run, CPU, stop_at(3), conduct)
    assert calls[-1] == ("end", 3, {})
    known = json.loads((run / "trackers.json").read_text())["tensorboard"]
    assert known["step"] == 3
    # As if the training had been killed after the record of step 5, past its checkpoint.
    (run / "trackers.json").write_text(json.dumps({"tensorboard": {**known, "step": 5}}))
    calls.clear()
    run_training(tiny_config, run, CPU, QUIET, conduct)
    assert calls[0][:2] == ("begin", known["id"])
    assert of_kind(calls, "scalars") == [point for point in points(run) if point[1] > 5]
    calls.clear()
    run_training(tiny_config, run, CPU, QUIET, conduct)
    assert calls == []  # it is finished


@pytest.mark.parametrize("method", ["__init__", "scalars", "end"])
def test_a_tracker_that_fails_is_left_out_with_one_warning(
    tiny_config, tiny_run, tmp_path, calls, monkeypatch, capsys, method
):
    def fails(*_):
        raise OSError("no space left")

    from sagd_cli.run import tracker_kinds

    monkeypatch.setattr(tracker_kinds.TensorBoard, method, fails)
    run_training(tiny_config, tmp_path / "run", CPU, Output(), Conduct(track=["tensorboard"]))
    assert (
        capsys.readouterr().err.count("--track tensorboard failed and is left out: OSError: no space left")
        == 1
    )
    assert hashes(tmp_path / "run") == hashes(tiny_run)


def test_an_unreadable_list_of_runs_begins_anew(tmp_path, calls, capsys):
    (tmp_path / "trackers.json").write_text("{")
    trackers = Trackers(tmp_path, Output())
    trackers.begin(["tensorboard"], {"training": {"seed": 0}})
    assert calls == [("begin", None, 0)] and "begin anew" in capsys.readouterr().err


@pytest.mark.parametrize("name", TRACKERS)
def test_without_the_package_nothing_is_begun(sagd, tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    result = sagd("train", "--track", name, "--output", tmp_path / "run")
    assert result.code == 2 and f'pip install "sagd[{name}]"' in result.err
    assert not (tmp_path / "run").exists()


def test_an_unknown_tracker_is_refused():
    with pytest.raises(UsageError, match="unknown tracker 'tensorbord'"):
        check_trackers(["tensorbord"])


def follow(run: Path, name: str) -> None:
    """A training of two halves: step 4, a sheet of step 5 and the end at step 6."""
    run.mkdir(exist_ok=True)
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8)).save(run / "sheet.png")
    warned = []
    output = types.SimpleNamespace(warn=warned.append)
    for step, final in ((4, {}), (6, FIGURES)):
        trackers = Trackers(run, output)
        trackers.begin([name], {"training": {"seed": 3}})
        trackers.scalars(FIGURES, 4)
        trackers.image(run / "sheet.png", step)
        trackers.scalars(FIGURES, step)
        trackers.end(final, step)
    assert warned == []


def test_event_files(tmp_path):
    pytest.importorskip("tensorboard", reason="needs the extra tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    follow(tmp_path / "run", "tensorboard")
    found = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    read = {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}
    assert read == {
        **{name: [(4, value), (6, value)] for name, value in FIGURES.items()},
        **{f"final/{name}": [(6, value)] for name, value in FIGURES.items()},
    }
    assert [image.step for image in found.Images("samples")] == [6]
    assert "seed: 3" in str(found.Tensors("config/text_summary"))


def test_the_database_of_trackio(tmp_path, monkeypatch, capsys):
    pytest.importorskip("gradio_client", reason="needs the extra trackio")
    loaded = [name for name in sys.modules if name.split(".")[0] == "trackio"]
    for name in loaded:  # it takes its folder when it is imported
        monkeypatch.delitem(sys.modules, name)
    follow(tmp_path / "run", "trackio")
    assert capsys.readouterr().out == ""
    (database,) = (tmp_path / "run" / "trackio").glob("*.db")
    with sqlite3.connect(database) as tables:
        rows = tables.execute("select run_name, step, metrics from metrics order by id").fetchall()
        (config,) = tables.execute("select config from configs").fetchone()
    assert len({name for name, _, _ in rows}) == 1
    read = [(step, name, value) for _, step, text in rows for name, value in json.loads(text).items()]
    numbers = [point for point in read if point[1] != "samples"]
    assert sorted(numbers) == sorted(
        [(step, name, value) for step in (4, 6) for name, value in FIGURES.items()]
        + [(6, f"final/{name}", value) for name, value in FIGURES.items()]
    )
    assert [step for step, name, _ in read if name == "samples"] == [6]
    assert json.loads(config)["training"] == {"seed": 3}


@pytest.fixture
def fake_wandb(fake):
    class Run:
        def __init__(self, given):
            self.given, self.logged, self.summary, self.finished = given, [], {}, False

        def log(self, values, step):
            self.logged.append((step, values))

        def finish(self):
            self.finished = True

    runs = []

    def init(**given):
        runs.append(Run(given))
        return runs[-1]

    fake("wandb", init=init, Settings=dict, Image=lambda path: path, api=types.SimpleNamespace(api_key=None))
    return runs


def test_calls_of_wandb(fake_wandb, tmp_path, monkeypatch):
    run = tmp_path / "run"
    follow(run, "wandb")
    first, second = fake_wandb
    assert first.given["id"] == second.given["id"] and first.given["resume"] == "allow"
    assert (first.given["mode"], first.given["dir"], first.given["name"]) == ("offline", str(run), "run")
    assert first.given["config"] == {"training": {"seed": 3}}
    assert first.logged == [(4, FIGURES)] and second.logged[1:] == [(6, FIGURES)]
    assert second.logged[0] == (6, {"samples": str(run / "sheet.png")})
    assert first.summary == {} and second.summary == {f"final/{k}": v for k, v in FIGURES.items()}
    assert first.finished and second.finished
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setenv("WANDB_DIR", "elsewhere")
    follow(tmp_path / "other", "wandb")
    assert (fake_wandb[-1].given["mode"], fake_wandb[-1].given["dir"]) == ("disabled", "elsewhere")
    assert fake_wandb[-1].given["id"] != first.given["id"]


def test_calls_of_mlflow(fake, tmp_path, monkeypatch):
    calls = []

    class Client:
        def __init__(self, uri):
            calls.append(("client", uri))

        def get_experiment_by_name(self, name):
            return None

        def create_experiment(self, name):
            return "7"

        def create_run(self, experiment, run_name):
            assert (experiment, run_name) == ("7", "run")
            return types.SimpleNamespace(info=types.SimpleNamespace(run_id="abc"))

        def log_batch(self, run, metrics=(), params=()):
            assert run == "abc"
            calls.extend([*metrics, *params])

        def __getattr__(self, name):
            return lambda run, *values, **more: calls.append((name, run, *values, *more.values()))

    fake(
        "mlflow",
        entities=types.SimpleNamespace(Metric=lambda k, v, _, s: (s, k, v), Param=lambda k, v: (k, v)),
    )
    fake("mlflow.tracking", MlflowClient=Client)
    run = tmp_path / "run"
    follow(run, "mlflow")
    assert calls == [
        ("client", (run / "mlruns").as_uri()),
        ("training.seed", "3"),
        ("log_dict", "abc", {"training": {"seed": 3}}, "config.yaml"),
        *((4, *pair) for pair in FIGURES.items()),
        ("set_terminated", "abc", "KILLED"),
        ("client", (run / "mlruns").as_uri()),
        ("update_run", "abc", "RUNNING"),
        ("log_artifact", "abc", str(run / "sheet.png"), "samples"),
        *((6, *pair) for pair in FIGURES.items()),
        *((6, f"final/{name}", value) for name, value in FIGURES.items()),
        ("set_terminated", "abc", "FINISHED"),
    ]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:1")
    calls.clear()
    follow(run, "mlflow")
    assert calls[0] == ("client", "http://localhost:1")


@pytest.mark.skipif(find_spec("wandb") is None, reason="needs the extra wandb")
def test_an_offline_folder_of_wandb(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    follow(tmp_path / "run", "wandb")
    kept = list((tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb"))
    assert kept and any(b"band_losses/low" in path.read_bytes() for path in kept)


@pytest.mark.skipif(find_spec("mlflow") is None, reason="needs the extra mlflow")
def test_the_folder_of_mlflow(tmp_path):
    follow(tmp_path / "run", "mlflow")
    from mlflow.tracking import MlflowClient

    client = MlflowClient((tmp_path / "run" / "mlruns").as_uri())
    known = json.loads((tmp_path / "run" / "trackers.json").read_text())["mlflow"]
    kept = client.get_run(known["id"])
    assert kept.data.params == {"training.seed": "3"} and kept.info.status == "FINISHED"
    assert [(m.step, m.value) for m in client.get_metric_history(known["id"], "loss")] == [(4, 0.5), (6, 0.5)]
    assert {file.path for file in client.list_artifacts(known["id"])} == {"config.yaml", "samples"}
