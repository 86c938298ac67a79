"""On a pretended CUDA device no operation mixes it with the CPU, and the host waits for it at named places alone.

What that cannot see is in `support/pretended_cuda.py`.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.pretended_cuda import CUDA, pretended_cuda

from sagd_cli.config.layers import resolve
from sagd_cli.config.noise_spectrum import NoiseSpectrum
from sagd_cli.config.run import SamplingConfig
from sagd_cli.diffusion import self_check
from sagd_cli.diffusion.catalogue import SAMPLERS, SCHEDULES, SPACINGS
from sagd_cli.diffusion.schedule import make_schedule
from sagd_cli.diffusion.time_grids import sampling_levels
from sagd_cli.evaluation.fidelity import evaluate
from sagd_cli.evaluation.measures import Measures
from sagd_cli.features.image_source import array_source
from sagd_cli.restoration.learning import Turned
from sagd_cli.restorer.catalogue import ESTIMATES
from sagd_cli.restorer.restorer import Restorer, Restoring
from sagd_cli.restorer.restoring_model import RestoringModel
from sagd_cli.sampling.generator import ImageGenerator
from sagd_cli.system.console import Output
from sagd_cli.system.distributed import World
from sagd_cli.training.batches import Batches, Labels, Views
from sagd_cli.training.loop import Callbacks, _Trainer, run_loop
from sagd_cli.training.task import Task

CPU, QUIET = torch.device("cpu"), Output(quiet=True)

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


def task_of(name):
    task = Task.of(resolve({**TINY, **TRAININGS[name]}))
    views = [lambda v: v.flip(-1), lambda v: v.flip(-2), lambda v: v.transpose(-1, -2)]
    return replace(task, views=Turned(views=views)) if name == "damaged" else task  # as omit learns


def trainer_of(task):
    state, loss = task.start(CUDA)
    settings = task.config.training
    parts = World().parts(settings.batch_size, settings.accumulate)
    return _Trainer(state, task.batches(CUDA, parts).at, loss, settings, World())


def test_what_cuda_refuses_is_refused_and_what_waits_is_noted():
    with pretended_cuda() as waits:
        x = torch.arange(6.0).view(2, 3).to(CUDA)
        waits.clear()
        for mixed in (
            lambda: x + torch.zeros(3),
            lambda: torch.zeros(3)[x[0].long()],
            lambda: torch.rand(3, generator=torch.Generator("cpu"), device=CUDA),
        ):
            with pytest.raises(RuntimeError):
                mixed()
        assert waits == {} and torch.equal((2 * x + torch.tensor(1.0)).value, 2 * x.value + 1)
        for waiting in (
            lambda: float(x.sum()),
            lambda: x[x > 1],
            lambda: x[[0, 1]],
            lambda: x[torch.tensor(1, device=CUDA)],
            x.cpu,
            lambda: torch.zeros(3).to(CUDA),
            lambda: torch.unique(x),
        ):
            waits.clear()
            waiting()
            assert sum(waits.values()) > 0
        waits.clear()
        torch.zeros(3).to(CUDA, non_blocking=True)
        assert waits == {}


@pytest.mark.parametrize("name", TRAININGS)
def test_a_step_of_training_never_waits(name):
    task = task_of(name)
    with pretended_cuda() as waits:
        trainer = trainer_of(task)
        trainer.step()
        waits.clear()
        trainer.step()
        assert waits == {}
        trainer.check_weights()
        trainer.record()


def test_images_that_stay_in_memory_are_fetched_without_waiting():
    images, labels = (
        torch.zeros(20, 1, 24, 24, dtype=torch.uint8),
        Labels(torch.zeros(20, dtype=torch.int64), 3, 0.1),
    )
    with pretended_cuda() as waits:
        labels = labels._replace(values=labels.values.to(CUDA))
        batches = Batches(images, 8, 0, labels, CUDA, Views(flips=True, turns=True, crops=(16,)))
        waits.clear()
        batch = batches.at(1, range(4))
        assert batch.images.device == batch.labels.device == CUDA and batch.images.shape == (4, 1, 16, 16)
        assert waits == {}


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


def test_samples_with_noise_of_the_cpu_are_those_of_the_cpu():
    task = Task.of(resolve({**TINY, "filter.type": "lowpass"}))
    chosen = SamplingConfig(sampler="ddpm", steps=4, noise_device="cpu", precision="fp32")
    expected = ImageGenerator(task.model(task.start(CPU)[0], "run"), chosen).signals(range(2))
    with pretended_cuda() as waits:
        generator = ImageGenerator(task.model(task.start(CUDA)[0], "run"), chosen)
        assert (generator.settings["noise_device"], generator.settings["precision"]) == ("cpu", "fp32")
        waits.clear()
        found = generator.signals(range(2))
        assert waits == {"sampling/generator.py signals": 1}
        by_default = ImageGenerator(task.model(task.start(CUDA)[0], "run"), SamplingConfig())
        assert (by_default.settings["noise_device"], by_default.settings["precision"]) == ("cuda", "bf16")
    torch.testing.assert_close(found.value, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("deterministic", [False, True])
def test_a_training_has_its_arithmetic_and_gives_it_back(deterministic):
    task = Task.of(resolve({**TINY, "training.deterministic": deterministic, "training.images": 8}))
    seen = []

    def look():
        cudnn = torch.backends.cudnn
        seen.append((cudnn.deterministic, cudnn.benchmark, torch.are_deterministic_algorithms_enabled()))

    with pretended_cuda():
        state, loss = task.start(CUDA)
        batches, settings = task.batches(CUDA, [range(8)]), task.config.training
        run_loop(state, batches.at, loss, settings, Callbacks(step_done=look))
    look()
    assert seen == [(deterministic, not deterministic, deterministic), (False, False, False)]


def test_classes_are_guided_on_the_device():
    task = task_of("classes")
    with pretended_cuda():
        state, _ = task.start(CUDA)
        chosen = SamplingConfig(sampler="ddim", steps=2, guidance=2.0)
        assert ImageGenerator(task.model(state, "run"), chosen).draw(range(3)).shape == (3, 1, 8, 8)


@pytest.mark.parametrize("estimate", [name for name, choice in ESTIMATES.items() if choice.needs_model])
def test_images_are_restored_on_the_device_as_on_the_cpu(estimate):
    task, noise = task_of("any"), NoiseSpectrum.parse("mid:level=0.3")
    y = torch.arange(2 * 3 * 10 * 12.0).sin().view(2, 3, 10, 12)  # sides that are continued

    def restored(device, y):
        model = RestoringModel(task.model(task.start(device)[0], "run"))
        how = Restoring(estimate, samples=2, uncertain=True, steps=3)
        return Restorer(model, how).restore(y, [noise, None], ["one", "two"])

    expected = restored(CPU, y)
    with pretended_cuda():
        found = restored(CUDA, y.to(CUDA))
    assert found.estimate.device == CUDA
    torch.testing.assert_close(found.estimate.value, expected.estimate)


def test_distances_are_computed_on_the_device_as_on_the_cpu():
    images = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8)).astype(np.uint8)
    one, two = array_source("one", images[:20]), array_source("two", images[20:] // 2)
    how = Measures(features="pixels", cache=False, batch_size=20)
    expected = evaluate(one, two, how, CPU, QUIET)
    with pretended_cuda() as waits:
        found = evaluate(one, two, how, CUDA, QUIET)
        # A batch is taken in, and the features of a part are read; the figures are read at the end.
        assert set(waits) == {
            "features/extractor.py __call__",
            "features/extractor.py features",
            "features/extractor.py add",
            "features/moments.py add",
            "metrics/frechet.py frechet_distance",
            "metrics/kernel.py subset",
            "metrics/kernel.py kernel_distance",
        }
    assert found["fd"] == pytest.approx(expected["fd"]) and found["kid"] == pytest.approx(expected["kid"])


def test_the_checks_of_the_numerics_run_on_the_device(monkeypatch):
    """With one sampler for all: each takes an evaluation at a time, and there are thousands."""
    monkeypatch.setattr(self_check, "SAMPLERS", {"dpmpp": SAMPLERS["dpmpp"]})
    monkeypatch.setattr(self_check, "SCHEDULES", {"cosine": SCHEDULES["cosine"]})
    monkeypatch.setattr(
        self_check, "WEIGHTS", {name: self_check.WEIGHTS[name] for name in ("falling", "gap")}
    )
    monkeypatch.setattr(self_check, "CHECK_DRAWS", 512)
    with pretended_cuda():
        assert [check.name for check in self_check.run_checks(CUDA) if not check.ok] == []
