"""How long the whole command `sagd omit` takes, how much memory, and what it gains, as its users run it.

python benchmarks/omission_speed.py --photographs FOLDER [--cases grey-512 rgb-12mp]
    [--damage "--band high --strength 0.2"] [--restore "--noise high --strength 0.2"] [--output FILE]

Photographs of FOLDER, PNG files, are cut to the shape of the case and brought to its size, damaged by `sagd corrupt`
with the arguments --damage (32-bit float TIFF, or bytes with `--clip`), and restored by `sagd omit` with --restore. The
case `start` is so small that it shows what the command costs before its work. `slices` are a folder of 16-bit images,
`stack` is the same as one ImageJ stack; photographs serve again there. Prints JSON: seconds on the clock, CPU seconds
of the command and its children, the peak of the resident set (GiB, of the largest process), and the median PSNR in dB
before and after; of slices and stacks also how many images a second on the clock, and of CPU time, are done beyond a
first one, which a command of its own restores. How many threads there are is the environment's choice: OMP_NUM_THREADS.

python benchmarks/omission_speed.py --photographs FOLDER --cases start slices stack
    --damage "--band stripe:horizontal,0,0 --strength 0.1 --clip"
    --restore "--noise stripe:horizontal,0,0 --estimate wiener"
"""

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tifffile
from PIL import Image, ImageOps

from sagd_cli.data.folders import list_images
from sagd_cli.data.images import images_in, read_image
from sagd_cli.restoration.quality import psnr

DAMAGE, RESTORE = "--band high --strength 0.2", "--noise high --strength 0.2"
GIB = 2**30 if sys.platform == "darwin" else 2**20  # in the units of ru_maxrss


@dataclass(frozen=True)
class Images:
    """How many images of which mode and size (width, height) a command is given; `slices`: files, or one stack."""

    count: int
    mode: str
    size: tuple[int, int]
    slices: Literal["files", "stack", None] = None

    def write(self, photographs: Path, folder: Path) -> None:
        """Write them as PNG files, each photograph once; or as slices of 16 bits, as TIFF files."""
        folder.mkdir()
        found = sorted(photographs.glob("*.png"))
        if not found or (len(found) < self.count and self.slices is None):
            raise SystemExit(f"{photographs} holds {len(found)} PNG files; {self.count} are needed")
        for path in found[: self.count] if self.slices is None else ():
            self._fitted(path).save(folder / path.name)
        if self.slices is None:
            return
        some = [np.asarray(self._fitted(path), np.uint16) * 257 for path in found[: self.count]]
        slices = np.stack([some[k % len(some)] for k in range(self.count)])
        if self.slices == "stack":
            tifffile.imwrite(folder / "stack.tif", slices, imagej=True)
            return
        for k, image in enumerate(slices):
            tifffile.imwrite(folder / f"{k:04d}.tif", image)

    def _fitted(self, path: Path) -> Image.Image:
        return ImageOps.fit(Image.open(path).convert(self.mode), self.size, Image.Resampling.BICUBIC)


CASES = {
    "start": Images(1, "L", (64, 64)),
    "grey-512": Images(1, "L", (512, 512)),
    "rgb-12mp": Images(1, "RGB", (4000, 3000)),
    "rgb-folder": Images(6, "RGB", (768, 512)),
    "slices": Images(300, "L", (512, 512), "files"),
    "stack": Images(300, "L", (512, 512), "stack"),
}


def sagd(*arguments: object) -> dict[str, float]:
    """Run a command, and return the time and the memory that it took."""
    begin = time.perf_counter()
    command = [sys.executable, "-m", "sagd_cli", *map(str, arguments)]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"sagd {' '.join(map(str, arguments))} failed")
    return {
        "seconds": round(time.perf_counter() - begin, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_gib": round(usage.ru_maxrss / GIB, 3),
    }


def median_psnr(folder: Path, clean: Path) -> float:
    """The median PSNR (dB) of the images of a folder."""
    places = ([place for path in list_images(each) for place in images_in(path)] for each in (folder, clean))
    found = [
        psnr(read_image(*one).signal, read_image(*true).signal) for one, true in zip(*places, strict=True)
    ]
    return round(statistics.median(found), 2)


def measured(images: Images, photographs: Path, damage: str, restore: str) -> dict[str, Any]:
    """The figures of `sagd omit` on one case."""
    with tempfile.TemporaryDirectory() as name:
        clean, damaged, restored = (Path(name) / part for part in ("clean", "damaged", "restored"))
        images.write(photographs, clean)
        sagd("corrupt", clean, *shlex.split(damage), "--output", damaged, "--quiet")
        figures: dict[str, Any] = sagd("omit", damaged, *shlex.split(restore), "--output", restored)
        if images.slices is not None:
            first, broken, alone = (Path(name) / f"{part}-first" for part in ("clean", "damaged", "restored"))
            replace(images, count=1, slices="files").write(photographs, first)
            sagd("corrupt", first, *shlex.split(damage), "--output", broken, "--quiet")
            one = sagd("omit", broken, *shlex.split(restore), "--output", alone)
            for unit in ("seconds", "cpu_seconds"):
                more = figures[unit] - one[unit]
                figures[f"images_per_{unit.removesuffix('s')}"] = round((images.count - 1) / more, 2)
        return {
            **figures,
            "psnr_before": median_psnr(damaged, clean),
            "psnr_after": median_psnr(restored, clean),
            "restore": restore,
            "damage": damage,
        }


def main() -> None:
    """Print the figures, and write them to --output."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photographs", type=Path, required=True, metavar="FOLDER", help="the PNG files")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=[*CASES], metavar="CASE")
    parser.add_argument("--damage", default=DAMAGE, metavar="ARGUMENTS", help=f"of sagd corrupt: {DAMAGE!r}")
    parser.add_argument("--restore", default=RESTORE, metavar="ARGUMENTS", help=f"of sagd omit: {RESTORE!r}")
    parser.add_argument("--output", type=Path, metavar="FILE", help="the JSON file")
    parser.add_argument(
        "--slices", type=int, default=300, metavar="N", help="the number of images of slices and stack"
    )
    options = parser.parse_args()
    about = {
        "date": date.today().isoformat(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "versions": {package: version(package) for package in ("sagd", "torch")},
    }
    cases = {}
    for name in options.cases:
        images = CASES[name]
        if images.slices is not None:
            images = replace(images, count=options.slices)
        cases[name] = measured(images, options.photographs, options.damage, options.restore)
        print(name, json.dumps(cases[name]), file=sys.stderr, flush=True)
    text = json.dumps({"about": about, "cases": cases}, indent=1)
    print(text)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
