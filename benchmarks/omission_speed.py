"""How long the whole command `sagd omit` takes, how much memory, and what it gains, as its users run it.

python benchmarks/omission_speed.py --photographs FOLDER [--cases grey-512 rgb-12mp]
    [--damage "--band high --strength 0.2"] [--restore "--noise high --strength 0.2"] [--output FILE]

Photographs of FOLDER, PNG files, are cut to the shape of the case and brought to its size, damaged by `sagd corrupt`
with the arguments --damage (32-bit float TIFF, or bytes with `--clip`), and restored by `sagd omit` with --restore. The
case `start` is so small that it shows what the command costs before its work. Prints JSON: seconds on the clock, CPU
seconds of the command and its children, the peak of the resident set (GiB, of the largest process), and the median
PSNR in dB before and after. How many threads there are is the environment's choice.
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
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from sagd_cli.data.folders import list_images
from sagd_cli.data.images import read_image
from sagd_cli.restoration.quality import psnr

DAMAGE, RESTORE = "--band high --strength 0.2", "--noise high --strength 0.2"
GIB = 2**30 if sys.platform == "darwin" else 2**20  # in the units of ru_maxrss


@dataclass(frozen=True)
class Images:
    """How many images of which mode and size (width, height) a command is given."""

    count: int
    mode: str
    size: tuple[int, int]

    def write(self, photographs: Path, folder: Path) -> None:
        """Write them as PNG files; each photograph serves once."""
        folder.mkdir()
        found = sorted(photographs.glob("*.png"))[: self.count]
        if len(found) < self.count:
            raise SystemExit(f"{photographs} holds {len(found)} PNG files; {self.count} are needed")
        for path in found:
            image = Image.open(path).convert(self.mode)
            ImageOps.fit(image, self.size, Image.Resampling.BICUBIC).save(folder / path.name)


CASES = {
    "start": Images(1, "L", (64, 64)),
    "grey-512": Images(1, "L", (512, 512)),
    "rgb-12mp": Images(1, "RGB", (4000, 3000)),
    "rgb-folder": Images(6, "RGB", (768, 512)),
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
    pairs = zip(list_images(folder), list_images(clean), strict=True)
    return round(
        statistics.median(psnr(read_image(path).signal, read_image(truth).signal) for path, truth in pairs), 2
    )


def measured(images: Images, photographs: Path, damage: str, restore: str) -> dict[str, Any]:
    """The figures of `sagd omit` on one case."""
    with tempfile.TemporaryDirectory() as name:
        clean, damaged, restored = (Path(name) / part for part in ("clean", "damaged", "restored"))
        images.write(photographs, clean)
        sagd("corrupt", clean, *shlex.split(damage), "--output", damaged, "--quiet")
        figures = sagd("omit", damaged, *shlex.split(restore), "--output", restored)
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
        cases[name] = measured(CASES[name], options.photographs, options.damage, options.restore)
        print(name, json.dumps(cases[name]), file=sys.stderr, flush=True)
    text = json.dumps({"about": about, "cases": cases}, indent=1)
    print(text)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
