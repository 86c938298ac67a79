"""How good the restorer is beside BM3D: the PSNR of photographs with noise of known power spectra.

python benchmarks/restorer.py --kodak FOLDER [--weights FILE] [--bm3d] [--cases high-0.2 rows-8] [--crops N]
    [--output benchmarks/results/restorer.json]

The photographs of the Kodak suite in FOLDER as grey (Rec. 601 luma) on [-1, 1], the central 256x256 pixels; the case
`whole-rows-8` takes the first four whole. Noise is drawn by the name of a photograph from one white field, is not
clipped, and leaves the mean of the image as it is. Every method is told its power spectrum N = E|F n|^2 / size.
PSNR is on the range [-1, 1], estimates clipped to it.

damaged      the photographs with noise
notch        what has no noise: where there are such frequencies
wiener       the Wiener filter of the image's spectrum, which is fitted to the damaged image: the restorer without its
             network
restorer     the restorer of the package, or of --weights
found        the same, told only the kind of noise: the program finds its strength
bm3d         BM3D for coloured noise (Makinen, Azzari & Foi, IEEE Trans. Image Processing 2020), with --bm3d
bm3d-streak  BM3D for streaks (Makinen, Marchesini & Foi, J. Synchrotron Rad. 2021), which finds their strength itself,
             on row offsets alone, with --bm3d

The results file is added to. The methods of BM3D take seconds to minutes an image (their licence is non-commercial):
photographs whose figures the file has, for the same damage, are not measured again. So a run can be stopped
at any time, and one without --bm3d shows them too.
"""

import argparse
import contextlib
import hashlib
import importlib.util
import io
import json
import platform
import statistics
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image

from sagd_cli.denoising.image_law import image_power
from sagd_cli.denoising.preconditioning import denoised
from sagd_cli.diffusion.prediction import Network
from sagd_cli.errors import DataError
from sagd_cli.library.arrays import Knowledge, restore
from sagd_cli.restoration.quality import psnr
from sagd_cli.restorer.restoring_model import PACKAGED, packaged_model, packed_model
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.grid import Array, FrequencyGrid

SEED, SIDE, WHOLE = 0, 256, 4
GREY_LEVEL = 2 / 255
OFFSET = 0.01  # cycles/sample: keeps power laws finite
PACKAGES = ("sagd", "torch", "numpy", "scipy", "bm3d", "bm3d-streak-removal")
PEER_MODULES = ("bm3d", "bm3d_streak_removal")
DAMAGED, RESTORER, FOUND = "damaged", "restorer", "found"

Spectrum = Callable[[FrequencyGrid], Array]
Method = Callable[[Array, Array], Array]
Figures = dict[str, float]  # dB, by the name of the photograph


@dataclass(frozen=True)
class Tone:
    """A sinusoid of an `amplitude` on [-1, 1] and of the frequency (y, x), in cycles/sample."""

    frequency: tuple[float, float]
    amplitude: float

    def place(self, grid: FrequencyGrid) -> tuple[int, int]:
        """The bin of the half spectrum that holds it."""
        y, x = (round(f * side) for f, side in zip(self.frequency, grid.shape, strict=True))
        return y % grid.shape[0], x

    def power(self, grid: FrequencyGrid) -> Array:
        """|F n|^2 / size of the sinusoid."""
        power = np.zeros(grid.half_shape)
        power[self.place(grid)] = self.amplitude**2 * grid.size / 4
        return power

    def field(self, grid: FrequencyGrid, phase: float) -> Array:
        """The sinusoid itself."""
        spectrum = np.zeros(grid.half_shape, complex)
        spectrum[self.place(grid)] = self.amplitude * grid.size / 2 * np.exp(1j * phase)
        return np.fft.irfft2(spectrum, grid.shape)


@dataclass(frozen=True)
class Case:
    """Noise that was added to photographs: Gaussian of a spectrum, and tones of random phase; its `kind` as --noise."""

    gaussian: Spectrum
    kind: str
    tones: tuple[Tone, ...] = ()
    is_streaks: bool = False
    is_whole: bool = False

    def power(self, grid: FrequencyGrid) -> Array:
        """The power of the noise on the half spectrum."""
        return sum((tone.power(grid) for tone in self.tones), self.gaussian(grid))

    def noise(self, grid: FrequencyGrid, name: str) -> Array:
        """The noise of the photograph `name`, the same at each call."""
        random = np.random.default_rng([SEED, zlib.crc32(name.encode())])
        white = np.fft.rfft2(random.standard_normal(grid.shape))
        gaussian = np.fft.irfft2(white * np.sqrt(self.gaussian(grid)), grid.shape)
        return sum((tone.field(grid, random.uniform(0, 2 * np.pi)) for tone in self.tones), gaussian)


