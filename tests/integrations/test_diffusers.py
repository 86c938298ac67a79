"""What the pipeline of an exported run draws is what `sagd sample` draws; a user's own schedulers draw shaped noise."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
)
from PIL import Image

from sagd_cli.config.arguments import parse_filter
from sagd_cli.config.layers import resolve
from sagd_cli.data.tensors import tensor_pixels
from sagd_cli.errors import DataError, UsageError
from sagd_cli.integrations.diffusers import SagdPipeline, shaped
from sagd_cli.integrations.diffusers_export import pipeline_of
from sagd_cli.sampling.generator import ImageGenerator, sampling_of
from sagd_cli.spectral.filter import SpectralFilter
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.noise import SpectralNoise, random_stream
from sagd_cli.training.task import Task

CPU = torch.device("cpu")
SHAPED, GAP = (
    parse_filter(text).model_dump() for text in ("powerlaw:alpha=-0.3", "bandstop:low=0.3,high=0.5,floor=0")
)
SEEDS = range(3, 7)


def model_of(tiny_settings, **chosen):
    """An untrained model whose layers are random and small, none of them zero."""
    task = Task.of(resolve({**tiny_settings, **chosen}))
    model = task.model(task.start(CPU)[0], "run")
    stream = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.network.parameters():
            weight.copy_(weight + 0.2 * (torch.rand(weight.shape, generator=stream) - 0.5))
    model.network.eval()
    return model


def pair(model, **chosen):
    """The pipeline and our generator of the same settings."""
    sampling = sampling_of(model.config, {"steps": 5, "spacing": "trailing", **chosen})
    pipeline = pipeline_of(model, sampling)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline, ImageGenerator(model, sampling)


def largest_difference(pipeline, generator, **settings):
    ours = generator.signals(SEEDS)
    drawn = pipeline(seeds=SEEDS, output_type="pt", **settings).images
    assert ours.std() > 0.05 and not torch.allclose(ours[0], ours[1], atol=0.05)
    return float((drawn - ours).abs().max() / max(1, ours.abs().max()))


@pytest.mark.parametrize("filter_", [SHAPED, GAP], ids=["complete", "gap"])
@pytest.mark.parametrize(
    ("prediction", "schedule"),
    [
        ("eps", "linear"),
        ("v", "cosine"),
        pytest.param("v", "linear", marks=pytest.mark.slow),
        pytest.param("eps", "cosine", marks=pytest.mark.slow),
    ],
)
def test_a_pipeline_draws_what_the_run_draws(tiny_settings, prediction, schedule, filter_):
    model = model_of(tiny_settings, **{"prediction": prediction, "schedule": schedule, "filter": filter_})
    assert model.filter.is_complete == (filter_ is SHAPED)
    for chosen in ({"sampler": "ddim"}, {"sampler": "dpmpp"}, {"sampler": "ddpm"}):
        assert largest_difference(*pair(model, **chosen)) < 1e-4, chosen


@pytest.mark.parametrize(
    "chosen", [{"sampler": "ddim", "eta": 0.5}, {"sampler": "dpmpp-sde"}, {"sampler": "unipc"}]
)
def test_so_it_is_with_the_other_samplers_and_predictions(tiny_settings, chosen):
    model = model_of(tiny_settings, prediction="x0", filter=SHAPED)
    assert largest_difference(*pair(model, **chosen)) < 1e-4


def test_a_number_of_steps_is_chosen_when_images_are_drawn(tiny_settings):
    model = model_of(tiny_settings, filter=SHAPED)
    pipeline, _ = pair(model, sampler="dpmpp")
    _, generator = pair(model, sampler="dpmpp", steps=7)
    assert largest_difference(pipeline, generator, num_inference_steps=7) < 1e-4
    pipeline, _ = pair(model, sampler="ddim")
    with pytest.raises(UsageError, match="divide 1000, which 7 does not"):
        pipeline(seeds=[0], num_inference_steps=7)


def test_a_blind_network_and_a_fill(tiny_settings):
    model = model_of(tiny_settings, filter=GAP, blind=True)
    assert largest_difference(*pair(model, sampler="ddpm", fill="mean")) < 1e-4


@pytest.mark.parametrize("backbone", ["unet", "dit"])
def test_classes_and_guidance(tiny_settings, backbone, tmp_path):
    small = {"patch": 4, "depth": 1, "heads": 1, "head_width": 8}
    own = {} if backbone == "unet" else {"backbone.name": "dit", "backbone.options": small}
    model = model_of(tiny_settings, **{**own, "class_conditional": True, "training.label_dropout": 0.1})
    for guidance in (1, 2.5, 0):
        assert largest_difference(*pair(model, sampler="ddim", guidance=guidance)) < 1e-4, guidance
    pipeline, generator = pair(model, sampler="ddim", guidance=2.5)
    generator.chosen = [3]
    assert largest_difference(pipeline, generator, class_labels=[3] * 4) < 1e-4
    pipeline.save_pretrained(tmp_path / "saved")
    assert largest_difference(quiet(tmp_path / "saved"), generator, class_labels=torch.tensor([3] * 4)) < 1e-4
    for labels in ([10], [-1], [1, 2]):
        with pytest.raises(UsageError, match="one of 0 to 9 for each image"):
            pipeline(seeds=[0], class_labels=labels)
    with pytest.raises(UsageError, match="leaves classes out"):
        pipeline(seeds=[0], class_labels=[1], guidance_scale=0)
    pipeline.shaping = replace(pipeline.shaping, drops_labels=False)
    with pytest.raises(UsageError, match="no images without a class"):
        pipeline(seeds=[0], guidance_scale=2)


def quiet(folder):
    pipeline = SagdPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_images_come_as_pillow_numpy_and_torch_from_seeds_or_a_generator(tiny_settings):
    pipeline, generator = pair(model_of(tiny_settings), sampler="dpmpp", steps=2)
    pixels = generator.draw(SEEDS)
    pictures = pipeline(seeds=SEEDS).images
    assert isinstance(pictures[0], Image.Image)
    np.testing.assert_allclose(np.array(pictures[1], float), pixels[1, 0], atol=1)
    array = pipeline(seeds=SEEDS, output_type="np").images
    assert array.shape == (4, 8, 8, 1)
    np.testing.assert_allclose(array[..., 0] * 255, pixels[:, 0], atol=0.51)
    first, again = (
        pipeline(num_images=2, generator=torch.Generator().manual_seed(5), output_type="pt").images
        for _ in range(2)
    )
    assert torch.equal(first, again) and tensor_pixels(first).shape == (2, 1, 8, 8)
    with pytest.raises(UsageError, match="4 seeds are given"):
        pipeline(num_images=2, seeds=SEEDS)
    with pytest.raises(UsageError, match="no image to draw"):
        pipeline(num_images=0)
    with pytest.raises(UsageError, match="num_inference_steps is 0"):
        pipeline(seeds=SEEDS, num_inference_steps=0)
    with pytest.raises(UsageError, match="unknown output_type"):
        pipeline(output_type="jpg")
    with pytest.raises(UsageError, match="without classes"):
        pipeline(class_labels=[1])


def test_a_saved_pipeline_is_loaded_as_it_was_and_damage_is_seen(tiny_settings, tmp_path):
    pipeline, generator = pair(model_of(tiny_settings, filter=GAP), sampler="ddpm", steps=4)
    pipeline.save_pretrained(tmp_path / "one")
    quiet(tmp_path / "one").save_pretrained(tmp_path / "two")
    assert largest_difference(quiet(tmp_path / "two"), generator) < 1e-4
    known = tmp_path / "two" / "sagd_noise.json"
    known.write_text(known.read_text().replace('"weight_sha256": "', '"weight_sha256": "0'))
    with pytest.raises(DataError, match="are not those"):
        SagdPipeline.from_pretrained(tmp_path / "two")
    known.write_text(json.dumps({"format": 2}))
    with pytest.raises(DataError, match="format"):
        SagdPipeline.from_pretrained(tmp_path / "two")
    known.unlink()
    with pytest.raises(DataError, match=r"holds no sagd_noise\.json"):
        SagdPipeline.from_pretrained(tmp_path / "two")
    with pytest.raises(UsageError, match="needs its noise"):
        SagdPipeline(pipeline.scheduler, unet=pipeline.unet)


def noise_of():
    grid = FrequencyGrid((8, 8))
    return SpectralNoise(SpectralFilter.from_weight(grid, grid.radius < 0.3))


@pytest.mark.parametrize(
    ("scheduler", "options"),
    [
        (DDPMScheduler(), {}),
        (DDPMScheduler(variance_type="fixed_large"), {}),
        (DDIMScheduler(), {"eta": 1.0}),
        (DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++"), {}),
    ],
    ids=["ddpm", "large", "ddim", "sde"],
)
def test_a_scheduler_of_ones_own_steps_with_shaped_noise(scheduler, options):
    """Its step with noise is that without, and noise of the filter with the deviation of the scheduler's own."""
    noise, x, output = noise_of(), torch.zeros(64, 1, 8, 8), torch.zeros(64, 1, 8, 8)
    made = shaped(scheduler, noise)
    stepped = []
    for each in (scheduler, made):
        each.set_timesteps(10)
        stream = random_stream("cpu", 0)
        stepped.append(each.step(output, each.timesteps[3], x, generator=stream, **options).prev_sample)
    white, coloured = stepped
    np.testing.assert_allclose(noise.color(white), coloured, atol=1e-5)
    assert coloured.std() > 0.01 and isinstance(made, type(scheduler)) and not hasattr(scheduler, "noise")
    as_tuple = made.step(output, made.timesteps[4], x, return_dict=False, **options)
    assert float((as_tuple[0] - noise.project(as_tuple[0])).abs().max()) < 1e-5


def test_a_scheduler_whose_noise_cannot_be_replaced_is_refused(tiny_settings):
    for scheduler in (EulerAncestralDiscreteScheduler(), DDPMScheduler(variance_type="learned")):
        with pytest.raises(UsageError, match="cannot be replaced"):
            shaped(scheduler, noise_of())
    pipeline, _ = pair(model_of(tiny_settings))
    pipeline.scheduler = EulerAncestralDiscreteScheduler()
    with pytest.raises(UsageError, match="cannot be replaced"):
        pipeline(seeds=[0])
