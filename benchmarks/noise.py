"""What shaping the noise costs: the time of a shaped draw over that of a plain white one, in one process.

python benchmarks/noise.py [--device cpu] [--output benchmarks/results/noise.json]
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch

from sagd_cli.config.filter import FilterConfig
from sagd_cli.spectral.noise import SpectralNoise
from sagd_cli.system.devices import choose_device, keep_freed_memory

SHAPES = ((128, 3, 32, 32), (16, 3, 256, 256))
REPEATS = 20


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Time one call, the device's queue included."""
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def compare(shape: tuple[int, ...], device: torch.device) -> dict[str, object]:
    """Time white and shaped draws in turn, so that a busy machine slows both."""
    noise = SpectralNoise(FilterConfig(type="powerlaw").weights(shape[2:]), device)
    generator = torch.Generator(device).manual_seed(0)

    def white() -> object:
        return torch.randn(shape, generator=generator, device=device)

    def shaped() -> object:
        return noise.draw(shape, generator)

    for _ in range(3):
        seconds(white, device), seconds(shaped, device)
    pairs = [(seconds(white, device), seconds(shaped, device)) for _ in range(REPEATS)]
    plain, drawn = (statistics.median(times) for times in zip(*pairs, strict=True))
    return {"shape": shape, "white_ms": 1e3 * plain, "shaped_ms": 1e3 * drawn, "ratio": drawn / plain}


def main() -> None:
    """Print a table, and write JSON where --output says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    device = choose_device(options.device)
    if device.type == "cpu":
        keep_freed_memory()  # as the commands do
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    rows = [compare(shape, device) for shape in SHAPES]
    for row in rows:
        print(
            "{shape!s:>20}  white {white_ms:8.3f} ms  shaped {shaped_ms:8.3f} ms  ratio {ratio:.2f}".format(
                **row
            )
        )
    about = {
        "device": f"{device.type} {name}",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    if options.output:
        result = {"date": date.today().isoformat(), **about, "repeats": REPEATS, "draws": rows}
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
