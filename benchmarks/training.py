"""What training costs: the noise's share of a step, and images a second beside two other training loops.

python benchmarks/training.py [--case digits|cifar10] [--device auto|cpu|cuda]
    [--precision fp32|bf16|fp32,bf16] [--output benchmarks/results/training-digits-cpu.json]

With several precisions ours runs in each, and all else in the last one. So `--parts throughput --precision fp32,bf16`
says in the row `ours, fp32` what bf16 gains.

The peers come with `pip install -e ".[bench]"`; one that is not installed is left out, with a line that says so.

How it is timed. All contestants are built in one process and take turns in blocks: in each block, each does `--warmup`
steps that are not timed and then `--steps` that are, and the one that begins is another each time. A busy machine so
slows all alike; a ratio is the median, over the blocks, of the ratio within a block.

(a) The noise. `step` is a step of our loop on white noise, on the power law of the preset `digits` (all frequencies)
and on a low-pass (which leaves some out, so that each prediction is projected, forward and backward: the dearest case).
`alone` is what SpectralNoise does in such a step, repeated without the rest: the draw, white numbers included, the
projection with its gradient, and the whitened error that the log records. Its share is `alone / step`; `added` is
`(alone - alone of white noise) / step`. Peak memory is that of a child process each: torch.cuda.max_memory_allocated,
or on the CPU the peak resident set, the interpreter and its libraries included; what was resident before training is
recorded beside it. Targets: share <= 3 %, memory <= +1 %.

(b) The loops. All train the same UNet2DModel with the same initial weights (preset `digits`: 1x8x8, widths 32 and 64;
preset `cifar10`: 3x32x32, the 35.7 M parameters of DDPM, dropout 0.1), on the same random uint8 images, at one batch
size and precision, predicting eps on the linear schedule of 1000 steps, gradients clipped to norm 1, with an average
of the weights. Sampling, evaluation and checkpoints are off. What differs is what one gets by choosing a tool:

ours                      training.loop.fit with Batches: uint8 images in the device's memory, noise of the preset
                          `digits`, fused AdamW, channels last, weights averaged at every step, a record every 20.
denoising-diffusion-      Its Trainer and GaussianDiffusion, at their defaults but for these: pred_noise and the linear
pytorch                   schedule (its pred_v and sigmoid cost the same), bf16 and not fp16 as mixed precision, no
                          flips (we have none), FID off. So: PNG files through a DataLoader with a worker a core and
                          pinned memory, Adam, weights averaged every 10 steps, the loss read at every step, a bar
                          (drawn into the void). An adapter passes it the U-Net. It refuses batches under 16.
diffusers example         Written in the manner of diffusers' examples/unconditional_image_generation:
                          Accelerator.prepare, add_noise, mse_loss, clip_grad_norm_, AdamW, a cosine rate,
                          EMAModel.step and a look at the loss at every step; the script's defaults, but for the same
                          PNG files read by torchvision's ImageFolder (there: the package datasets), no flips, no bar,
                          and a worker a core with pinned memory (there: none, which is slower).
diffusers example,        The same loop on uint8 images in the device's memory: what is left of a difference when the
images in memory          reading of files is not counted.

The workers of a DataLoader read ahead, up to two batches a worker, also while others are timed. So as not to give
these batches away, `--warmup` is two steps a core; with less, the peers that read files are flattered. The images are
10,000 (the least denoising-diffusion-pytorch recommends; 50,000 for cifar10), rounded up to whole batches, so that
workers start as seldom as in real trainings. glibc is told to keep freed memory, as our commands do, which serves all.

FLOPs are those of torch.utils.flop_counter, forward and backward, attention included (a product and a sum are 2); the
utilisation on CUDA is against the dense peak of the tensor cores in bf16, or TF32 where the precision is fp32.
"""

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from noise import seconds
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from trainers import PEERS, Case, Contestant, NoiseAlone, Ours

from sagd_cli.config.filter import FilterConfig
from sagd_cli.system.devices import choose_device, keep_freed_memory

NOISES = {
    "white": FilterConfig(type="white"),
    "powerlaw": FilterConfig(type="powerlaw"),
    "lowpass": FilterConfig(type="lowpass"),
}
IMAGES = {"digits": 10_000, "cifar10": 50_000}
BATCH = {("digits", "cpu"): 128, ("digits", "cuda"): 128, ("cifar10", "cpu"): 16, ("cifar10", "cuda"): 128}
PACKAGES = ("sagd", "torch", "torchvision", "diffusers", "numpy", "accelerate", "denoising-diffusion-pytorch")
MEMORY_STEPS, MEMORY_REPEATS = 5, 3
# Dense TFLOP/s of the tensor cores by part of the device's name, from NVIDIA's data sheets; TF32 for fp32.
PEAK_TFLOPS = {
    "H200": {"bf16": 989.5, "fp32": 494.7},
    "H100 80GB HBM3": {"bf16": 989.5, "fp32": 494.7},
    "A100": {"bf16": 312.0, "fp32": 156.0},
}

