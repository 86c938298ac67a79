"""How good `sagd omit` is: the PSNR of folders that `sagd corrupt` damaged, beside what else one could do.

python benchmarks/omission.py [--cases digits-high-0.5,mnist-mid-1] [--methods corrupted,removed,wiener]
    [--model RUN] [--steps N] [--output benchmarks/results/omission.json]
python benchmarks/omission.py --photographs DIR

The results file is added to: each case and method keeps its last measurement, and the table shows all of them, as the
median over files and (the mean). PSNR is on the range [-1, 1], estimates clipped to it; so are strengths, and
noise of 0.1 on [0, 1] is 0.2.

digits     the 297 held-out digits, 8x8; the reference are the 1,500 others
mnist      the first 200 test images, 28x28; the reference are the first 10,000 training images
kodak      the photographs of the Kodak suite in $SAGD_DATA/kodak, as grey (Rec. 601 luma), the central 256x256
           pixels; the reference are other photographs: those of scikit-image and scikit-learn, which --photographs
           writes to a folder, to train a RUN on

corrupted  the damaged files themselves: 32-bit float TIFF, so that no value is clipped
removed    `sagd omit --estimate notch`
wiener     the Wiener filter in the band, m + F^-1 S / (S + gamma^2) F (y - m): m is the mean of the clean images that
           are to be found, S = E|F (x - m)|^2 / N at each frequency, DC included. No user knows either
bm3d       BM3D for coloured noise, given the true spectrum of the noise (Makinen, Azzari & Foi, IEEE Trans. Image
           Processing 2020): on Kodak, when the package bm3d is installed (extra `bench`; non-commercial licence)
reference  `sagd omit --reference` with the clean images above
self       `sagd omit`, which learns from the damaged images alone
told       the same with `--strength`, for bands whose noise the images alone do not show for certain
model      `sagd omit --model RUN --strength F`, when RUN is given

`omit` is run as its users run it, with the strength that it estimates; seconds are those of the whole command.
"""

import argparse
import importlib.util
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sagd_plugins.datasets._roots import default_root

from sagd_cli.config.arguments import parse_dataset
from sagd_cli.data.folders import list_images
from sagd_cli.data.images import read_image, write_array
from sagd_cli.datasets.loading import load_images
from sagd_cli.restoration.quality import psnr
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.spectrum import power_spectrum

MNIST_TESTED, MNIST_REFERENCE, KODAK_SIDE = 200, 10_000, 256
PHOTOGRAPHS = (
    "astronaut",
    "brick",
    "camera",
    "chelsea",
    "clock",
    "coffee",
    "coins",
    "grass",
    "gravel",
    "hubble_deep_field",
    "moon",
    "rocket",
    "retina",
    "immunohistochemistry",
)
PACKAGES = ("sagd", "torch", "numpy", "scipy", "bm3d")

Signals = list[NDArray[np.float32]]


@dataclass(frozen=True)
class Case:
    """Images, and the band and the amplitude (range [-1, 1]) of the noise that was added to them."""

    images: str
    band: str
    strength: float

    def __str__(self) -> str:
        """The name of the case."""
        return f"{self.images}-{self.band}-{self.strength:g}"


CASES = [
    *(Case("digits", band, gamma) for band, gamma in (("high", 0.5), ("high", 1.0), ("mid", 0.5))),
    *(Case("mnist", band, gamma) for band in ("low", "mid", "high") for gamma in (0.5, 1.0)),
    *(Case("kodak", band, gamma) for band in ("low", "mid", "high") for gamma in (0.2, 0.5)),
]


@dataclass(frozen=True)
class Bench:
    """A case whose files lie in `folder`, as `clean` and `damaged`, and what `omit` is told."""

    case: Case
    folder: Path
    steps: int | None
    model: Path | None

    @property
    def clean(self) -> Signals:
        """The images to be found, in the order of their names."""
        return signals_in(self.folder / "clean")

    @property
    def damaged(self) -> Signals:
        """The damaged images, in the order of their names."""
        return signals_in(self.folder / "damaged")

    def noise_spectrum(self) -> tuple[FrequencyGrid, NDArray[np.float64]]:
        """The power of the noise at each frequency of the half spectrum of these images."""
        grid = FrequencyGrid(self.clean[0].shape[1:])
        return grid, self.case.strength**2 * Band.parse(self.case.band).mask(grid)

    def omit(self, *options: object) -> Signals:
        """What `sagd omit` makes of the damaged images."""
        damaged, restored = self.folder / "damaged", self.folder / "restored"
        sagd("omit", damaged, "--band", self.case.band, "--output", restored, "--force", *options)
        return signals_in(restored)

    def learn(self, *options: object) -> Signals:
        """What it makes of them when it has to be trained first."""
        return self.omit(*options, *(() if self.steps is None else ("--steps", self.steps)))


