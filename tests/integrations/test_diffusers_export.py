"""`sagd export --to diffusers`: a folder that diffusers reads, whole or not at all; and runs without that form."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, UNet2DModel

from sagd_cli.config.layers import resolve
from sagd_cli.errors import UsageError
from sagd_cli.integrations.diffusers import SagdPipeline
from sagd_cli.integrations.diffusers_export import pipeline_of
from sagd_cli.run.folder import open_run
from sagd_cli.sampling.generator import ImageGenerator, sampling_of
from sagd_cli.system.console import Output
from sagd_cli.training.task import Task

CPU, QUIET = torch.device("cpu"), Output(quiet=True)


def test_the_folder_is_read_by_diffusers_alone_and_draws_what_the_command_on_its_card_draws(
    sagd, tiny_run, tmp_path
):
    target = tmp_path / "new" / "model"
    told = sagd("export", tiny_run, target, "--to", "diffusers", "--steps", 7, "--json").json
    assert told["scheduler"] == "DPMSolverMultistepScheduler"
    model = open_run(tiny_run, QUIET).model(CPU)
    unet, report = UNet2DModel.from_pretrained(target / "unet", output_loading_info=True)
    assert not any(report.values())
    for name, weight in model.network.state_dict().items():
        assert torch.equal(unet.state_dict()[name], weight)
    scheduler = DPMSolverMultistepScheduler.from_pretrained(target / "scheduler")
    assert scheduler.config.beta_schedule == "linear" and scheduler.config.timestep_spacing == "trailing"
    assert json.loads((target / "model_index.json").read_text())["unet"] == ["diffusers", "UNet2DModel"]

    card = (target / "README.md").read_text()
    manifest = open_run(tiny_run, QUIET).checkpoint.manifest
    assert told["equals"] in card and manifest.images_sha256 in card and manifest.filter_sha256 in card
    words = told["equals"].split()[1:]
    drawn = tmp_path / "drawn"
    sampled = sagd(*words, "-n", 3, "--seed", 5, "--format", "npz", "--device", "cpu", "--output", drawn)
    assert sampled.code == 0, sampled.err
    pipeline = SagdPipeline.from_pretrained(target)
    pipeline.set_progress_bar_config(disable=True)
    pictures = np.stack([np.array(picture, int) for picture in pipeline(seeds=range(5, 8)).images])
    with np.load(drawn / "samples.npz") as archive:
        assert np.abs(pictures - archive["images"][:, 0]).max() <= 1


def test_a_folder_appears_whole_or_not_at_all(sagd, tiny_run, tmp_path, monkeypatch):
    target, own = tmp_path / "model", tmp_path / "own"
    own.mkdir()
    (own / "notes.txt").write_text("mine")
    (own / "model_index.json").write_text("{}")  # somebody else's pipeline
    arguments = ("export", tiny_run, target, "--to", "diffusers")
    assert sagd(*arguments).code == 0
    assert "--force" in sagd(*arguments).err
    kept = sorted(path.name for path in target.rglob("*"))

    def fails(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("sagd_cli.integrations.diffusers_export.model_card", fails)
        failed = sagd(*arguments, "--force")
    assert failed.code == 1 and "No space left" in failed.err
    assert sorted(path.name for path in target.rglob("*")) == kept and len(list(tmp_path.iterdir())) == 2
    assert sagd(*arguments, "--force").code == 0
    for folder, said in (
        (own, "no folder of an exported run"),
        (tiny_run, "no folder of an exported run"),
        (tiny_run / "x", "run"),
    ):
        refused = sagd("export", tiny_run, folder, "--to", "diffusers", "--force")
        assert refused.code == 2 and said in refused.err
    assert (own / "notes.txt").is_file() and not (tiny_run / "x").exists()


def test_figures_of_the_run_are_on_the_card(sagd, tiny_run, tmp_path):
    import shutil

    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    (run / "evaluation").mkdir(exist_ok=True)
    (run / "evaluation" / "other.json").write_text("{}")
    measured = run / "evaluation" / "fid.json"
    found = sagd("fid", "digits:test", "digits", "--features", "pixels", "--output", measured)
    assert found.code == 0, found.err
    done = sagd("export", run, tmp_path / "model", "--to", "diffusers")
    assert "leaves out other.json" in done.err
    assert "| fid.json |" in (tmp_path / "model" / "README.md").read_text()


def test_a_form_or_sampler_that_is_not_there_is_named(sagd, tiny_run, tmp_path):
    for options, said in (
        (("--to", "difusers"), "unknown form 'difusers'"),
        (("--to", "diffusers", "--sampler", "heun"), "no scheduler that equals the sampler heun"),
        (("--to", "diffusers", "--sampler", "ddim", "--steps", 30), "take 25 steps"),
        (("--to", "diffusers", "--steps", 61), "one step more or less"),
        (("--to", "diffusers", "--ema", 3), "half-life"),
    ):
        refused = sagd("export", tiny_run, tmp_path / "x", *options)
        assert refused.code == 2 and said.lower() in refused.err.lower(), refused.err
        assert not (tmp_path / "x").exists()


def model_of(tiny_settings, **chosen):
    task = Task.of(resolve({**tiny_settings, **chosen}))
    return task.model(task.start(CPU)[0], "run")


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"schedule": "edm", "prediction": "edm"}, "schedule edm"),
        ({"prediction": "edm-spectral"}, "prediction edm-spectral"),
        ({"backbone.options": {"channels": [8], "patch": 2}}, "folds pixels"),
        (
            {"backbone.name": "residual", "backbone.options": {"channels": [8], "blocks": 1}},
            "no model of diffusers",
        ),
        ({"schedule": "cosine", "sampling.sampler": "unipc"}, "almost zero"),
    ],
)
def test_what_has_no_form_in_diffusers_says_why(tiny_settings, chosen, said):
    model = model_of(tiny_settings, **chosen)
    with pytest.raises(UsageError, match=said) as refused:
        pipeline_of(model, sampling_of(model.config, {"spacing": "trailing"}))
    assert refused.value.hint


def test_a_fill_that_a_prior_draws_is_refused(tiny_settings):
    model = model_of(tiny_settings)
    with pytest.raises(UsageError, match="prior"):
        pipeline_of(model, sampling_of(model.config, {"fill": "prior"}))


def test_floats_are_not_clipped_and_not_drawn_as_pictures(tiny_settings):
    model = replace(model_of(tiny_settings), dtype=np.dtype(np.float32))
    sampling = sampling_of(model.config, {"spacing": "trailing", "steps": 4})
    pipeline = pipeline_of(model, sampling)
    pipeline.set_progress_bar_config(disable=True)
    assert not pipeline.scheduler.config.thresholding
    with pytest.raises(UsageError, match="cannot be drawn as pictures"):
        pipeline(seeds=[0])
    drawn = pipeline(seeds=[0], output_type="pt").images
    ours = ImageGenerator(model, sampling).signals(range(1))
    assert float((drawn - ours).abs().max()) < 1e-4 * max(1, float(ours.abs().max()))