PARTS = ("memory", "noise", "throughput")

Seconds = dict[str, list[float]]


def race(contestants: dict[str, Contestant], options: argparse.Namespace, device: torch.device) -> Seconds:
    """Let all take turns; return the seconds a step of each in each block."""
    names, times = list(contestants), {name: [] for name in contestants}  # type: tuple[list[str], Seconds]
    for block in range(options.blocks):
        for i in range(len(names)):
            name = names[(block + i) % len(names)]
            contestant = contestants[name]
            seconds(lambda: contestant.run(options.warmup), device)  # noqa: B023  called at once
            taken = seconds(lambda: contestant.run(options.steps), device)  # noqa: B023
            times[name].append(taken / options.steps)
        print(f"block {block + 1} of {options.blocks}", file=sys.stderr, flush=True)
    return times


def spread(values: list[float]) -> dict[str, float]:
    """The median of values, with the least and the largest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def combined(rule: Callable[..., float], *times: list[float]) -> dict[str, float]:
    """A figure of each block, made of the times in that block."""
    return spread([rule(*block) for block in zip(*times, strict=True)])


def noise_share(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """Time our steps on each noise, and the work of the noise alone."""
    steps: dict[str, Contestant] = {f"step {name}": Ours(case, noise) for name, noise in NOISES.items()}
    alone: dict[str, Contestant] = {
        f"alone {name}": NoiseAlone(case, noise) for name, noise in NOISES.items()
    }
    times = race(steps | alone, options, case.device)
    found: dict[str, Any] = {"seconds": times}
    for name in NOISES:
        step, work, white = times[f"step {name}"], times[f"alone {name}"], times["alone white"]
        found[name] = {
            "step_ms": combined(lambda s: 1e3 * s, step),
            "alone_ms": combined(lambda w: 1e3 * w, work),
            "share": combined(lambda w, s: w / s, work, step),
            "added": combined(lambda w, plain, s: (w - plain) / s, work, white, step),
            "step_over_white": combined(lambda s, plain: s / plain, step, times["step white"]),
        }
        print(
            "{name:>10}  step {step_ms[median]:9.3f} ms  noise {alone_ms[median]:8.4f} ms  share {share[median]:7.3%}"
            "  [{share[min]:.3%}, {share[max]:.3%}]  added {added[median]:7.3%}".format(
                name=name, **found[name]
            )
        )
    return found


def peak_memory(case: Case, noise: FilterConfig) -> tuple[float, float]:
    """MiB before and at the peak of a few steps, in a process that does nothing else."""
    device = case.device
    if device.type == "cuda":
        Ours(case, noise).run(MEMORY_STEPS)
        return 0.0, torch.cuda.max_memory_allocated(device) / 2**20
    keep_freed_memory()
    before = _resident("VmRSS")
    Ours(case, noise).run(MEMORY_STEPS)
    return before, _resident("VmHWM")


def _resident(key: str) -> float:
    """MiB resident, now (VmRSS) or at the peak (VmHWM). getrusage would report the parent's peak if that is larger."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{key}:"))


def memory(case: Case) -> dict[str, Any]:
    """Peak memory of training on each noise, each in child processes, in turn."""
    fresh = multiprocessing.get_context("spawn")
    peaks: dict[str, list[tuple[float, float]]] = {name: [] for name in NOISES}
    with ProcessPoolExecutor(1, mp_context=fresh, max_tasks_per_child=1) as pool:
        for _ in range(MEMORY_REPEATS):
            for name, noise in NOISES.items():
                peaks[name].append(pool.submit(peak_memory, case, noise).result())
    found: dict[str, Any] = {}
    plain = statistics.median(peak for _, peak in peaks["white"])
    for name, measured in peaks.items():
        before, peak = (statistics.median(values) for values in zip(*measured, strict=True))
        found[name] = {"before_and_peak_mib": measured, "over_white": peak / plain - 1}
        print(
            f"{name:>10}  peak {peak:8.1f} MiB, {before:6.1f} before  over white noise {peak / plain - 1:+.2%}"
        )
    return found