def sagd(*arguments: object) -> None:
    """Run a command as a user does."""
    command = [sys.executable, "-m", "sagd_cli", *map(str, arguments), "--quiet"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def signals_in(folder: Path) -> Signals:
    """The images of a folder on the [-1, 1] range, in the order of their names."""
    return [read_image(path).signal for path in list_images(folder)]


def corrupted(bench: Bench) -> Signals:
    """The damaged images as they are."""
    return bench.damaged


def removed(bench: Bench) -> Signals:
    """The damaged images without the band."""
    return bench.omit("--estimate", "notch")


def wiener(bench: Bench) -> Signals:
    """The best affine estimate of images of the true mean and the true power about it."""
    grid, noise = bench.noise_spectrum()
    clean = np.stack(bench.clean)
    mean = clean.mean(axis=0)
    power = power_spectrum(clean - mean, grid)
    spectrum = np.fft.rfftn(np.stack(bench.damaged) - mean, axes=(2, 3)) * power / (power + noise)
    return list(mean + np.fft.irfftn(spectrum, grid.shape, axes=(2, 3)))


def bm3d(bench: Bench) -> Signals:
    """BM3D on [0, 1], told E|F noise|^2, not divided by the number of pixels, for the whole spectrum."""
    from bm3d import bm3d as denoise

    grid, noise = bench.noise_spectrum()
    psd = grid.full(noise) * grid.size / 4
    # bm4d 4.2.5, its engine, asks for a name that NumPy 2.4 has dropped.
    with patch.object(np, "trapz", np.trapezoid, create=True):
        return [2 * denoise((y[0] + 1.0) / 2, psd)[None] - 1 for y in bench.damaged]


def reference(bench: Bench) -> Signals:
    """`sagd omit` with clean images of the same kind."""
    return bench.learn("--reference", reference_of(bench.case.images, bench.folder))


def self_supervised(bench: Bench) -> Signals:
    """`sagd omit` with nothing else."""
    return bench.learn()


def told(bench: Bench) -> Signals:
    """`sagd omit` with nothing else but the strength of the noise."""
    return bench.learn("--strength", bench.case.strength)


def model(bench: Bench) -> Signals:
    """`sagd omit` with a trained model, told the strength as BM3D is."""
    return bench.omit("--model", bench.model, "--strength", bench.case.strength)


METHODS: dict[str, Callable[[Bench], Signals]] = {
    "corrupted": corrupted,
    "removed": removed,
    "wiener": wiener,
    "bm3d": bm3d,
    "reference": reference,
    "self": self_supervised,
    "told": told,
    "model": model,
}
LEARNING = ("reference", "self", "told")


def reason_to_skip(method: str, bench: Bench) -> str | None:
    """Why a method has nothing to say about a case."""
    if method == "model" and bench.model is None:
        return "no --model"
    if method == "bm3d" and bench.case.images != "kodak":
        return "for photographs only"
    if method == "bm3d" and importlib.util.find_spec("bm3d") is None:
        return "bm3d is not installed"
    return None


def write_images(images: Sequence[NDArray[np.uint8]], names: Sequence[str], folder: Path) -> None:
    """Write images (C, H, W) as PNG files of those names."""
    folder.mkdir(parents=True)
    for image, name in zip(images, names, strict=True):
        write_array(image, folder / f"{name}.png")


def write_clean(images: str, folder: Path) -> None:
    """Write the images that a case is about."""
    if images == "kodak":
        paths = list_images(default_root() / "kodak")
        crops = [central(grey(np.asarray(Image.open(path)))) for path in paths]
        return write_images(crops, [path.stem for path in paths], folder)
    pixels = load_images(parse_dataset(f"{images}:test")).images
    pixels = pixels[:MNIST_TESTED] if images == "mnist" else pixels
    return write_images(pixels, [f"{index:04d}" for index in range(len(pixels))], folder)


def central(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The middle of an image (1, H, W)."""
    top, left = ((side - KODAK_SIDE) // 2 for side in image.shape[1:])
    return image[:, top : top + KODAK_SIDE, left : left + KODAK_SIDE]


def grey(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The luma (1, H, W) of a grey or RGB image, Rec. 601."""
    return np.asarray(Image.fromarray(pixels).convert("L"))[None]


def write_photographs(folder: Path) -> None:
    """Write the photographs of scikit-image and scikit-learn as grey PNG files, each of its own size."""
    import skimage.data
    from sklearn.datasets import load_sample_images

    found = {name: getattr(skimage.data, name)() for name in PHOTOGRAPHS}
    samples = load_sample_images()
    found |= {Path(path).stem: image for path, image in zip(samples.filenames, samples.images, strict=True)}
    write_images([grey(pixels) for pixels in found.values()], list(found), folder)


def reference_of(images: str, folder: Path) -> str:
    """The DATA of clean images of the same kind, written to `folder` where it needs to be."""
    if images == "digits":
        return "digits"
    if images == "kodak":
        write_photographs(folder / "photographs")
        return str(folder / "photographs")
    np.save(folder / "reference.npy", load_images(parse_dataset("mnist")).images[:MNIST_REFERENCE])
    return str(folder / "reference.npy")


def measure(method: str, bench: Bench) -> dict[str, Any]:
    """The figures of a method on a case, and what they were measured with."""
    begin = time.perf_counter()
    estimates = METHODS[method](bench)
    seconds = time.perf_counter() - begin
    found = [psnr(estimate, truth) for estimate, truth in zip(estimates, bench.clean, strict=True)]
    settings = {"steps": bench.steps} if method in LEARNING else {}
    return {
        "psnr_median": round(statistics.median(found), 3),
        "psnr_mean": round(statistics.mean(found), 3),
        "files": len(found),
        "seconds": round(seconds, 1),
        **settings,
        "date": date.today().isoformat(),
        "machine": platform.machine(),
        "versions": {package: found_version(package) for package in PACKAGES},
    }


def found_version(package: str) -> str | None:
    """The version of a package, None when it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def run(case: Case, methods: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """Make the files of a case and measure methods on them."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(case, Path(name), options.steps, options.model)
        write_clean(case.images, bench.folder / "clean")
        damage = ("--band", case.band, "--strength", case.strength)
        sagd("corrupt", bench.folder / "clean", *damage, "--output", bench.folder / "damaged")
        for method in methods:
            reason = reason_to_skip(method, bench)
            if reason:
                note = f"skipped, {reason}"
            else:
                found[method] = measure(method, bench)
                note = f"{found[method]['psnr_median']:.2f} dB in {found[method]['seconds']:.0f} s"
            print(f"{case} {method}: {note}", file=sys.stderr, flush=True)
    return found


def shown(figures: dict[str, Any]) -> str:
    """The figures of a method on a case, for a cell of the table."""
    return f"{figures['psnr_median']:.1f} ({figures['psnr_mean']:.1f})"


def table(results: dict[str, dict[str, Any]]) -> str:
    """The PSNR of every case and method so far, as Markdown."""
    lines = ["| case | " + " | ".join(METHODS) + " |", "| --- |" + " --- |" * len(METHODS)]
    for case in map(str, CASES):
        found = results.get(case, {})
        cells = [shown(found[method]) if method in found else "" for method in METHODS]
        if found:
            lines.append(f"| {case} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def choice(names: Sequence[str]) -> Callable[[str], list[str]]:
    """A reader of names joined by commas."""

    def read(text: str) -> list[str]:
        unknown = set(text.split(",")) - set(names)
        if unknown:
            raise argparse.ArgumentTypeError(f"{sorted(unknown)} not among {', '.join(names)}")
        return text.split(",")

    return read


def main() -> None:
    """Print the table, and add the figures to the JSON file of --output."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cases = {str(case): case for case in CASES}
    parser.add_argument("--cases", type=choice([*cases]), default=[*cases], help=", ".join(cases))
    parser.add_argument("--methods", type=choice([*METHODS]), default=[*METHODS], help=", ".join(METHODS))
    parser.add_argument("--model", type=Path, metavar="RUN", help="a model for the method `model`")
    parser.add_argument("--steps", type=int, help="training steps of `reference` and `self`")
    parser.add_argument("--output", type=Path, help="results, added to those that are there")
    parser.add_argument("--photographs", type=Path, metavar="DIR", help="only write photographs to train on")
    options = parser.parse_args()
    if options.photographs:
        return write_photographs(options.photographs)
    kept = options.output and options.output.exists()
    results: dict[str, dict[str, Any]] = json.loads(options.output.read_text()) if kept else {}
    for name in options.cases:
        results.setdefault(name, {}).update(run(cases[name], options.methods, options))
        if options.output:
            options.output.parent.mkdir(parents=True, exist_ok=True)
            options.output.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
