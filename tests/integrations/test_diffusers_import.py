"""A diffusers model as a run: the same samples, and a sentence for each model that can be none."""

import json

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DiTTransformer2DModel
from safetensors.torch import load_file, save_file
from support.diffusers_models import rewritten, saved, tiny_dit, tiny_unet

from sagd_cli.errors import DataError, SagdError, UsageError
from sagd_cli.integrations.diffusers import SagdPipeline
from sagd_cli.integrations.diffusers_folder import open_diffusers
from sagd_cli.integrations.diffusers_import import import_run, initial_model
from sagd_cli.library.runs import load
from sagd_cli.run.folder import open_run, read_config
from sagd_cli.sampling.generator import ImageGenerator, sampling_of
from sagd_cli.spectral.noise import SpectralNoise, random_stream
from sagd_cli.system.console import Output

QUIET = Output(quiet=True)
ATTENTION = {
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
}
GAP = 111  # 9 evaluations from 999 down, as our uniform spacing has them


def imported(folder, run, data=None, **how):
    import_run(open_diffusers(folder, **how), run, data, QUIET)
    return open_run(run, QUIET)


def drawn_by_diffusers(model, scheduler, start, label=None):
    """diffusers' own loop; of learned variances it takes the first half, as its pipelines do."""
    x = start * (1 - scheduler.alphas_cumprod[-1]).sqrt()
    for t in range(999, 0, -GAP):
        # Strides are of 1000 // 9, and the last one goes past 0, to the image.
        scheduler.set_timesteps(9 if t > GAP else 1)
        labels = None if label is None else torch.full((len(x),), label)
        with torch.no_grad():
            output = model(x, torch.full((len(x),), t), class_labels=labels).sample[:, : x.shape[1]]
        clips = scheduler.config.clip_sample
        x = scheduler.step(output, t, x, use_clipped_model_output=clips).prev_sample
    return x


@pytest.mark.parametrize(
    ("model", "prediction", "label"),
    [
        (lambda: tiny_unet(3), "epsilon", None),
        (lambda: tiny_unet(1, **ATTENTION), "v_prediction", None),
        (lambda: tiny_unet(4), "sample", None),
        (lambda: tiny_unet(4, out_channels=8, resnet_time_scale_shift="scale_shift"), "epsilon", None),
        (lambda: tiny_unet(4, num_class_embeds=3), "epsilon", 2),
        (tiny_dit, "epsilon", 4),
        (lambda: tiny_dit(classes=1, out_channels=4), "v_prediction", None),
    ],
    ids=["unet", "attention", "x0", "variance", "classes", "dit", "dit-v"],
)
def test_samples_are_those_of_diffusers_own_loop_on_the_same_noise(tmp_path, model, prediction, label):
    module = model()
    channels = module.config.in_channels
    scheduler = DDIMScheduler(prediction_type=prediction, clip_sample=channels in (1, 3))
    run = imported(saved(tmp_path / "pipeline", module, scheduler), tmp_path / "run")
    found = run.model(torch.device("cpu"))
    assert found.has_pixels == (channels in (1, 3))
    sampling = sampling_of(run.config, {"sampler": "ddim", "steps": 9, "spacing": "uniform"})
    generator = ImageGenerator(found, sampling, None if label is None else str(label))
    streams = [random_stream("cpu", seed, "sample") for seed in range(2)]
    start = SpectralNoise(found.filter, "cpu").draw((2, channels, 8, 8), streams)
    unlabelled = 0 if isinstance(module, DiTTransformer2DModel) else None
    wanted = drawn_by_diffusers(module, scheduler, start, unlabelled if label is None else label)
    torch.testing.assert_close(generator.signals(range(2)), wanted, rtol=1e-4, atol=1e-4)
    assert wanted.std() > 0.05


def test_a_run_has_the_weights_and_says_where_they_are_from(tmp_path):
    model = tiny_unet(3)
    folder = saved(tmp_path / "pipeline", model)
    run = imported(folder, tmp_path / "runs" / "deep" / "run")
    found = load_file(run.checkpoint.path / "ema.safetensors")
    assert found.keys() == model.state_dict().keys()
    assert all(torch.equal(found[name], value) for name, value in model.state_dict().items())
    assert run.checkpoint.step == 0 and run.filter.type == "white"
    assert run.checkpoint.manifest.model_extra["imported"]["source"] == str(folder / "unet")
    assert run.checkpoint.manifest.images_sha256 is None
    assert (run.config.schedule, run.config.prediction, run.config.sampling.sampler) == (
        "linear",
        "eps",
        "ddim",
    )