def throughput(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """Time our loop and the peers that are installed."""
    others = {f"ours, {one}": replace(case, precision=one) for one in options.precision[:-1]}
    ours = {name: Ours(each, NOISES["powerlaw"]) for name, each in {"ours": case, **others}.items()}
    contestants: dict[str, Contestant] = {**ours}
    with tempfile.TemporaryDirectory() as folder:
        case.write_images(Path(folder))
        for name, build in PEERS.items():
            try:
                contestants[name] = build(case, Path(folder))
            except ModuleNotFoundError as missing:
                print(f"{name}: skipped, {missing.name} is not installed; pip install -e '.[bench]'")
        times = race(contestants, options, case.device)
        contestants.clear()  # and with them the workers that read the folder
    flops = flops_per_image(case)
    found: dict[str, Any] = {"gflops_per_image": flops / 1e9}
    for name, steps in times.items():
        rate = [case.batch_size / step for step in steps]
        ratio = combined(lambda mine, theirs: theirs / mine, times["ours"], steps)
        median = statistics.median(rate)
        peak = peak_flops(others.get(name, case), options)
        use = None if peak is None else flops * median / peak
        found[name] = {
            "images_per_second": rate,
            "median": median,
            "ours_over_it": ratio,
            "peak_tflops": peak and peak / 1e12,
            "utilisation": use,
        }
        print(
            f"{name:>38}  {median:9.1f} img/s  ours is {ratio['median']:.2f} times as fast"
            f"  [{ratio['min']:.2f}, {ratio['max']:.2f}]",
            "" if use is None else f" {use:.1%} of peak",
        )
    return found


def flops_per_image(case: Case) -> float:
    """FLOPs of the network, forward and backward, for one image."""
    network, images = case.network().to(case.device), 2
    x, times = torch.zeros(images, *case.shape, device=case.device), torch.zeros(images, device=case.device)
    # As plain products of matrices, the one form of attention that is counted on every device.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(x, times).sample.sum().backward()
    return float(counter.get_total_flops()) / images


def peak_flops(case: Case, options: argparse.Namespace) -> float | None:
    """FLOP/s of the device at its best; None for one that is not in the table."""
    if options.peak_tflops is not None:
        return 1e12 * float(options.peak_tflops)
    if case.device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(case.device)
    return next((1e12 * peaks[case.precision] for part, peaks in PEAK_TFLOPS.items() if part in name), None)


def about(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """The machine, the versions and the settings."""
    cuda = case.device.type == "cuda"
    return {
        "date": date.today().isoformat(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(case.device) if cuda else "cpu",
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "settings": {
            "case": case.name,
            "precision": options.precision,
            "batch_size": case.batch_size,
            "images": case.count,
            **{name: getattr(options, name) for name in ("steps", "warmup", "blocks")},
        },
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="What training costs; see the top of this file.")
    parser.add_argument("--case", choices=IMAGES, default="digits")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--precision", default="fp32", help="fp32, bf16, or both joined by a comma")
    parser.add_argument("--batch-size", type=int, help="128; 16 for cifar10 on a CPU")
    parser.add_argument("--steps", type=int, default=20, help="timed steps a block")
    parser.add_argument("--warmup", type=int, default=2 * (os.cpu_count() or 1), help="untimed steps a block")
    parser.add_argument("--blocks", type=int, default=7)
    parser.add_argument("--parts", default=",".join(PARTS), help="some of them, joined by commas")
    parser.add_argument("--peak-tflops", type=float, help="the device's best, where the table has it not")
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    options = parser.parse_args()
    options.parts, options.precision = options.parts.split(","), options.precision.split(",")
    if not set(options.parts) <= set(PARTS):
        parser.error(f"--parts takes {', '.join(PARTS)}")
    if not set(options.precision) <= {"fp32", "bf16"}:
        parser.error("--precision takes fp32 and bf16")
    if min(options.steps, options.blocks, options.batch_size or 1) < 1 or options.warmup < 0:
        parser.error("--steps, --blocks and --batch-size are at least 1, --warmup at least 0")
    return options


def main() -> None:
    """Print the figures, and write JSON where --output says."""
    options = parse()
    device = choose_device(options.device)
    batch = options.batch_size or BATCH[options.case, device.type]
    case = Case(
        options.case, batch, options.precision[-1], device.type, -(-IMAGES[options.case] // batch) * batch
    )
    warnings.filterwarnings("ignore", message=".*pin_memory.*")
    result = about(case, options)
    print(json.dumps(result["settings"]), result["device"])
    if "memory" in options.parts and (device.type == "cuda" or Path("/proc/self/status").exists()):
        result["memory"] = memory(case)
    elif "memory" in options.parts:
        print("memory: skipped, this system has no /proc/self/status")
    if device.type == "cpu":
        keep_freed_memory()  # as the commands do
        os.environ["ACCELERATE_USE_CPU"] = "true"
    if "noise" in options.parts:
        result["noise"] = noise_share(case, options)
    if "throughput" in options.parts:
        result["throughput"] = throughput(case, options)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
