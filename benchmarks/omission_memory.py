"""How much memory `sagd omit` needs for one large photograph, and for folders of ever more small images.

python benchmarks/omission_memory.py [--model RUN] [--size 4000x3000] [--band mid] [--only folders]

A photograph of scikit-image is enlarged to the size, damaged and restored in each way that does not depend on other
images; `model` is run when a RUN of `sagd train --restore` for that band is given. The folders hold 500 and
5,000 images of 32 x 32 pixels. Peaks are the resident set of the whole command, Python and PyTorch included;
training is cut to a few steps, which does not change them. Folders are restored without training.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

STEPS = 5
FOLDERS, SIDE = (500, 5000), 32


def peak(*arguments: object) -> str:
    """The peak memory and the time of a command of sagd, as cells of a table."""
    begin = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-m", "sagd_cli", *map(str, arguments), "--quiet"], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"sagd {' '.join(map(str, arguments))} failed")
    unit = 2**30 if sys.platform == "darwin" else 2**20
    return f"{usage.ru_maxrss / unit:.2f} | {time.perf_counter() - begin:.0f}"


def size_of(text: str) -> tuple[int, int]:
    """Read WIDTHxHEIGHT."""
    width, height = text.split("x")
    return int(width), int(height)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, metavar="RUN", help="a model to restore with")
    parser.add_argument("--size", type=size_of, default=(4000, 3000), help="pixels of the photograph")
    parser.add_argument("--band", default="mid", help="the band that is damaged")
    parser.add_argument("--only", help="one row: notch, wiener, mean (an hour), model or folders")
    options = parser.parse_args()
    print("| images | estimate | peak, GiB | s |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clean, damaged, output = folder / "clean.png", folder / "damaged", folder / "restored"
        Image.fromarray(skimage.data.coffee()).resize(options.size, Image.Resampling.BICUBIC).save(clean)
        peak("corrupt", clean, "--band", options.band, "--strength", 0.2, "--clip", "--output", damaged)
        ways: dict[str, tuple[object, ...]] = {
            "notch": ("--estimate", "notch"),
            "wiener": ("--estimate", "wiener"),
            "mean": ("--steps", STEPS),
        }
        if options.model is not None:
            ways["model"] = ("--model", options.model)
        shown = "x".join(map(str, options.size))
        for way, extra in ways.items():
            if options.only not in (None, way):
                continue
            cells = peak("omit", damaged, "--band", options.band, "--output", output, "--force", *extra)
            print(f"| one RGB photograph, {shown} | {way} | {cells} |", flush=True)
        noise = np.random.default_rng(0)
        for count in FOLDERS if options.only in (None, "folders") else ():
            small = folder / f"{count}"
            small.mkdir()
            for index in range(count):
                pixels = noise.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
                Image.fromarray(pixels).save(small / f"{index}.png")
            arguments = ("--band", "high", "--estimate", "wiener", "--output", folder / f"{count}-out")
            print(f"| {count:,} of {SIDE}x{SIDE} | wiener | {peak('omit', small, *arguments)} |", flush=True)


if __name__ == "__main__":
    main()