def test_half_precision_old_names_and_the_old_class_of_dit_are_read(tmp_path):
    unet = tiny_unet(3, **ATTENTION)
    folder = saved(tmp_path / "old", unet.to(torch.float16))
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    names = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    tensors = load_file(path)
    for new, old in names.items():
        tensors = {name.replace(new, old): value for name, value in tensors.items()}
    assert any(".proj_attn." in name for name in tensors)
    save_file(tensors, path)
    run = imported(folder, tmp_path / "run")
    state = run.model(torch.device("cpu")).network.state_dict()
    assert all(torch.equal(state[name], value.float()) for name, value in unet.state_dict().items())

    folder = saved(tmp_path / "dit", tiny_dit())
    rewritten(
        folder / "transformer" / "config.json", _class_name="Transformer2DModel", only_cross_attention=False
    )
    assert open_diffusers(folder).class_name == "DiTTransformer2DModel"


def test_classes_without_an_embedding_of_no_class_refuse_guidance(tmp_path):
    imported(saved(tmp_path / "pipeline", tiny_unet(4, num_class_embeds=3)), tmp_path / "run")
    run = load(tmp_path / "run", "cpu")
    assert run.sample(2, steps=2, classes="0,2").shape == (2, 4, 8, 8)
    with pytest.raises(UsageError, match="no images without a class"):
        run.sample(1, steps=2, guidance=2.0)
    with pytest.raises(UsageError, match="no class '3'"):
        run.sample(1, steps=2, classes="3")


def test_data_bring_spectra_and_classes(tmp_path):
    from sagd_cli.config.arguments import parse_dataset

    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (12, 1, 8, 8), np.uint8), np.arange(12) % 3
    np.savez(tmp_path / "data.npz", images=images, labels=labels, class_names=["a", "b", "c"])
    data = parse_dataset(str(tmp_path / "data.npz"))
    # With one embedding more than classes, the last one is that of no class.
    run = imported(saved(tmp_path / "one", tiny_unet(1, num_class_embeds=4)), tmp_path / "run", data)
    assert run.classes.names == ("a", "b", "c") and run.config.training.label_dropout > 0
    model = run.model(torch.device("cpu"))
    assert {"mean", "power"} <= model.moments.keys()
    assert load(tmp_path / "run", "cpu").sample(1, steps=2, guidance=2.0, classes="b").dtype == np.uint8
    run = imported(saved(tmp_path / "two", tiny_unet(1, num_class_embeds=3)), tmp_path / "other", data)
    assert run.classes.names == ("a", "b", "c") and run.config.training.label_dropout == 0
    for model, fragment in (
        (tiny_unet(1, num_class_embeds=7), "3 classes, and the model takes 7 labels"),
        (tiny_unet(3), "images of 1x8x8, and the model was trained on 3x8x8"),
    ):
        with pytest.raises(UsageError, match=fragment):
            imported(saved(tmp_path / str(model.config.in_channels), model), tmp_path / "none", data)
    assert not (tmp_path / "none").exists()


def test_a_model_alone_needs_its_noise_levels_and_its_size(tmp_path, sagd):
    tiny_unet(3, sample_size=None).save_pretrained(tmp_path / "model")
    result = sagd("import", tmp_path / "model", "--output", tmp_path / "run")
    assert result.code == 2 and "has no scheduler" in result.err and "--schedule" in result.err
    result = sagd("import", tmp_path / "model", "--schedule", "cosine", "--output", tmp_path / "run")
    assert result.code == 1 and "says no size of the images" in result.err
    told = ("--schedule", "cosine", "--prediction", "v", "--size", "8x12")
    result = sagd("import", tmp_path / "model", *told, "--output", tmp_path / "run", "--json")
    assert result.code == 0, result.err
    assert result.json["shape"] == [3, 8, 12] and result.json["prediction"] == "v"
    assert sagd("import", tmp_path / "model", *told, "--output", tmp_path / "run").code == 2
    for options in (
        ("--prediction", "v"),
        ("--schedule", "edm"),
        ("--schedule", "linear", "--prediction", "edm"),
    ):
        assert sagd("import", tmp_path / "model", *options).code == 2


