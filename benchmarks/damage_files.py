"""Files that came damaged, for benchmarks/damage.py: what is left of the damage, and how near to a truth.

What is left is the energy of lines or of a pattern over its surroundings in the spectrum (damage_spectrum.py), in dB: 0
is right, far below is a hole. Files are taken as grey in their own depth. Rivals have their first setting and are told
the directions of lines; the program is `--band auto`, told nothing. The folders are no part of this project.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from damage_rivals import RIVALS, Lines, Told, is_there
from damage_spectrum import line_energy, pattern_energy, peaks, transformed
from PIL import Image
from restorer import quality

from sagd_cli.restoration.quality import ssim
from sagd_cli.spectral.grid import Array

Measured = dict[str, dict[str, float]]  # by method, then left, psnr, ssim
TIMES, SMALLEST = 8, 0.05  # what a peak of a pattern is: see damage_spectrum.peaks


@dataclass(frozen=True)
class File:
    """Where a file lies, the lines in it (without any it is a pattern), and the name of its truth."""

    folder: str
    lines: tuple[Lines, ...] = ()
    truth: str | None = None


FILES = {
    "afm_channel4_16bit.tif": File("damaged", (Lines(0),)),
    "florida_satellite_scanlines.tif": File("corrupted", (Lines(0),)),
    "ir_cars_columns.png": File("damaged", (Lines(90),)),
    "sinogram_neutron_stripes.tif": File("corrupted", (Lines(90),)),
    "spim_neurons.jpg": File("damaged", (Lines(0, 60, 1),)),
    "sem_battery_curtain.jpeg": File("damaged", (Lines(90, 17, 0.7),)),
    "vsnr_curtains_f32.tif": File("damaged", (Lines(90, 30, 2),), "vsnr_camera_f32.tif"),
    "fibre_oblique1.jpg": File("damaged", (Lines(110, 100, 2),)),
    "david_halftone.png": File("damaged", truth="david_halftone.png"),
    "halftone_comic.png": File("damaged"),
    "mariner6_mars_interference.png": File("corrupted"),
}


def pixels_of(path: Path) -> np.ndarray:
    """The grey pixels (H, W) of a file, in its own depth."""
    if path.suffix != ".tif":
        return np.asarray(Image.open(path).convert("L"))
    pixels = tifffile.imread(path)
    return pixels.astype(pixels.dtype.newbyteorder("="))


def levels_of(pixels: np.ndarray) -> tuple[float, float]:
    """Black and white."""
    return (0, np.iinfo(pixels.dtype).max) if pixels.dtype.kind == "u" else (0, 1)


def signal_of(pixels: np.ndarray) -> Array:
    """The signal on [-1, 1]."""
    low, high = levels_of(pixels)
    return (pixels.astype(float) - low) * 2 / (high - low) - 1


def measure_files(
    folders: dict[str, Path | None],
    kept: dict[str, Measured],
    again: set[str],
    program: Callable[..., np.ndarray],
) -> Iterator[str]:
    """Add to the figures by file and method what is to be measured; say after each which it was."""
    for name, file in FILES.items():
        folder = folders[file.folder]
        if folder is None:
            continue
        needed = [folder / name, *([folder / "truth" / file.truth] if file.truth else [])]
        lacking = [str(path) for path in needed if not path.is_file()]
        if lacking:
            yield f"{name} is left out: there is no {' and no '.join(lacking)}"
            continue
        pixels = pixels_of(folder / name)
        y, told = signal_of(pixels), Told(file.lines)
        truth = signal_of(pixels_of(folder / "truth" / file.truth)) if file.truth else None
        known = kept.setdefault(name, {})
        methods = {
            "damaged": lambda y: y,
            "sagd": lambda y, pixels=pixels: signal_of(program(pixels[None], "auto", levels_of(pixels))[0]),
        }
        rivals = ("pystripe", "algotom", "vsnr") if file.lines else ("descreen",)
        for rival in rivals:
            if RIVALS[rival].can(told):
                methods[rival] = lambda y, rival=rival, told=told: RIVALS[rival].settings(told)[0](y)
        for method, function in methods.items():
            if (method in again or method not in known) and (method not in RIVALS or is_there(method)):
                known[method] = figures(file, y, function(y), truth)
                yield f"{name}: {method}"


def figures(file: File, y: Array, estimate: Array, truth: Array | None) -> dict[str, float]:
    """What is left, and how near it is."""
    if file.lines:
        left = line_energy(estimate, file.lines[0].angle)
    else:
        left = pattern_energy(estimate, peaks(np.abs(transformed(y)), TIMES, SMALLEST))
    found = {"left": round(left, 2)}
    if truth is None:
        return found
    return found | {"psnr": quality(estimate, truth), "ssim": round(ssim(estimate[None], truth[None]), 4)}


def files_table(kept: dict[str, Measured]) -> str:
    """As Markdown."""
    columns = ("damaged", "sagd", "pystripe", "algotom", "vsnr", "descreen")
    lines = [f"| left, dB (PSNR, SSIM) | {' | '.join(columns)} |", "| --- |" + " --- |" * len(columns)]
    for name, methods in kept.items():
        cells = [cell(methods[method]) if method in methods else "" for method in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cell(found: dict[str, float]) -> str:
    """The figures of one method on one file."""
    near = f" ({found['psnr']:.1f}, {found['ssim']:.3f})" if "psnr" in found else ""
    return f"{found['left']:+.1f}{near}"
