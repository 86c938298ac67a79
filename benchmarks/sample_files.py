"""How fast samples are written: `python benchmarks/sample_files.py [IMAGES]` prints images a second and their ratio.

Both ways write the same 32x32 colour images to new folders beside each other, in turns. One is what `sagd sample` does:
batches of 250, by its threads, each file whole or not at all, its checksum in a journal, the folder flushed at the end.
The other is what other commands do: file by file, each flushed to the disk before it gets its name.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sagd_cli.datasets.writing import write_drawable
from sagd_cli.sampling.generator import seed_batches
from sagd_cli.sampling.sample_folder import SampleFolder
from sagd_cli.sampling.samples import WRITERS

BATCH, ROUNDS = 250, 3


def images(count: int) -> NDArray[np.uint8]:
    """Return smooth images with some noise, which compress about as samples do."""
    random = np.random.default_rng(0)
    coarse = random.integers(40, 216, (count, 3, 5, 5)).repeat(7, axis=2).repeat(7, axis=3)[..., :32, :32]
    return (coarse + random.integers(-12, 13, coarse.shape)).astype(np.uint8)


def batched(folder: Path, pixels: NDArray[Any]) -> None:
    """Write as `sagd sample` does."""
    place = SampleFolder(folder, "png", range(len(pixels)), {})
    parts = place.begin(seed_batches(place.seeds, BATCH), force=False)
    with place.writing("0-0") as writer, ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(lambda part: writer.write(part, pixels[part.start : part.stop]), parts))
    assert place.finish({}) == 0


def one_by_one(folder: Path, pixels: NDArray[Any]) -> None:
    """Write as other commands do."""
    folder.mkdir()
    for index, image in enumerate(pixels):
        write_drawable(image, folder / f"{index:06d}.png")


def rates(count: int) -> Iterator[tuple[float, float]]:
    """Yield images a second of both, round by round."""
    pixels = images(count)

    def rate(write: Callable[[Path, NDArray[Any]], None], folder: Path) -> float:
        begun = time.perf_counter()
        write(folder, pixels)
        return count / (time.perf_counter() - begun)

    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as place:
            yield rate(batched, Path(place) / "batched"), rate(one_by_one, Path(place) / "one-by-one")


def main() -> None:
    """Print a line for each round, and the median ratio."""
    count, ratios = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000, []
    for fast, slow in rates(count):
        ratios.append(fast / slow)
        print(
            f"{count} images: {fast:,.0f} a second in batches, {slow:,.0f} one by one: {ratios[-1]:.1f}x",
            flush=True,
        )
    print(f"median {median(ratios):.1f}x")


if __name__ == "__main__":
    main()