def without_mean(power: Array) -> Array:
    """The power without that of DC."""
    return np.concatenate([np.zeros(1), power.ravel()[1:]]).reshape(power.shape)


def ring(band: str, gamma: float) -> Spectrum:
    """Noise of the amplitude gamma in a band."""
    return lambda grid: without_mean(gamma**2 * Band.parse(band).mask(grid))


def law(alpha: float, rms: float) -> Spectrum:
    """Noise of an amplitude (r + 0.01)^alpha with a standard deviation in grey levels."""

    def power(grid: FrequencyGrid) -> Array:
        shape = without_mean((grid.radius + OFFSET) ** (2 * alpha))
        return shape * (rms * GREY_LEVEL) ** 2 / grid.mean(shape)

    return power


def rows(deviation: float) -> Spectrum:
    """An offset for each row, of a standard deviation in grey levels."""

    def power(grid: FrequencyGrid) -> Array:
        axis = np.broadcast_to(grid.axes[1] == 0, grid.half_shape)
        return without_mean(axis * (deviation * GREY_LEVEL) ** 2 * grid.shape[1])

    return power


def added(*parts: Spectrum) -> Spectrum:
    """Independent noises at once."""
    return lambda grid: np.sum([part(grid) for part in parts], axis=0)


TONES = (Tone((40 / 256, 24 / 256), 10 * GREY_LEVEL), Tone((-16 / 256, 72 / 256), 10 * GREY_LEVEL))
ROWS = "stripe:horizontal,0,0"
CASES = {
    **{
        f"{band}-{gamma}": Case(ring(band, gamma), band)
        for band in ("low", "mid", "high")
        for gamma in (0.2, 0.5)
    },
    **{f"white-{level}": Case(law(0, level), "white") for level in (25, 50)},
    "pink-25": Case(law(-1, 25), "powerlaw:alpha=-1"),
    "blue-25": Case(law(0.5, 25), "powerlaw:alpha=0.5"),
    **{f"rows-{level}": Case(rows(level), ROWS, is_streaks=True) for level in (4, 8, 16)},
    "white-10+rows-8+tones-10": Case(
        added(law(0, 10), rows(8)),
        f"white+{ROWS}+"
        + "+".join(f"notch:{y:g},{x:g},0.001" for y, x in (tone.frequency for tone in TONES)),
        TONES,
    ),
    "whole-rows-8": Case(rows(8), ROWS, is_streaks=True, is_whole=True),
}


def notch(y: Array, noise: Array) -> Array:
    """The image without the frequencies that have noise."""
    return np.fft.irfft2(np.fft.rfft2(y) * (noise == 0), y.shape)


