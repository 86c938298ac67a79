"""On a pretended CUDA device no operation mixes it with the CPU, and the host waits for it at named places alone.

What that cannot see is in `support/pretended_cuda.py`.
"""

import pytest
import torch
from support.pretended_cuda import CUDA, pretended_cuda

from sagd_cli.config.layers import resolve
from sagd_cli.config.run import SamplingConfig
from sagd_cli.diffusion.catalogue import SAMPLERS, SCHEDULES, SPACINGS
from sagd_cli.diffusion.schedule import make_schedule
from sagd_cli.diffusion.time_grids import sampling_levels
from sagd_cli.sampling.generator import ImageGenerator
from sagd_cli.system.distributed import World
from sagd_cli.training.loop import _Trainer
from sagd_cli.training.task import Task

TINY = {
    "backbone.options": {"channels": [8, 8], "layers_per_block": 1, "attention": [False, False]},
    "training.batch_size": 8,
}
TRAININGS = {
    "eps": {},
    "gap": {"filter.type": "lowpass"},
    "learned": {"filter.type": "learned", "prediction": "v"},
    "edm": {"schedule": "edm", "prediction": "edm-spectral"},
    "classes": {"class_conditional": True, "training.flips": True, "training.accumulate": 2},
    "blind": {"filter.omit": "mid", "filter.type": "white", "blind": True},
    "rings": {"restoration.bands": ["rings", "low"]},
    "any": {"restoration.bands": ["any"], "restoration.clipped": 0.5},
    "damaged": {"restoration.bands": ["low"], "restoration.damage": 0.1},
    "transformer": {"backbone.name": "dit", "backbone.options": {"depth": 1, "heads": 2, "head_width": 8}},
}


def trainer_of(task):
    state, loss = task.start(CUDA)
    settings = task.config.training
    parts = World().parts(settings.batch_size, settings.accumulate)
    return _Trainer(state, task.batches(CUDA, parts).at, loss, settings, World())


@pytest.mark.parametrize("name", TRAININGS)
def test_a_step_of_training_never_waits(name):
    task = Task.of(resolve({**TINY, **TRAININGS[name]}))
    with pretended_cuda() as waits:
        trainer = trainer_of(task)
        trainer.step()
        waits.clear()
        trainer.step()
        assert waits == {}
        trainer.check_weights()
        trainer.record()


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("spacing", SPACINGS)
def test_a_path_is_on_the_device(schedule, spacing):
    with pretended_cuda():
        levels = sampling_levels(make_schedule(schedule, CUDA), 4, CUDA, spacing)
    on_cpu = sampling_levels(make_schedule(schedule), 4, "cpu", spacing)
    for there, here in zip(levels, on_cpu, strict=True):
        for one, two in ((there.t, here.t), (there.alpha, here.alpha), (there.sigma, here.sigma)):
            assert one.device == CUDA and torch.equal(one.value, two)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_sampling_waits_where_its_images_are_taken_alone(sampler):
    task = Task.of(resolve(TINY))
    chosen = SamplingConfig(sampler=sampler, steps=4, churn=1.0 if sampler == "heun" else 0.0)
    with pretended_cuda() as waits:
        state, _ = task.start(CUDA)
        generator = ImageGenerator(task.model(state, "run"), chosen)
        waits.clear()
        generator.draw(range(2))
        assert waits == {"sampling/generator.py signals": 1, "data/tensors.py tensor_pixels": 1}
