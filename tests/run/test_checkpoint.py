"""The store: nothing damaged is ever loaded, nothing sound is ever lost."""

import json
import random
import shutil

import pytest
import torch
from safetensors.torch import load_file
from support.listening import newest_and_skipped

from sagd_cli.config.run import BackboneConfig
from sagd_cli.errors import CheckpointError, SagdError, UsageError
from sagd_cli.model.network import build_backbone, resolve_backbone
from sagd_cli.model.state import TrainingState
from sagd_cli.run import checkpoint, manifest
from sagd_cli.run.folder import open_run
from sagd_cli.system.console import Output


@pytest.fixture
def run(tiny_run, tmp_path):
    return shutil.copytree(tiny_run, tmp_path / "run")


def test_a_run_holds_what_the_design_names(tiny_run):
    assert {p.name for p in tiny_run.iterdir()} == {"config.yaml", "metrics.jsonl", "run.lock", "checkpoints"}
    steps = sorted(p.name for p in (tiny_run / "checkpoints").iterdir())
    assert steps == ["step-00000006", "step-00000008"]  # the newest two of 2, 4, 6, 8
    names = {p.name for p in (tiny_run / "checkpoints" / steps[-1]).iterdir()}
    stems = ("model", "ema", "optimizer", "filter", "data")
    assert names == {f"{stem}.safetensors" for stem in stems} | {"manifest.json"}


def test_restoring_gives_back_every_tensor(tiny_run, tiny_config):
    config = resolve_backbone(tiny_config, (1, 8, 8))
    found, skipped = newest_and_skipped(tiny_run / "checkpoints")
    state = TrainingState(build_backbone(config.backbone, (1, 8, 8)), config.training, torch.device("cpu"))
    checkpoint.restore_state(found, state)
    assert skipped == [] and state.step == 8
    saved = load_file(found.path / "model.safetensors")
    assert all(torch.equal(saved[name], value) for name, value in state.network.state_dict().items())
    averaged = load_file(found.path / "ema.safetensors")
    assert all(torch.equal(averaged[name], value) for name, value in state.ema.network.state_dict().items())
    slots = load_file(found.path / "optimizer.safetensors")
    for index, values in state.optimizer.state_dict()["state"].items():
        assert all(torch.equal(slots[f"{index}.{name}"], value) for name, value in values.items())


@pytest.mark.parametrize("name", ["model", "ema", "optimizer", "filter", "manifest"])
def test_one_flipped_byte_is_found_and_the_previous_checkpoint_used(run, name):
    folder = run / "checkpoints" / "step-00000008"
    path = folder / ("manifest.json" if name == "manifest" else f"{name}.safetensors")
    sound = path.read_bytes()
    for seed in range(20):
        data = bytearray(sound)
        data[random.Random(seed).randrange(len(data))] ^= 1 << seed % 8
        path.write_bytes(data)
        found, skipped = newest_and_skipped(run / "checkpoints")
        assert found.step == 6
        assert len(skipped) == 1 and "step-00000008 is damaged" in skipped[0]


def test_a_missing_or_added_file_is_damage(run):
    (run / "checkpoints" / "step-00000008" / "ema.safetensors").unlink()
    shutil.copy(run / "config.yaml", run / "checkpoints" / "step-00000006" / "extra.safetensors")
    with pytest.raises(CheckpointError, match="holds no sound checkpoint"):
        open_run(run, Output(quiet=True))


def test_sampling_a_damaged_checkpoint_falls_back_and_says_so(run, sagd, tmp_path):
    path = run / "checkpoints" / "step-00000008" / "ema.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    result = sagd("sample", run, "-n", 2, "--steps", 1, "--output", tmp_path / "images", "--json")
    assert result.code == 0 and result.json["count"] == 2
    assert "ema.safetensors does not match its recorded hash" in result.err


def test_a_failed_save_leaves_the_earlier_checkpoint_and_no_rubbish(run, tiny_config, monkeypatch):
    config = resolve_backbone(tiny_config, (1, 8, 8))
    state = TrainingState(build_backbone(config.backbone, (1, 8, 8)), config.training, torch.device("cpu"))
    state.step = 9

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_text", full)
    with pytest.raises(CheckpointError, match=r"step 9 could not be written .* No space left"):
        checkpoint.save(run / "checkpoints", state, config.filter.weights((8, 8)), {}, {})
    names = sorted(p.name for p in (run / "checkpoints").iterdir())
    assert names == ["step-00000006", "step-00000008"]
    assert newest_and_skipped(run / "checkpoints")[0].step == 8


def test_another_filter_than_the_trained_one_is_refused_with_both_hashes(run, sagd):
    trained = open_run(run, Output(quiet=True)).checkpoint.manifest.filter_sha256
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("alpha: -0.06", "alpha: -0.07"))
    with pytest.raises(UsageError, match=trained[:12]):
        open_run(run, Output(quiet=True))
    result = sagd("sample", run)
    assert result.code == 2 and trained[:12] in result.err and "another filter" in result.err


def test_the_filter_option_of_sample_is_a_check(tiny_run, sagd, tmp_path):
    assert sagd("sample", tiny_run, "--filter", "white", "-n", 1).code == 2
    same = sagd("sample", tiny_run, "--filter", "powerlaw", "-n", 1, "--steps", 1, "--output", tmp_path / "s")
    assert same.code == 0


def test_weights_of_another_network_are_refused(run):
    other = build_backbone(BackboneConfig(options={"channels": [16, 16]}), (1, 8, 8))
    with pytest.raises(SagdError, match="weights of another network"):
        checkpoint.load_ema(open_run(run, Output(quiet=True)).checkpoint, other)


def test_a_missing_plugin_is_named_with_what_to_install(run, sagd):
    for path in (run / "checkpoints").glob("*/manifest.json"):
        document = json.loads(path.read_text())
        document["plugins"][0] |= {"name": "ring", "distribution": "sagd-filter-ring", "version": "1.2"}
        document["digest"] = manifest.digest(document)
        path.write_text(json.dumps(document))
    result = sagd("sample", run)
    assert result.code == 2 and "Install sagd-filter-ring 1.2" in result.err
