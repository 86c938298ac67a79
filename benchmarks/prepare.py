"""How fast JPEG files become an array: `python benchmarks/prepare.py [FOLDER] [SIDE]` prints images a second.

Both ways write the same folder of JPEG files to new arrays of squares (64 of side if not said), in turns. One is
`sagd data prepare --size SIDE`: its threads (`OMP_NUM_THREADS`) decode files no larger than needed. The other is one
thread that decodes each file whole and resizes it once. Without FOLDER, 400 pictures of 500x375 at quality 90 are made,
which compress about as photographs do.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np
from numpy.lib import format as npy
from PIL import Image

from sagd_cli.config.arguments import as_pictures, parse_dataset
from sagd_cli.data.folders import images_by_class
from sagd_cli.data.images import read_image
from sagd_cli.datasets.writing import write_dataset
from sagd_cli.files.squares import resized_square
from sagd_cli.system.console import Output
from sagd_cli.system.threads import thread_count

COUNT, ROUNDS, SIDE = 400, 3, 64


def make_pictures(folder: Path, count: int) -> None:
    """Write JPEG files of 500x375, smooth with some noise, in ten folders."""
    random = np.random.default_rng(0)
    for index in range(count):
        place = folder / f"class{index % 10}"
        place.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(random.integers(40, 216, (24, 32, 3), dtype=np.uint8))
        pixels = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC), np.int16)
        noisy = (pixels + random.integers(-12, 13, pixels.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(place / f"{index:05d}.JPEG", quality=90)


def prepared(folder: Path, target: Path, side: int) -> None:
    """Write as `sagd data prepare` does."""
    config = as_pictures(parse_dataset(str(folder)), size=side, mode="rgb")
    write_dataset(config, target, False, Output(quiet=True))


def one_by_one(folder: Path, target: Path, side: int) -> None:
    """Decode each file whole, in one thread."""
    paths = [path for paths in images_by_class(folder).values() for path in paths]
    array = npy.open_memmap(target, "w+", np.uint8, (len(paths), 3, side, side))
    for place, path in enumerate(paths):
        samples = np.moveaxis(read_image(path).pixels, 0, 2)
        array[place] = np.moveaxis(resized_square(samples, side), 2, 0)
    array.flush()


def rates(folder: Path, side: int, rounds: int = ROUNDS) -> Iterator[tuple[float, float]]:
    """Yield images a second of both, round by round."""
    count = sum(map(len, images_by_class(folder).values()))

    def rate(write: Callable[[Path, Path, int], None], target: Path) -> float:
        begun = time.perf_counter()
        write(folder, target, side)
        return count / (time.perf_counter() - begun)

    for _ in range(rounds):
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as place:
            yield rate(prepared, Path(place) / "a.npy"), rate(one_by_one, Path(place) / "b.npy")


def main() -> None:
    """Print a line for each round, and the median ratio."""
    given = next((text for text in sys.argv[1:] if not text.isdecimal()), None)
    side, ratios = next((int(text) for text in sys.argv[1:] if text.isdecimal()), SIDE), []
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as made:
        folder = Path(given or made)
        if given is None:
            make_pictures(folder, COUNT)
        for fast, slow in rates(folder, side):
            ratios.append(fast / slow)
            print(
                f"{side}x{side}: {fast:,.0f} a second with {thread_count()} thread(s), {slow:,.0f} whole in one: "
                f"{ratios[-1]:.1f}x",
                flush=True,
            )
    print(f"median {median(ratios):.1f}x")


if __name__ == "__main__":
    main()