def test_other_commands_work_on_an_imported_run_or_say_what_they_need(tmp_path, sagd):
    run = tmp_path / "run"
    result = sagd("import", saved(tmp_path / "pipeline", tiny_unet(1)), "--output", run)
    assert result.code == 0, result.err
    sampled = sagd("sample", run, "-n", 3, "--steps", 2, "--output", tmp_path / "samples")
    assert sampled.code == 0, sampled.err
    assert len([*(tmp_path / "samples").glob("*.png")]) == 3
    assert sagd("filter", "show", run).code == 0
    assert sagd("report", run, "-n", 4, "--output", tmp_path / "report.html").code == 0
    options = ("-n", 8, "--steps", 2, "--features", "pixels")
    measured = sagd("fid", run, "digits:test", *options)
    assert measured.code == 0, measured.err
    result = sagd(
        "omit", tmp_path / "samples", "--band", "0.5:0.6", "--model", run, "--output", tmp_path / "out"
    )
    assert result.code == 2 and "was trained to make images, not to restore" in result.err
    result = sagd("train", "--config", run / "config.yaml", "--output", run)
    assert result.code == 2 and "are not known" in result.err and "--dataset DATA" in result.err


# Each: what is done to a sound folder, and the words of the refusal.
def pickled(folder):
    (folder / "unet" / "diffusion_pytorch_model.safetensors").rename(folder / "unet" / "model.bin")


def sharded(folder):
    pickled(folder)
    (folder / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text("{}")


def changed_weights(change):
    def damage(folder):
        path = folder / "unet" / "diffusion_pytorch_model.safetensors"
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)

    return damage


def changed(part, **values):
    name = "scheduler_config.json" if part == "scheduler" else "config.json"
    return lambda folder: rewritten(folder / part / name, **values)


@pytest.mark.parametrize(
    ("damage", "fragment"),
    [
        (pickled, "model.bin is pickled, and reading a pickle runs code"),
        (sharded, "are in several files"),
        (changed_weights(lambda t: t.pop("conv_in.bias")), "it lacks conv_in.bias"),
        (changed_weights(lambda t: t.update(more=torch.zeros(1))), "it also holds more"),
        (
            changed_weights(lambda t: t.update({"conv_in.bias": torch.zeros(4)})),
            "it has other shapes: conv_in.bias is 4, not 8",
        ),
        (
            changed_weights(lambda t: t["conv_in.bias"].fill_(torch.nan)),
            "not finite numbers: conv_in.bias",
        ),
        (
            lambda folder: (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(
                b"\xff" * 99
            ),
            "cannot be read",
        ),
        (lambda folder: (folder / "unet" / "config.json").write_text("[1]"), "no JSON object"),
        (changed("unet", down_block_types=["DownBlock2D", "StrangeBlock2D"]), "StrangeBlock2D"),
        (changed("unet", time_embedding_type="fourier"), "time_embedding_type fourier"),
        (changed("unet", class_embed_type="timestep"), "class_embed_type timestep"),
        (changed("unet", brand_new=1), "brand_new"),
        (changed("unet", layers_per_block=10**9), "layers_per_block is larger"),
        (changed("unet", out_channels=5), "takes 3 channels and gives 5"),
        (changed("unet", sample_size=[9, 8]), "sides divisible by 2, not 9x8"),
        (changed("unet", _class_name="UNet2DConditionModel"), "is of a UNet2DConditionModel"),
        (changed("scheduler", _class_name="FlowMatchEulerDiscreteScheduler"), "flow matching"),
        (changed("scheduler", _class_name="EDMEulerScheduler"), "unknown scheduler EDMEulerScheduler"),
        (changed("scheduler", prediction_type="flow_prediction"), "flow matching"),
        (changed("scheduler", prediction_type="noise"), "unknown prediction_type 'noise'"),
        (changed("scheduler", rescale_betas_zero_snr=True), "rescale_betas_zero_snr is true"),
        (changed("scheduler", num_train_timesteps=400), "num_train_timesteps is 400"),
        (changed("scheduler", _class_name=["DDIMScheduler"]), "unknown scheduler"),
        (changed("scheduler", prediction_type={"a": 1}), "unknown prediction_type"),
        (changed("unet", in_channels=True), "takes True channels"),
        (lambda folder: rewritten(folder / "model_index.json", unet=3), "names no model"),
        (
            lambda folder: rewritten(folder / "model_index.json", _class_name="SagdPipeline"),
            "holds no sagd_noise",
        ),
        (
            changed("scheduler", beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012),
            "scaled_linear .beta_start 0.00085, beta_end 0.012",
        ),
        (changed("scheduler", trained_betas=[0.1] * 1000), "levels of trained_betas"),
        (
            lambda folder: rewritten(folder / "model_index.json", unet=None),
            "names no model that can be imported",
        ),
    ],
)
def test_what_cannot_be_imported_is_refused_by_name_and_nothing_is_written(tmp_path, damage, fragment):
    folder = saved(tmp_path / "pipeline", tiny_unet(3))
    damage(folder)
    with pytest.raises(DataError, match=fragment):
        imported(folder, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_is_no_folder_of_diffusers_is_said(tmp_path):
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(SagdError, match="no folder of diffusers"):
            open_diffusers(path)


@pytest.mark.parametrize(
    "how", [["--sampler", "ddpm"], ["--sampler", "dpmpp", "--steps", "5"]], ids=["ddpm", "dpmpp"]
)
def test_an_exported_run_comes_back_with_its_noise_and_its_samples(tmp_path, tiny_run, sagd, how):
    folder, back = tmp_path / "exported", tmp_path / "run"
    assert sagd("export", tiny_run, "--to", "diffusers", folder, *how).code == 0
    assert sagd("import", folder, "--output", back).code == 0
    first, second = (open_run(path, QUIET) for path in (tiny_run, back))
    assert first.filter.sha256() == second.filter.sha256()
    sampling = second.config.sampling
    assert sampling.sampler == how[1] and sampling.spacing == "trailing"
    # The defaults of the run that came back draw what the exported pipeline draws.
    images = load(tiny_run, "cpu").sample(3, steps=sampling.steps, sampler=how[1], spacing="trailing")
    assert np.array_equal(images, load(back, "cpu").sample(3))


def test_an_exported_folder_whose_noise_is_another_is_refused(tmp_path, tiny_run, sagd):
    folder = tmp_path / "exported"
    assert sagd("export", tiny_run, "--to", "diffusers", folder).code == 0
    document = json.loads((folder / "sagd_noise.json").read_text())
    for changes, fragment in (
        ({"filter": {"type": "white"}}, "names another filter"),
        ({"filter": None}, "names no filter"),
        ({"filter": 3}, "damaged"),
    ):
        (folder / "sagd_noise.json").write_text(json.dumps(document | changes))
        with pytest.raises(DataError, match=fragment):
            imported(folder, tmp_path / "none")
    (folder / "sagd_noise.json").write_text(json.dumps(document))
    # The model of the pipeline, named by its own folder, has the noise that lies beside it.
    imported(folder / "unet", tmp_path / "model")
    assert read_config(tmp_path / "model").filter.type == "powerlaw"
    (folder / "sagd_noise.json").unlink()
    with pytest.raises(DataError, match="holds no sagd_noise"):
        imported(folder, tmp_path / "none")


def test_a_training_that_starts_from_an_exported_folder_has_the_weights_of_the_run(tmp_path, tiny_run, sagd):
    assert sagd("export", tiny_run, "--to", "diffusers", tmp_path / "exported").code == 0
    found = initial_model(tmp_path / "exported", QUIET).read().tensors
    wanted = load_file(open_run(tiny_run, QUIET).checkpoint.path / "ema.safetensors")
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], value) for name, value in wanted.items())


