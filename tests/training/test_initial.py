"""`--init`: a training that starts from the weights of another model."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from support.diffusers_models import saved, tiny_dit, tiny_unet
from support.interruption import stop_at

from sagd_cli.config.layers import kept_settings, resolve
from sagd_cli.config.run import RunConfig
from sagd_cli.errors import Interrupted, UsageError
from sagd_cli.integrations.diffusers_import import initial_model
from sagd_cli.run.folder import open_run, read_config
from sagd_cli.system.console import Output
from sagd_cli.training.initial import initialise, weights_of_run
from sagd_cli.training.task import Task
from sagd_cli.training.train import run_training

CPU = torch.device("cpu")
QUIET = Output(quiet=True)
SHORT = ("--steps", "2", "--batch-size", "4", "--set", "training.checkpoint_minutes=0")


def state_of(config, weights):
    """The state at step 0, and what the manifest says of its weights."""
    state, _ = Task.of(config).start(CPU)
    return state, initialise(state, weights, QUIET)


def test_at_step_0_the_weights_and_their_averages_are_the_source_bit_for_bit(tiny_run, tiny_settings):
    config = resolve(
        {**tiny_settings, "init": str(tiny_run), "filter.type": "powerlaw", "training.seed": 5}
    ).model_copy()
    wanted = load_file(open_run(tiny_run, QUIET).checkpoint.path / "ema.safetensors")
    state, said = state_of(config, weights_of_run(tiny_run, QUIET))
    for network in (state.network, state.ema.network):
        found = network.state_dict()
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[name], value) for name, value in wanted.items())
    assert said["matched"] == len(wanted) and said["fresh"] == said["unused"] == []


@pytest.mark.parametrize("model", [lambda: tiny_unet(1), lambda: tiny_dit(1, classes=1)], ids=["unet", "dit"])
def test_a_folder_of_diffusers_gives_its_weights_bit_for_bit(tmp_path, tiny_settings, model):
    module = model()
    folder = saved(tmp_path / "pipeline", module)
    source = initial_model(folder, QUIET)
    plain = {key: value for key, value in tiny_settings.items() if not key.startswith("backbone")}
    config = resolve({**plain, "init": str(folder)}, kept_of=lambda init: source.settings)
    assert config.backbone.name == "diffusers"
    state, said = state_of(config, source.read())
    found = {name.removeprefix("transformer."): value for name, value in state.network.state_dict().items()}
    assert said["fresh"] == []
    assert all(torch.equal(found[name], value) for name, value in module.state_dict().items())


def test_network_schedule_and_prediction_come_along_unless_they_are_set(tmp_path, sagd):
    module = tiny_unet(1, num_class_embeds=11)
    from diffusers import DPMSolverMultistepScheduler

    scheduler = DPMSolverMultistepScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")
    folder = saved(tmp_path / "pipeline", module, scheduler)

    def dry(*options):
        result = sagd("train", "--init", folder, "--dry-run", "--json", *options)
        assert result.code == 0, result.err
        return result.json["config"]

    kept = dry()
    assert (kept["schedule"], kept["prediction"], kept["class_conditional"]) == ("cosine", "v", True)
    assert kept["init"] == str(folder) and kept["backbone"]["options"]["config"]["norm_num_groups"] == 4
    assert kept["filter"]["type"] == "powerlaw" and kept["dataset"]["name"] == "digits"
    changed = dry("--prediction", "eps", "--unconditional", "--set", "training.label_dropout=0.3")
    assert (changed["schedule"], changed["prediction"]) == ("cosine", "eps")
    assert changed["class_conditional"] is False and changed["training"]["label_dropout"] == 0.3
    assert dry("--backbone", "unet")["backbone"]["options"].get("config") is None


def test_other_channels_and_classes_leave_first_and_last_layers_at_random(tmp_path, sagd):
    folder = saved(tmp_path / "pipeline", tiny_unet(3, num_class_embeds=7))
    run = tmp_path / "run"
    result = sagd("train", "--init", folder, "--dataset", "digits", *SHORT, "--output", run)
    assert result.code == 0, result.err
    assert "start from" in result.err and "at their random start: conv_in.weight" in result.err
    said = json.loads((open_run(run, QUIET).checkpoint.path / "manifest.json").read_text())["init"]
    assert {*said["fresh"]} == {
        "conv_in.weight",
        "conv_out.weight",
        "conv_out.bias",
        "class_embedding.weight",
    }
    assert said["unused"] and said["matched"] > 20 and len(said["sha256"]) == 64
    # The labels and "no class" of the data have their embeddings, so guidance can be learned.
    assert open_run(run, QUIET).model(CPU).network.class_embedding.num_embeddings == 11


def test_a_network_that_knew_no_unlabelled_images_can_be_taught_them(tmp_path, sagd):
    folder, run = saved(tmp_path / "pipeline", tiny_unet(1, num_class_embeds=10)), tmp_path / "run"
    options = ("--set", "training.label_dropout=0.5", *SHORT, "--output", run)
    assert sagd("train", "--init", folder, "--class-conditional", *options).code == 0
    sampled = sagd("sample", run, "-n", 2, "--steps", 2, "--guidance", 2, "--output", tmp_path / "samples")
    assert sampled.code == 0, sampled.err


def test_a_resumed_run_needs_its_source_no_more(tmp_path, sagd, tiny_run):
    source, run, whole = tmp_path / "source", tmp_path / "run", tmp_path / "whole"
    shutil.copytree(tiny_run, source)
    options = ("--init", source, "--steps", 4, "--batch-size", 4, "--lr", "1e-4")
    assert sagd("train", *options, "--output", whole).code == 0
    config = read_config(whole)
    with pytest.raises(Interrupted):
        run_training(config, run, CPU, stop_at(2))
    shutil.rmtree(source)
    result = sagd("train", *options, "--output", run)
    assert result.code == 0, result.err
    ends = [open_run(path, QUIET).checkpoint for path in (run, whole)]
    assert ends[0].manifest.files["ema.safetensors"] == ends[1].manifest.files["ema.safetensors"]
    assert ends[0].manifest.init == ends[1].manifest.init and ends[0].manifest.init is not None
    result = sagd("train", *options, "--output", tmp_path / "another")
    assert result.code == 2 and f"--init {source} is no run" in result.err


def test_nothing_that_fits_is_an_error_and_so_is_no_model(tmp_path, tiny_run, tiny_settings, sagd):
    plain = {key: value for key, value in tiny_settings.items() if not key.startswith("backbone")}
    other = {"backbone.name": "dit", "backbone.options": {"depth": 1, "heads": 1, "head_width": 8}}
    with pytest.raises(UsageError, match=r"none of the \d+ tensors of .* fits the network"):
        state_of(resolve({**plain, "init": str(tiny_run), **other}), weights_of_run(tiny_run, QUIET))
    result = sagd("train", "--init", tmp_path, "--output", tmp_path / "run")
    assert result.code == 2 and "is no run" in result.err and "no folder of diffusers" in result.err
    with pytest.raises(UsageError, match="is not a run"):
        weights_of_run(tmp_path, QUIET)


def test_settings_without_init_are_as_before_and_those_with_it_are_others(tiny_config, tiny_run):
    assert "init" not in tiny_config.document() and "init" not in tiny_config.identity()
    started = RunConfig.model_validate({**tiny_config.document(), "init": "runs/other"})
    assert started.document()["init"] == "runs/other" and started.sha256() != tiny_config.sha256()
    assert started.default_name != tiny_config.default_name
    assert kept_settings(tiny_config).keys() == {"backbone", "schedule", "prediction", "class_conditional"}


def test_a_sweep_starts_from_a_run_and_a_written_configuration_needs_no_source(tiny_run, tmp_path, sagd):
    """The settings that come along do so wherever settings are read, or weights would be used for something else."""
    shown = sagd("config", "show", "--json", "--set", f"init={tiny_run}").json
    assert shown["backbone"] == read_config(tiny_run).document()["backbone"]
    grid = ("--grid", "training.learning_rate=1e-3,1e-4", "--seeds", "1")
    planned = sagd("sweep", *grid, "--set", f"init={tiny_run}", "--dry-run", "--json")
    assert planned.code == 0, planned.err
    refused = sagd("sweep", *grid, "--set", f"init={tmp_path}", "--dry-run")
    assert refused.code == 2 and "is not a run" in refused.err and "sagd import" in refused.err
    (tmp_path / "whole.yaml").write_text(json.dumps(shown | {"init": "nowhere"}))
    assert sagd("config", "show", "--json", "--config", tmp_path / "whole.yaml").json["init"] == "nowhere"
