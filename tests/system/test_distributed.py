"""However a batch is divided, into passes and among processes, only the rounding of sums changes."""

import os
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.interruption import hashes, stop_at
from support.meeting import together
from torch import distributed
from typer import Abort

from sagd_cli.config.filter import FilterConfig
from sagd_cli.config.layers import resolve
from sagd_cli.diffusion.loss import DiffusionLoss
from sagd_cli.diffusion.process import ForwardProcess
from sagd_cli.diffusion.schedule import make_schedule
from sagd_cli.errors import ConfigError, FollowedError, Interrupted, SagdError, UsageError
from sagd_cli.model.state import TrainingState
from sagd_cli.spectral.noise import BLOCK_IMAGES, BatchStream, SpectralNoise
from sagd_cli.system.console import Output
from sagd_cli.system.distributed import World, joined_world, own_device
from sagd_cli.training import loop
from sagd_cli.training.batches import Batch
from sagd_cli.training.task import Task
from sagd_cli.training.train import Conduct, Training, run_training

LAUNCHED = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
CPU, QUIET = torch.device("cpu"), Output(quiet=True)
ROOT = Path(__file__).resolve().parents[2]
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone")
TRAIN = ("train", "--device", "cpu", "--json")
STEPS, BATCH = 10, 24
SETTINGS = {
    "training.images": STEPS * BATCH,
    "training.batch_size": BATCH,
    "training.checkpoint_images": 10**9,
    "class_conditional": True,
}
# A learned filter's steps are longer, and Adam divides by gradients that are all but zero.
TOLERANCE = {"powerlaw": 1e-5, "learned": 1e-4}
FILTERS = {"powerlaw": {"filter.type": "powerlaw"}, "learned": {"filter.type": "learned", "prediction": "v"}}


def weights(run):
    folder = run / "checkpoints" / f"step-{STEPS:08d}"
    return {
        f"{name}.{key}": tensor
        for name in ("model", "ema", *(["profile"] if (folder / "profile.safetensors").exists() else []))
        for key, tensor in load_file(folder / f"{name}.safetensors").items()
    }


def assert_alike(run, other, atol=1e-5):
    expected = weights(other)
    for key, tensor in weights(run).items():
        torch.testing.assert_close(
            tensor, expected[key], rtol=1e-5, atol=atol, msg=lambda text, key=key: f"{key}: {text}"
        )


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny_settings):
    """A run by one process in one pass, for each filter."""
    folder = tmp_path_factory.mktemp("whole")
    for name, chosen in FILTERS.items():
        run_training(resolve({**tiny_settings, **SETTINGS, **chosen}), folder / name, CPU, QUIET)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("name", "passes"), [("powerlaw", 3), ("learned", 2)])
def test_passes_change_rounding_only(whole, tiny_settings, tmp_path, name, passes):
    settings = {**tiny_settings, **SETTINGS, **FILTERS[name], "training.accumulate": passes}
    run_training(resolve(settings), tmp_path / "run", CPU, QUIET)
    assert_alike(tmp_path / "run", whole / name, TOLERANCE[name])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "processes", "passes"), [("powerlaw", 3, 2), ("learned", 2, 1)])
