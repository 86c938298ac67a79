"""What holds on a GPU and how fast it is, in one command and at most so many seconds.

python benchmarks/gpu_check.py [--device cuda] [--budget 480] [--output gpu_check.json] [--only WORD] [--tiny]

The checks compare the device with this machine's CPU; the figures at the end are speeds. Exit code 1: a check failed. A
part for which too little of the budget is left is left out, and says so. A part that raises has failed, and the others
go on. `--device cpu --tiny` tries the program itself.
"""

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from sagd_cli.config.filter import FilterConfig
from sagd_cli.config.layers import resolve
from sagd_cli.config.noise_spectrum import NoiseSpectrum
from sagd_cli.config.run import RunConfig, SamplingConfig
from sagd_cli.diffusion.catalogue import SCHEDULES, SPACINGS
from sagd_cli.diffusion.schedule import make_schedule
from sagd_cli.diffusion.self_check import run_checks
from sagd_cli.diffusion.time_grids import sampling_levels
from sagd_cli.errors import Interrupted
from sagd_cli.evaluation.fidelity import evaluate
from sagd_cli.evaluation.measures import Measures
from sagd_cli.features.image_source import array_source
from sagd_cli.model.network import resolve_backbone, seen_shape
from sagd_cli.plugin.records import ImageSet
from sagd_cli.restorer.restorer import Restorer, Restoring
from sagd_cli.restorer.restoring_model import RestoringModel
from sagd_cli.sampling.generator import ImageGenerator
from sagd_cli.spectral.noise import BatchStream, SpectralNoise
from sagd_cli.system.console import Output
from sagd_cli.system.devices import choose_device, training_arithmetic
from sagd_cli.system.distributed import World
from sagd_cli.system.failures import named_error
from sagd_cli.system.gpus import cuda_facts, gpu_facts
from sagd_cli.training import batches, loop
from sagd_cli.training.cost import estimate_cost
from sagd_cli.training.loop import _Trainer
from sagd_cli.training.task import Task
from sagd_cli.training.train import Conduct, run_training

CPU, QUIET = torch.device("cpu"), Output(quiet=True)
TRAININGS: dict[str, dict[str, Any]] = {
    "eps": {},
    "gap": {"filter.type": "lowpass"},
    "learned": {"filter.type": "learned", "prediction": "v"},
    "classes": {"class_conditional": True, "training.flips": True},
    "restore": {"restoration.bands": ["any"]},
}
SMALL = {"backbone.options.channels": [16, 32], "backbone.options.attention": [False, False]}
Found = tuple[bool | None, Any]  # whether it holds (None: a figure), and what is said