def test_an_imported_model_with_learned_variances_and_classes_goes_back(tmp_path, sagd):
    imported(saved(tmp_path / "pipeline", tiny_dit()), tmp_path / "run")
    exported = sagd(
        "export", tmp_path / "run", "--to", "diffusers", tmp_path / "back", "--steps", 4, "--sampler", "ddim"
    )
    assert exported.code == 0, exported.err
    how = {"steps": 4, "sampler": "ddim", "spacing": "trailing", "guidance": 2.0}
    wanted = load(tmp_path / "run", "cpu").sample(2, **how)
    pipeline = SagdPipeline.from_pretrained(tmp_path / "back")
    pipeline.set_progress_bar_config(disable=True)
    drawn = pipeline(seeds=[0, 1], guidance_scale=2.0, output_type="pt").images
    torch.testing.assert_close(drawn, torch.from_numpy(wanted), rtol=1e-4, atol=1e-4)


def test_guidance_without_an_embedding_of_no_class_stays_here(tmp_path, sagd):
    """Our network takes "no class" for zero; the model in diffusers has no such label."""
    folder, run = saved(tmp_path / "pipeline", tiny_unet(1, num_class_embeds=10)), tmp_path / "run"
    options = ("--class-conditional", "--set", "training.label_dropout=0.5", "--steps", 1, "--batch-size", 4)
    assert sagd("train", "--init", folder, *options, "--output", run).code == 0
    assert sagd("export", run, "--to", "diffusers", tmp_path / "back").code == 0
    pipeline = SagdPipeline.from_pretrained(tmp_path / "back")
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline(seeds=[0], num_inference_steps=2, output_type="pt").images.shape == (1, 1, 8, 8)
    with pytest.raises(UsageError):
        pipeline(seeds=[0], guidance_scale=2.0)