def silent(x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
    """A network that leaves the Wiener filter as it is."""
    return torch.zeros_like(x)


def estimated(network: Network, y: Array, noise: Array) -> Array:
    """What a restoring network makes of a grey image with noise of that power."""
    planes, power = torch.from_numpy(y)[None, None].float(), torch.from_numpy(noise)[None, None].float()
    with torch.inference_mode():
        image = image_power(planes, power)
        return denoised(network, planes, power, image, None).estimate[0, 0].double().numpy()


def of_kind(kind: str, y: Array) -> Array:
    """What the program makes of a grey image when it is told the kind of noise; the image where it finds none."""
    try:
        return restore(y[None, None].astype(np.float32), kind, known=Knowledge(range=(-1, 1)))[0, 0].astype(
            float
        )
    except DataError:
        return y


def bm3d(y: Array, noise: Array) -> Array:
    """BM3D on [0, 1], told E|F noise|^2, not divided by the number of pixels, for the whole spectrum."""
    from bm3d import BM3DProfile
    from bm3d import bm3d as denoise

    profile = BM3DProfile()
    profile.num_threads = 1  # others give other figures at each run
    grid = FrequencyGrid(y.shape)
    # bm4d 4.2.5, its engine, asks for a name that NumPy 2.4 has dropped.
    with patch.object(np, "trapz", np.trapezoid, create=True):
        return 2 * denoise((y + 1) / 2, grid.full(noise) * grid.size / 4, profile) - 1


def bm3d_streak(y: Array, noise: Array) -> Array:
    """BM3D for streaks of one strength in the whole image, along the first axis of what it is given."""
    import scipy.signal

    # bm3d-streak-removal 0.2.0 asks for a name that SciPy 1.13 has moved.
    with (
        patch.object(scipy.signal, "gaussian", scipy.signal.windows.gaussian, create=True),
        patch.object(np, "trapz", np.trapezoid, create=True),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        from bm3d_streak_removal import multiscale_streak_removal

        return multiscale_streak_removal(y.T, use_slices=False).T


PEERS: dict[str, Method] = {"bm3d": bm3d, "bm3d-streak": bm3d_streak}


def check_peers() -> None:
    """Say which packages of the peers are absent; they are no dependencies."""
    absent = [name for name in PEER_MODULES if importlib.util.find_spec(name) is None]
    if absent:
        packages = " ".join(absent).replace("_", "-")
        raise SystemExit(f"--bm3d needs packages that are not installed: pip install {packages}")


def has(method: str, case: Case, noise: Array) -> bool:
    """Whether a method has something to say about a case."""
    if method == "notch":
        return np.count_nonzero(noise == 0) > 1
    return case.is_streaks if method == "bm3d-streak" else True


def photographs(folder: Path) -> dict[str, Array]:
    """The photographs of a folder by their names, as grey signals."""
    found = {path.stem: Image.open(path).convert("L") for path in sorted(folder.glob("*.png"))}
    return {name: np.asarray(image, np.float64) / 127.5 - 1 for name, image in found.items()}


def central(image: Array) -> Array:
    """The middle of an image."""
    top, left = ((side - SIDE) // 2 for side in image.shape)
    return image[top : top + SIDE, left : left + SIDE]


def quality(estimate: Array, truth: Array) -> float:
    """PSNR in dB, as the file keeps it."""
    return round(psnr(estimate[None], truth[None]), 3)


@dataclass
class Results:
    """The PSNR by case, method and photograph, and the file that they are kept in."""

    path: Path | None
    cases: dict[str, dict[str, Figures]]
    about: dict[str, Any]

    @classmethod
    def of(cls, path: Path | None) -> "Results":
        """What a file has so far, if there is one."""
        kept = json.loads(path.read_text()) if path and path.exists() else {"cases": {}, "about": {}}
        found = {
            case: {name: method["psnr"] for name, method in methods.items()}
            for case, methods in kept["cases"].items()
        }
        return cls(path, found, kept["about"])

    def figures(self, case: str, method: str) -> Figures:
        """The figures of a method on a case, to be added to."""
        return self.cases.setdefault(case, {}).setdefault(method, {})

    def set_weights(self, digest: str) -> None:
        """Keep what is known of the restorer only if it is of these weights."""
        if self.about.get("weights") != digest:
            for methods in self.cases.values():
                for method in (RESTORER, FOUND):
                    methods.pop(method, None)
        self.about["weights"] = digest

    def forget_other_damage(self, case: str, damaged: Figures) -> None:
        """Drop the figures of photographs that were damaged otherwise."""
        before = dict(self.figures(case, DAMAGED))
        for figures in self.cases[case].values():
            for name in damaged.keys() & figures.keys():
                if abs(before.get(name, np.inf) - damaged[name]) > 0.002:
                    del figures[name]
        self.figures(case, DAMAGED).update(damaged)

    def write(self) -> None:
        """Write the file, if there is to be one."""
        if self.path is None:
            return
        cases = {
            case: {
                name: {**summary(figures, methods[DAMAGED]), "psnr": dict(sorted(figures.items()))}
                for name, figures in methods.items()
                if figures
            }
            for case, methods in self.cases.items()
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial_file = self.path.with_suffix(".part")
        partial_file.write_text(json.dumps({"about": self.about, "cases": cases}, indent=1) + "\n")
        partial_file.replace(self.path)


def summary(figures: Figures, damaged: Figures) -> dict[str, Any]:
    """The median, the worst gain, and how many photographs became worse."""
    gains = [figures[name] - damaged[name] for name in figures]
    return {
        "median": round(statistics.median(figures.values()), 3),
        "worst_gain": round(min(gains), 3),
        "below": sum(gain < 0 for gain in gains),
        "photographs": len(figures),
    }


def run(
    name: str, images: dict[str, Array], methods: dict[str, Method], results: Results, is_other: bool = False
) -> None:
    """Measure the methods on a case; peers only where the results lack them; `found` unless `is_other` weights."""
    case = CASES[name]
    damaged, power = {}, {}
    for photograph, image in images.items():
        grid = FrequencyGrid(image.shape)
        power[photograph] = case.power(grid)
        damaged[photograph] = image + case.noise(grid, photograph)
    results.forget_other_damage(name, {key: quality(y, images[key]) for key, y in damaged.items()})
    if not is_other:
        methods = methods | {FOUND: lambda y, noise: of_kind(case.kind, y)}
    for method, function in methods.items():
        figures = results.figures(name, method)
        for photograph, truth in images.items():
            is_kept = method in PEERS and photograph in figures
            if has(method, case, power[photograph]) and not is_kept:
                estimate = function(damaged[photograph], power[photograph])
                figures[photograph] = quality(estimate, truth)
                if method in PEERS:
                    results.write()
    results.write()


def table(results: Results, cases: Sequence[str]) -> str:
    """The median PSNR, the worst gain and how many photographs became worse, as Markdown."""
    methods = [DAMAGED, "notch", "wiener", RESTORER, FOUND, *PEERS]
    lines = [f"| case | {' | '.join(methods)} |", "| --- |" + " --- |" * len(methods)]
    for case in cases:
        found = results.cases[case]
        cells = [shown(found.get(method, {}), found[DAMAGED]) for method in methods]
        lines.append(f"| {case} | {' | '.join(cells)} |")
    return "\n".join(lines)


def shown(figures: Figures, damaged: Figures) -> str:
    """The figures of a method on a case, for a cell of the table."""
    if not figures or figures is damaged:
        return f"{statistics.median(figures.values()):.2f}" if figures else ""
    found = summary(figures, damaged)
    few = "" if len(figures) == len(damaged) else f" of {len(figures)}"
    return f"{found['median']:.2f}{few} ({found['worst_gain']:+.1f}, {found['below']})"


def found_versions() -> dict[str, str]:
    """The versions of the packages that are installed."""
    found = {}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def main() -> None:
    """Print the table, and add the figures to the JSON file of --output."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kodak", type=Path, required=True, metavar="FOLDER", help="the PNG files")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="packed weights of another restorer")
    parser.add_argument("--bm3d", action="store_true", help="measure the methods of BM3D where they lack")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=[*CASES], metavar="CASE")
    parser.add_argument("--crops", type=int, metavar="N", help="only the first N photographs")
    parser.add_argument("--output", type=Path, metavar="FILE", help="results, added to those that are there")
    options = parser.parse_args()
    methods: dict[str, Method] = {"notch": notch, "wiener": partial(estimated, silent)}
    results = Results.of(options.output)
    results.about |= {"seed": SEED, "date": date.today().isoformat(), "machine": platform.machine()}
    results.about["versions"] = results.about.get("versions", {}) | found_versions()
    here = torch.device("cpu")
    model = packed_model(options.weights, here) if options.weights else packaged_model(here)
    methods[RESTORER] = partial(estimated, model.network)
    results.set_weights(hashlib.sha256((options.weights or PACKAGED).read_bytes()).hexdigest())
    if options.bm3d:
        check_peers()
        methods |= PEERS
    whole = dict(list(photographs(options.kodak).items())[: options.crops])
    if not whole:
        raise SystemExit(f"{options.kodak} holds no PNG files")
    crops = {name: central(image) for name, image in whole.items()}
    for name in options.cases:
        print(name, file=sys.stderr, flush=True)
        run(
            name,
            dict(list(whole.items())[:WHOLE]) if CASES[name].is_whole else crops,
            methods,
            results,
            bool(options.weights),
        )
    print(table(results, options.cases))


if __name__ == "__main__":
    main()