@dataclass(frozen=True)
class Check:
    """The device that is checked, and whether all is small."""

    device: torch.device
    tiny: bool

    @property
    def on_cuda(self) -> bool:
        """Whether it is a GPU."""
        return self.device.type == "cuda"

    def wait(self) -> None:
        """Wait until the device has done all that it was asked for."""
        if self.on_cuda:
            torch.cuda.synchronize(self.device)

    def seconds(self, work: Callable[[], object]) -> float:
        """Time one call, the device's queue included."""
        self.wait()
        started = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - started

    # The checks.

    def machine(self) -> Found:
        """Say what it is. A product and a convolution have to be right."""
        gpu = gpu_facts(self.device) if self.on_cuda else {"name": platform.machine(), "problem": None}
        facts = {"torch": torch.__version__, **cuda_facts(), **gpu}
        x = torch.ones(2, 64, 8, 8, device=self.device).to(memory_format=torch.channels_last)
        kept = torch.nn.functional.group_norm(x, 8).is_contiguous(memory_format=torch.channels_last)
        return gpu["problem"] is None, {**facts, "group norm keeps channels last": kept}

    def numerics(self) -> Found:
        """`sagd doctor --numerics`."""
        found = run_checks(self.device)
        return all(check.ok for check in found), [check.name for check in found if not check.ok] or len(found)

    def paths(self) -> Found:
        """The levels of every schedule and spacing are those of the CPU."""
        off = {}
        for schedule in SCHEDULES:
            for spacing in SPACINGS:
                there, here = (
                    [
                        float(level.sigma)
                        for level in sampling_levels(make_schedule(schedule, d), 20, d, spacing)
                    ]
                    for d in (self.device, CPU)
                )
                off[f"{schedule} {spacing}"] = max(
                    abs(a - b) / (b or 1) for a, b in zip(there, here, strict=True)
                )
        return max(off.values()) < 1e-5, {"largest relative distance": max(off.values())}

    def filters(self) -> Found:
        """Shaping is that in float64 on the CPU, also within autocast."""
        worst = 0.0
        for shape in ((32, 32), (31, 17), (64,), (7, 8, 9), (256, 256)):
            for kind in ("powerlaw", "lowpass"):
                weights, dims = FilterConfig(type=kind).weights(shape), tuple(range(-len(shape), 0))
                x = torch.arange(12.0 * np.prod(shape)).mul(0.7).sin().view(4, 3, *shape)
                spectrum = torch.fft.rfftn(x.double(), dim=dims) * torch.tensor(weights.weight)
                wanted = torch.fft.irfftn(spectrum, s=shape, dim=dims)
                with torch.autocast(self.device.type, dtype=torch.bfloat16):
                    found = SpectralNoise(weights, self.device).color(x.to(self.device))
                worst = max(worst, relative(found, wanted))
        return worst < 1e-5, {"largest relative distance": worst}

    def gradients(self) -> Found:
        """The gradient of a step, with the noise of the CPU: float32 as on the CPU, bfloat16 near it."""

        def gradient(device: torch.device, precision: str, tf32: bool) -> torch.Tensor:
            task = small_task({"training.precision": precision, "training.gradient_clip": 1e9})
            flags = torch.backends.cudnn.flags(enabled=True, allow_tf32=tf32)
            with mock.patch.object(loop, "BatchStream", StreamOfCpu), flags:
                trainer = trainer_of(task, device)
                trainer.step()
            return torch.cat([p.grad.flatten().cpu() for p in trainer._state.network.parameters()])

        wanted = gradient(CPU, "fp32", False)
        kinds = {"fp32": ("fp32", False), "TF32": ("fp32", True), "bf16": ("bf16", False)}
        off = {name: relative(gradient(self.device, *kind), wanted) for name, kind in kinds.items()}
        return off["fp32"] < 1e-3 and off["bf16"] < 0.1, {"relative distance": off}

    def waits(self) -> Found:
        """No step of training waits for the device."""
        if not self.on_cuda:
            return None, "needs CUDA"
        said = {}
        for name, chosen in TRAININGS.items():
            trainer = trainer_of(small_task(chosen), self.device)
            trainer.step()
            trainer.step()
            torch.cuda.set_sync_debug_mode("error")
            try:
                trainer.step()
            except RuntimeError as error:
                said[name] = named_error(error)[:200]
            finally:
                torch.cuda.set_sync_debug_mode("default")
        return not said, said or f"{len(TRAININGS)} kinds of training"

    def resuming(self) -> Found:
        """Stopped and resumed is as in one go, bit for bit, if deterministic; what the CPU began goes on."""
        steps = 4 if self.tiny else 20
        chosen = {
            "training.batch_size": 32,
            "training.images": 32 * steps,
            "training.checkpoint_images": 32 * steps,
        }

        def weights(config: RunConfig, run: Path, *goes: tuple[torch.device, int | None]) -> torch.Tensor:
            for device, until in goes:
                try:
                    run_training(config, run, device, QUIET, Conduct(until=until))
                except Interrupted:
                    continue
            saved = load_file(run / "checkpoints" / f"step-{steps:08d}" / "model.safetensors")
            return torch.cat([values.flatten() for values in saved.values()])

        said: dict[str, Any] = {}
        for name, deterministic in (("default", False), ("deterministic", True)):
            config = resolve({**chosen, "training.deterministic": deterministic})
            with tempfile.TemporaryDirectory() as folder:
                runs = [Path(folder) / str(k) for k in range(4)]
                here, half = self.device, steps // 2
                whole, again = (weights(config, run, (here, None)) for run in runs[:2])
                resumed = weights(config, runs[2], (here, half), (here, None))
                moved = weights(config, runs[3], (CPU, half), (here, None))
            said[name] = {
                "two goes differ by": float((whole - again).abs().max()),
                "a resumed one by": float((whole - resumed).abs().max()),
                "finite after the CPU": bool(moved.isfinite().all()),
            }
        strict = said["deterministic"]
        return strict["a resumed one by"] == 0 and strict["finite after the CPU"], said

    def singly(self) -> Found:
        """An image does not depend on its batch, but for rounding."""
        trainer = trainer_of(task := small_task({}), self.device)
        for _ in range(4 if self.tiny else 150):
            trainer.step()
        said = {}
        for precision in ("fp32", "bf16"):
            model = task.model(trainer._state, "run")
            for sampler in ("dpmpp", "ddpm"):
                chosen = SamplingConfig(sampler=sampler, steps=10, precision=precision)
                draw = ImageGenerator(model, chosen).draw
                size = 2 if self.tiny else 8
                parts = [draw(range(i, i + size)) for i in range(0, 4 * size, size)]
                whole = draw(range(4 * size))
                off = abs(whole.astype(int) - np.concatenate(parts))
                said[f"{precision} {sampler}"] = {"mean": float(off.mean()), "largest": int(off.max())}
        return said["fp32 dpmpp"]["largest"] <= 1, {"grey levels": said}

    def comparable(self) -> Found:
        """Samples in float32 with the noise of the CPU are those of the CPU."""
        task, chosen = small_task({}), SamplingConfig(steps=10, precision="fp32", noise_device="cpu")
        there, here = (
            ImageGenerator(task.model(task.start(device)[0], "run"), chosen).draw(range(8)).astype(int)
            for device in (self.device, CPU)
        )
        largest = int(abs(there - here).max())
        return largest <= 1, {"grey levels, largest": largest}

    def far_images(self) -> Found:
        """Images that stay in the memory of the machine are the same batches as those on the device."""
        sums = []
        for free in (1 << 40, 1):
            with mock.patch.object(batches, "available_memory", lambda device, free=free: free):
                trainer = trainer_of(
                    small_task({"class_conditional": True, "training.flips": True}), self.device
                )
            sums.append(
                [trainer._batch_at(step, range(32)).images.double().sum().item() for step in range(4)]
            )
        return sums[0] == sums[1], f"{len(sums[0])} batches"

    def distances(self) -> Found:
        """Distances are those of the CPU."""
        x, half = images(400, (1, 28, 28)), 200
        sides = array_source("one", x[:half]), array_source("two", x[half:] // 2)
        off = {}
        for features in ("digits-cnn", "spectrum"):
            how = Measures(("fid",), features, cache=False)
            there, here = (evaluate(*sides, how, device, QUIET)["fd"] for device in (self.device, CPU))
            off[features] = abs(there - here) / abs(here)
        return max(off.values()) < 1e-3, {"relative distance": off}

    def restoration(self) -> Found:
        """Restored images are those of the CPU."""
        task = small_task(TRAININGS["restore"])
        y = torch.arange(2 * 3 * 40 * 44.0).mul(0.3).sin().view(2, 3, 40, 44)
        there, here = (
            Restorer(RestoringModel(task.model(task.start(device)[0], "run")), Restoring())
            .restore(y.to(device), [NoiseSpectrum.parse("mid:level=0.3")] * 2, ["one", "two"])
            .estimate
            for device in (self.device, CPU)
        )
        off = relative(there, here)
        return off < 1e-2, {"relative distance": off}

    def memory(self) -> Found:
        """The memory of a step is what was estimated."""
        if not self.on_cuda:
            return None, "needs CUDA"
        said = {}
        for preset, count in (("digits", 512), ("cifar10", 128)):
            task = preset_task(preset, {"training.batch_size": count}, self.tiny)
            cost = estimate_cost(task.config, task.size, self.device)
            torch.cuda.empty_cache()
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            trainer = trainer_of(task, self.device)
            self.seconds(trainer.step), self.seconds(trainer.step)
            said[preset] = (torch.cuda.max_memory_allocated() - before) / cost.memory if cost else None
        return all(ratio and 0.75 < ratio < 1.3 for ratio in said.values()), {"measured over estimated": said}

    # The speeds.

    def training(
        self, preset: str, batch: int, *, layout: bool = True, search: bool = True, **chosen: Any
    ) -> Found:
        """Time steps of a preset's network on random images.

        Without `search`, cuDNN does not look for the fastest convolutions; without `layout`, not channels last.
        """
        chosen = {f"training.{key}": value for key, value in chosen.items()}
        task = preset_task(preset, {"training.batch_size": batch, **chosen}, self.tiny)
        warm, timed = (1, 2) if self.tiny else (8, 20)
        with ExitStack() as stack:
            stack.enter_context(training_arithmetic(self.device, task.config.training.deterministic))
            if not search:
                stack.enter_context(torch.backends.cudnn.flags(enabled=True, benchmark=False))
            if not layout:
                plain = mock.patch("sagd_cli.model.state.laid_out", lambda network, device: network.train())
                stack.enter_context(plain)
            trainer = trainer_of(task, self.device)
            first = self.seconds(trainer.step)
            if self.on_cuda:
                torch.cuda.reset_peak_memory_stats()
            for _ in range(warm):
                trainer.step()
            took = self.seconds(lambda: [trainer.step() for _ in range(timed)]) / timed
        peak = torch.cuda.max_memory_allocated() / 2**30 if self.on_cuda else None
        return None, {"images/s": batch / took, "ms": 1e3 * took, "GiB": peak, "first s": first}

    def drawing(self) -> Found:
        """Time samples of 10 evaluations."""
        count = 8 if self.tiny else 250
        task = preset_task("cifar10", {}, self.tiny)
        state, _ = task.start(self.device)
        said = {}
        for sampler in ("dpmpp", "dpmpp-sde"):
            generator = ImageGenerator(task.model(state, "run"), SamplingConfig(sampler=sampler, steps=10))
            generator.draw(range(count))
            said[sampler] = count / self.seconds(lambda draw=generator.draw: draw(range(count)))
        return None, {"images/s": said}


class StreamOfCpu(BatchStream):
    """The random numbers of the CPU, on any device."""

    def __init__(self, device: torch.device | str, images: range, seed: int, *key: int | str) -> None:
        super().__init__(CPU, images, seed, *key)
        self._target = device

    def rand(self) -> torch.Tensor:
        """Draw a number in [0, 1) for each image, (B,)."""
        return super().rand().to(self._target)

    def randn(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Draw white noise of `shape` for each image, (B, *shape)."""
        return super().randn(shape).to(self._target)


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Return |found - wanted| / |wanted|."""
    return float((found.double().cpu() - wanted.double()).norm() / wanted.double().norm())


def images(count: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return random images (N, C, *spatial)."""
    return np.random.default_rng(0).integers(0, 256, (count, *shape)).astype(np.uint8)


def small_task(chosen: dict[str, Any]) -> Task:
    """Return a training of the digits with a batch of 32."""
    return Task.of(resolve({"training.batch_size": 32, **chosen}))


def preset_task(preset: str, chosen: dict[str, Any], tiny: bool) -> Task:
    """Return a training of a preset's network, or of a smaller one, on random images."""
    shape = (3, 32, 32) if preset == "cifar10" else (1, 8, 8)
    config: RunConfig = resolve({**chosen, **(SMALL if tiny else {})}, preset=preset)
    config = resolve_backbone(config, seen_shape(config, shape))
    return Task(config, ImageSet(images(2000, shape)), None, config.filter.weights(shape[1:]))


def trainer_of(task: Task, device: torch.device) -> _Trainer:
    """Return the loop of a training, before its first step."""
    state, loss = task.start(device)
    settings = task.config.training
    parts = World().parts(settings.batch_size, settings.accumulate)
    return _Trainer(state, task.batches(device, parts).at, loss, settings, World())


def parts_of(check: Check) -> Iterator[tuple[str, float, Callable[[], Found]]]:
    """Yield the name of each part, the seconds that it asks for, and what to do."""
    for name in ("machine", "numerics", "paths", "filters", "gradients", "waits", "resuming", "singly"):
        yield name, 5, getattr(check, name)
    for name in ("comparable", "far_images", "distances", "restoration", "memory"):
        yield name, 5, getattr(check, name)
    for batch in (8,) if check.tiny else (128, 512):
        yield f"cifar10 {batch}", 20, lambda b=batch: check.training("cifar10", b)
        yield (
            f"cifar10 {batch}, cuDNN does not search",
            20,
            lambda b=batch: check.training("cifar10", b, search=False),
        )
        yield (
            f"cifar10 {batch}, not channels last",
            20,
            lambda b=batch: check.training("cifar10", b, layout=False),
        )
    batch = 8 if check.tiny else 128
    yield f"cifar10 {batch}, fp32", 20, lambda: check.training("cifar10", batch, precision="fp32")
    yield (
        f"cifar10 {batch}, deterministic",
        20,
        lambda: check.training("cifar10", batch, deterministic=True),
    )
    yield f"digits {batch}", 10, lambda: check.training("digits", batch)
    yield "drawing", 20, check.drawing
    if not check.tiny:  # last, as compiling takes minutes
        yield "digits 128, compiled", 60, lambda: check.training("digits", 128, compile=True)
        yield "cifar10 128, compiled", 120, lambda: check.training("cifar10", 128, compile=True)
        yield "cifar10 512, compiled", 120, lambda: check.training("cifar10", 512, compile=True)


def tried(name: str, work: Callable[[], Found]) -> dict[str, Any]:
    """Do one part; an exception is a failure."""
    started = time.monotonic()
    try:
        ok, said = work()
    except Exception as error:
        ok, said = False, named_error(error)[:500]
    return {"name": name, "ok": ok, "said": said, "seconds": round(time.monotonic() - started, 1)}


@contextmanager
def own_environment() -> Iterator[None]:
    """Keep what is compiled in a folder that goes."""
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict("os.environ", {"TORCHINDUCTOR_CACHE_DIR": folder}),
    ):
        yield


def shown(value: Any) -> str:
    """Return a value in a line, numbers with three digits."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {shown(one)}" for key, one in value.items() if one is not None)
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def main() -> None:
    """Print a line for each part, write the JSON, and exit with 1 when a check failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--budget", type=float, default=480, help="seconds")
    parser.add_argument("--output", type=Path, default=Path("gpu_check.json"))
    parser.add_argument("--only", default="", help="the parts whose name holds this")
    parser.add_argument("--tiny", action="store_true", help="small networks, few images")
    options = parser.parse_args()
    check, begun, rows = Check(choose_device(options.device), options.tiny), time.monotonic(), []
    with own_environment():
        for name, least, work in parts_of(check):
            if options.only not in name:
                continue
            left = options.budget - (time.monotonic() - begun)
            row = (
                tried(name, work)
                if left >= least
                else {"name": name, "ok": None, "said": f"{left:.0f} s left"}
            )
            rows.append(row)
            verdict = {True: "ok", False: "FAILED", None: ""}[row["ok"]]
            print(
                f"{verdict:<7} {name:<32} {row.get('seconds', 0):>6.1f} s  {shown(row['said'])}", flush=True
            )
    failed = [row["name"] for row in rows if row["ok"] is False]
    document = {
        "device": str(check.device),
        "date": date.today().isoformat(),
        "failed": failed,
        "parts": rows,
    }
    options.output.write_text(json.dumps(document, indent=1, default=str) + "\n")
    print(f"{time.monotonic() - begun:.0f} s; failed: {', '.join(failed) or 'none'}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