def test_processes_change_rounding_only(whole, tmp_path, tiny_settings, name, processes, passes):
    """`torchrun` with Gloo on this machine: weights and averages after 10 steps, each saved by the clock."""
    run = tmp_path / "run"
    chosen = {"training.accumulate": passes, "training.checkpoint_minutes": 1e-6}
    settings = {**tiny_settings, **SETTINGS, **FILTERS[name], **chosen}
    pairs = [part for key, value in settings.items() for part in ("--set", f"{key}={_yaml(value)}")]
    done = subprocess.run(
        [*TORCHRUN, f"--nproc-per-node={processes}", "-m", "sagd_cli", *TRAIN, "--output", str(run), *pairs],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count('"checkpoint"') == 1, "one process speaks"
    assert len((run / "metrics.jsonl").read_text().splitlines()) == STEPS
    assert len([*(run / "checkpoints").iterdir()]) == 2
    assert_alike(run, whole / name, TOLERANCE[name])


def _yaml(value):
    return str(value).replace("'", "").replace("True", "true").replace("False", "false")


@pytest.mark.slow
def test_stopping_and_resuming_with_passes_is_exact(tiny_settings, tmp_path):
    config = resolve({**tiny_settings, "training.accumulate": 2, "filter.type": "learned"})
    run_training(config, tmp_path / "whole", CPU, QUIET)
    with pytest.raises(Interrupted):
        run_training(config, tmp_path / "parts", CPU, stop_at(5))
    run_training(config, tmp_path / "parts", CPU, QUIET)
    assert hashes(tmp_path / "parts") == hashes(tmp_path / "whole")


def test_gradients_are_exchanged_once_a_step_also_when_compiled(monkeypatch, tiny_settings):
    """The module that is asked not to synchronise is the one that does, not what torch.compile made of it."""
    asked = []
    monkeypatch.setattr(loop, "unsynchronised", lambda module: asked.append(module) or nullcontext())
    settings = resolve({**tiny_settings, "training.accumulate": 4}).training
    state = TrainingState(torch.nn.Conv2d(1, 1, 3, padding=1), settings, CPU)
    noise = SpectralNoise(FilterConfig(type="white").weights((8, 8)))
    compiled = settings.model_copy(update={"compile": True})
    monkeypatch.setattr(torch, "compile", lambda module: lambda x_t, timestep: module(x_t))
    trainer = loop._Trainer(
        state,
        lambda step, places: Batch(torch.zeros(len(places), 1, 8, 8)),
        DiffusionLoss(ForwardProcess(make_schedule("linear"), noise)),
        compiled,
        World(),
    )
    trainer.step()
    assert asked == [state.network] * 3


class HalfIdle(torch.nn.Module):
    """A network of which one layer is never used."""

    def __init__(self):
        super().__init__()
        self.used, self.idle = torch.nn.Conv2d(1, 1, 3, padding=1), torch.nn.Conv2d(1, 1, 1)

    def forward(self, x_t, timestep):
        return self.used(x_t)


def test_a_network_with_idle_weights_trains_on_several_processes(tiny_settings):
    """One process with a group of its own stands for several: the wrapper does not know the difference."""
    settings = resolve({**tiny_settings, "training.accumulate": 2}).training
    process = DiffusionLoss(
        ForwardProcess(make_schedule("linear"), SpectralNoise(FilterConfig(type="white").weights((8, 8))))
    )
    alone, together = (TrainingState(HalfIdle(), settings, CPU) for _ in range(2))
    together.network.load_state_dict(alone.network.state_dict())

    def images(step, places):
        return Batch(torch.zeros(len(places), 1, 8, 8))

    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        trainers = [
            loop._Trainer(state, images, process, settings, world)
            for state, world in ((alone, World()), (together, World(0, 2)))
        ]
        # A world of two takes half of the batch.
        trainers[1]._parts = trainers[0]._parts
        for _ in range(3):
            for trainer in trainers:
                trainer.step()
    finally:
        distributed.destroy_process_group()
    for one, two in zip(alone.network.parameters(), together.network.parameters(), strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize(
    ("name", "environment", "count", "wanted"),
    [
        ("cuda", {}, 4, "cuda"),
        ("cuda:1", {}, 4, "cuda:1"),
        ("cpu", {"WORLD_SIZE": "2"}, 0, "cpu"),
        ("cuda", {"WORLD_SIZE": "4", "LOCAL_RANK": "3", "LOCAL_WORLD_SIZE": "4"}, 4, "cuda:3"),
        ("cuda", {"WORLD_SIZE": "8", "LOCAL_RANK": "3", "CUDA_VISIBLE_DEVICES": "3"}, 1, "cuda:0"),
        ("cuda:0", {"WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}, 4, "cuda:0"),
        ("cuda:0", {"WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}, 4, "cannot share cuda:0"),
        (
            "cuda",
            {"WORLD_SIZE": "4", "LOCAL_RANK": "2", "LOCAL_WORLD_SIZE": "4"},
            2,
            "process 2 .* there are 2",
        ),
        ("cuda", {"WORLD_SIZE": "4"}, 2, "no LOCAL_RANK"),
    ],
)
def test_each_process_has_a_device_of_its_own_or_is_refused(monkeypatch, name, environment, count, wanted):
    for key in ("WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(key, raising=False)
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    if wanted.startswith(("cuda", "cpu")):
        assert own_device(torch.device(name)) == torch.device(wanted)
    else:
        with pytest.raises(UsageError, match=wanted):
            own_device(torch.device(name))


@pytest.mark.parametrize(("size", "accumulate"), [(1, 1), (3, 1), (1, 4), (2, 3)])
def test_the_parts_of_all_processes_are_the_batch(size, accumulate):
    parts = [World(rank, size).parts(48, accumulate) for rank in range(size)]
    assert [len(own) for own in parts] == [accumulate] * size
    assert [place for own in parts for places in own for place in places] == list(range(48))


@pytest.mark.parametrize(("size", "count"), [(1, 5), (3, 7), (4, 4), (5, 2)])
def test_shares_of_work_are_the_whole_and_differ_by_one_at_most(size, count):
    shares = [World(rank, size).share(range(count)) for rank in range(size)]
    assert sorted(item for share in shares for item in share) == [*range(count)]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_what_the_first_process_makes_or_raises_reaches_all(monkeypatch):
    """Two processes, of which the first one's message is what the other receives."""
    sent = []
    monkeypatch.setattr(World, "gathered", lambda self, document: sent.append(document) or sent[:1])
    first, other = World(0, 2), World(1, 2)
    assert first.from_first(lambda: [3, 4]) == [3, 4]
    assert other.from_first(lambda: pytest.fail("only the first makes it")) == [3, 4]
    sent.clear()

    def refuse():
        raise UsageError("no")

    with pytest.raises(UsageError, match="no"):
        first.from_first(refuse)
    with pytest.raises(FollowedError) as followed:
        other.from_first(refuse)
    assert followed.value.exit_code == 2


def test_a_batch_that_does_not_divide_is_refused(sagd, tmp_path):
    with pytest.raises(ConfigError, match=r"a batch of 10 does not divide into 2 process\(es\) x 3 passes"):
        World(0, 2).parts(10, 3)
    refused = sagd(
        "train", "--batch-size", 10, "--set", "training.accumulate=3", "--output", tmp_path / "run"
    )
    assert refused.code == 2 and "multiple of 3" in refused.err and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "places", [range(5), range(3, 40), range(BLOCK_IMAGES, 2 * BLOCK_IMAGES), range(31, 33)]
)
def test_a_place_of_a_batch_has_its_own_numbers(places):
    def draw(places):
        stream = BatchStream("cpu", places, 7, "train", 3)
        return stream.rand(), stream.randn((2, 3))

    for mine, all_of_them in zip(draw(places), draw(range(48)), strict=True):
        assert torch.equal(mine, all_of_them[places.start : places.stop])
    assert len({row.numpy().tobytes() for row in draw(range(48))[1]}) == 48


def test_processes_that_differ_are_refused_and_named():
    facts = [{"versions": 1, "files": "a"}, {"versions": 1, "files": "a"}, {"versions": 1, "files": "b"}]
    with pytest.raises(SagdError, match="process 2 has other files than process 0: b, not a"):
        together(3, lambda world: world.check_alike(facts[world.rank]))
    together(3, lambda world: world.check_alike(facts[0]))


def test_the_others_begin_after_the_first():
    order = []
    assert together(3, lambda world: world.after_first(lambda: order.append(world.rank))) == [None] * 3
    assert order[0] == 0 and sorted(order) == [0, 1, 2]


def test_results_come_in_the_order_of_the_work_to_the_first_process():
    def work(world):
        own = ({"piece": np.array(piece)} for piece in world.share(range(7)))
        return [int(found["piece"]) for found in world.collected(own, 7)]

    assert together(3, work) == [[*range(7)], [], []]
    assert work(World()) == [*range(7)]


def test_the_first_failure_speaks_and_those_it_takes_along_are_silent(monkeypatch):
    """One process with a store that knows of a failure of another one."""
    for key, value in {**LAUNCHED, "RANK": "0"}.items():
        monkeypatch.setenv(key, value)
    store = distributed.HashStore()
    monkeypatch.setattr("sagd_cli.system.distributed.rendezvous", lambda url: iter([(store, 0, 1)]))
    for kind in (MemoryError, FollowedError):
        with pytest.raises(kind), joined_world(CPU):
            raise MemoryError
    with pytest.raises(FollowedError) as followed, joined_world(CPU):
        raise UsageError("late")
    assert followed.value.exit_code == 2


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_who_is_idle_waits_for_days_and_a_gpu_for_minutes(monkeypatch, kind):
    """A dead peer closes its connections, which Gloo sees; NCCL hangs, and needs a limit."""
    limits = {}

    def meet(backend, timeout, **others):
        limits[backend] = timeout

    for key, value in {**LAUNCHED, "RANK": "0"}.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr("sagd_cli.system.distributed.rendezvous", lambda url: iter([(None, 0, 1)]))
    monkeypatch.setattr(distributed, "init_process_group", meet)
    monkeypatch.setattr(distributed, "new_group", meet)
    monkeypatch.setattr(distributed, "destroy_process_group", lambda: None)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    with joined_world(torch.device(kind)):
        pass
    assert timedelta(days=7) < limits["gloo"] < timedelta(milliseconds=2**31)
    assert kind == "cpu" or limits["nccl"] <= timedelta(hours=1)


class Stepper:
    """In place of a trainer: it notes its steps, and when its processes wait for each other."""

    def __init__(self, state, *about):
        self.state, self.world = state, self
        self.is_late = self.check_weights = self.record = lambda: {}

    def step(self):
        self.state.step += 1
        self.state.seen.append("step")

    def any(self, *flags):
        return False, False

    def wait(self):
        self.state.seen.append("wait")


def test_all_wait_for_a_checkpoint_before_their_devices_meet_again(monkeypatch):
    """What the first process writes may take long, and the others wait in the control group alone."""
    monkeypatch.setattr(loop, "_Trainer", Stepper)
    state = SimpleNamespace(step=0, seen=[], device=CPU)
    settings = SimpleNamespace(steps=3, checkpoint_steps=2, log_steps=1, deterministic=False)
    callbacks = loop.Callbacks(checkpoint=lambda: state.seen.append("save"))
    assert loop.run_loop(state, None, None, settings, callbacks)
    assert state.seen == ["step", "step", "save", "wait", "step", "save", "wait"]


@pytest.mark.parametrize(("rank", "says"), [("0", True), ("1", False)])
def test_a_terminal_interrupts_all_and_one_says_so(sagd, monkeypatch, rank, says):
    def interrupted(*arguments, **options):
        raise Abort

    monkeypatch.setattr("sagd_cli.app.app", interrupted)
    for key, value in {**LAUNCHED, "RANK": rank}.items():
        monkeypatch.setenv(key, value)
    stopped = sagd("filter", "list")
    assert stopped.code == 130 and stopped.err == ("error: interrupted.\n" if says else "")


def test_one_process_speaks(sagd, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, lines in (("0", True), ("1", False)):
        monkeypatch.setenv("RANK", rank)
        found = sagd("filter", "list")
        assert found.code == 0 and bool(found.out) is lines and not found.err
    failed = sagd("filter", "show", "wite")
    assert failed.code == 2 and "process 1: " in failed.err


def test_processes_that_see_other_images_do_not_train_together(tiny_config, tmp_path):
    task = Task.of(tiny_config)
    other = replace(task, data=replace(task.data, images=task.data.images[::-1].copy()), known=None)

    def train(world):
        seen = task if world.is_first else other
        return Training(seen, tmp_path / "run", CPU, QUIET, world, Conduct()).run()

    with pytest.raises(SagdError, match="process 1 has other images than process 0"):
        together(2, train)
    assert not (tmp_path / "run" / "config.yaml").exists()
