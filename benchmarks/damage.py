"""How good the program is at real kinds of damage, beside other methods: lines, screens, tones and damaged files.

python benchmarks/damage.py [--kodak FOLDER] [--damaged FOLDER] [--corrupted FOLDER] [--cases rows-8 ...]
    [--photographs N] [--again [METHOD ...]] [--output benchmarks/results/damage.json]

--kodak: the first sixteen photographs of the Kodak suite (six for the cases of damage_cases.py), whole, as grey (Rec.
601 luma) on [-1, 1]; levels are standard deviations in grey levels of 255. Noise is drawn by the seed and the name of a
photograph, and is not clipped. PSNR is on the range [-1, 1], estimates clipped to it; so is SSIM. The energy of
lines is that of damage_spectrum.py. --damaged and --corrupted: files that came damaged (damage_files.py).

damaged   the photographs with the damage
sagd      the program, told nothing: bare `sagd omit` for offsets and gains of lines, `--band auto` for all else
rivals    the methods of damage_rivals.py, by their first setting, and `NAME-best`: by that which the truth shows to be
          best, for each photograph. Most take only the first four, destripe and bm3d two. What is not installed (extra
          `bench`; pystripe as is said there) is skipped

Each figure is written as soon as it is known, and those that the file has for the same damage are kept; --again
measures the named methods again (all, if none is named).
"""

import argparse
import json
import statistics
import warnings
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from damage_cases import CASES as MADE
from damage_files import files_table, measure_files
from damage_rivals import GREY_LEVEL, LINES, RIVALS, Lines, Method, Told, installed
from damage_spectrum import line_energy
from restorer import photographs, quality
from scipy import ndimage

from sagd_cli.errors import DataError
from sagd_cli.library.arrays import Knowledge, restore
from sagd_cli.restoration.quality import ssim
from sagd_cli.spectral.grid import Array

SEED, MANY, FEW = 0, 16, 6
ALONG = 60  # pixels: sigma of offsets that vary along the row
DRAWS = 16
DAMAGED, CLEAN, PROGRAM = "damaged", "clean", "sagd"

Random = np.random.Generator
Figures = dict[str, dict[str, float]]  # by photograph, then psnr, ssim, lines


@dataclass(frozen=True)
class Damage:
    """Offsets of rows that may vary along them, gains of columns, and white noise, all as standard deviations."""

    offsets: float = 0.0
    varies: bool = False
    gains: float = 0.0
    white: float = 0.0

    def added(self, image: Array, random: Random) -> Array:
        """The image (H, W) with the damage."""
        height, width = image.shape
        if self.varies:
            fields = random.standard_normal((height, width + 8 * ALONG))
            offsets = ndimage.gaussian_filter1d(fields, ALONG, axis=1)[:, 4 * ALONG : -4 * ALONG]
            offsets = offsets / offsets.std()
        else:
            offsets = random.standard_normal((height, 1))
        gains = 1 + self.gains * random.standard_normal((1, width))
        white = random.standard_normal(image.shape)
        return (image + 1) * gains - 1 + GREY_LEVEL * (self.offsets * offsets + self.white * white)


@dataclass(frozen=True)
class Case:
    """A damage, its lines and the rivals that know it, what the program is told, and on how many photographs."""

    damaged: Callable[[Array, Random], Array]
    lines: tuple[Lines, ...] = ()
    rivals: tuple[str, ...] = LINES
    noise: str | None = "auto"
    count: int = FEW

    def power(self, image: Array) -> Array:
        """The power of the damage of an image on the half spectrum, the mean of some draws."""
        draws = (self.damaged(image, np.random.default_rng([SEED, draw])) - image for draw in range(DRAWS))
        return sum(np.abs(np.fft.rfft2(noise)) ** 2 for noise in draws) / (DRAWS * image.size)

    def figures(self, estimate: Array, truth: Array) -> dict[str, float]:
        """How near an estimate is to the truth, and what is left of short lines."""
        found = {"psnr": quality(estimate, truth), "ssim": round(ssim(estimate[None], truth[None]), 4)}
        energies = [line_energy(estimate, one.angle) for one in self.lines if one.width > 1]
        return found | ({"lines": round(statistics.mean(energies), 2)} if energies else {})


def whole(damage: Damage, *lines: Lines) -> Case:
    """A case of whole lines; BM3D asks for a power that is not zero."""
    rivals = LINES if damage.offsets or damage.gains else tuple(name for name in LINES if name != "bm3d")
    return Case(damage.added, lines, rivals, None, MANY)


ROWS, VARYING, COLUMNS = Lines(0), Lines(0, ALONG), Lines(90)
CURTAIN, TILTED = Lines(90, 17, 1.3), Lines(20, 17, 1.3)
DOTS, WAVES = ("descreen", "blur"), ("notches", "descreen")
CASES = {
    **{f"rows-{level}": whole(Damage(level), ROWS) for level in (0, 2, 8, 16)},
    "varying-8": whole(Damage(8, varies=True), VARYING),
    "gains-6%": whole(Damage(gains=0.06), COLUMNS),
    "varying-8+gains-6%+white-4": whole(Damage(8, True, 0.06, 4), COLUMNS, VARYING),
    **{name: Case(MADE[name], rivals=DOTS) for name in ("halftone", "one-bit", "grey-screen")},
    "curtains": Case(MADE["curtains"], (CURTAIN,)),
    "curtains-20": Case(MADE["curtains-20"], (TILTED,)),
    "curtains-two": Case(MADE["curtains-two"], (CURTAIN, TILTED)),
    **{name: Case(MADE[name], rivals=WAVES) for name in ("tone-in-window", "drifting-tone", "lattice")},
}


def program(planes: np.ndarray, noise: str | None, levels: tuple[float, float]) -> np.ndarray:
    """What the program makes of an image (C, H, W), told black and white; the image where it finds nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return restore(planes[None], noise, known=Knowledge(range=levels))[0]
        except DataError:
            return planes


def methods(case: Case, image: Array) -> dict[str, list[Method]]:
    """The settings of each method, with what they are told of the damage of an image."""
    told = Told(case.lines, cache(partial(case.power, image)))
    return {
        DAMAGED: [lambda y: y],
        **({CLEAN: [lambda y: image]} if any(one.width > 1 for one in case.lines) else {}),
        PROGRAM: [lambda y: program(y[None].astype(np.float32), case.noise, (-1, 1))[0].astype(float)],
        **{name: RIVALS[name].settings(told) for name in installed(case.rivals) if RIVALS[name].can(told)},
    }


def measure(case: Case, images: dict[str, Array], kept: dict[str, Figures], again: set[str]) -> Iterable[str]:
    """Add to the figures by method what is to be measured; say after each photograph and method which it was."""
    for place, (name, truth) in enumerate(images.items()):
        y = case.damaged(truth, np.random.default_rng([SEED, zlib.crc32(name.encode())]))
        before = kept.get(DAMAGED, {}).get(name, {}).get("psnr")
        if before is not None and abs(before - quality(y, truth)) > 0.002:
            for figures in kept.values():
                figures.pop(name, None)
        for method, settings in methods(case, truth).items():
            most = RIVALS[method].most if method in RIVALS else None
            is_known = name in kept.get(method, {}) and method not in again
            if is_known or (most is not None and place >= most):
                continue
            estimates = [setting(y) for setting in settings]
            kept.setdefault(method, {})[name] = case.figures(estimates[0], truth)
            if len(estimates) > 1:
                best = max(estimates, key=lambda estimate: quality(estimate, truth))
                kept.setdefault(f"{method}-best", {})[name] = case.figures(best, truth)
            yield method


def mean(figures: Figures, of: str) -> float:
    """The mean over the photographs."""
    return statistics.mean(one[of] for one in figures.values())


def over(figures: Figures, others: Figures) -> list[float]:
    """How much PSNR is gained over other figures, on the photographs that both have."""
    return [one["psnr"] - others[name]["psnr"] for name, one in figures.items() if name in others]


def cell(figures: Figures, programs: Figures) -> str:
    """How much better than the program a method is, on how many photographs where it is not all."""
    gains = over(figures, programs)
    few = "" if len(gains) == len(programs) else f" of {len(gains)}"
    return f"{statistics.mean(gains):+.1f}{few}" if gains else ""


def table(cases: dict[str, dict[str, Figures]]) -> str:
    """As Markdown: PSNR with the program's worst gain, and the rivals less the program; then the short lines."""
    columns = ["pystripe", *(f"{name}-best" for name in RIVALS if name != "bm3d"), "bm3d"]
    lines = [f"| PSNR | damaged | sagd | {' | '.join(columns)} |", "| --- |" + " --- |" * (len(columns) + 2)]
    for name, found in cases.items():
        damaged, programs = (found[method] for method in (DAMAGED, PROGRAM))
        worst = min(over(programs, damaged))
        ours = f"{mean(damaged, 'psnr'):.1f} | {mean(programs, 'psnr'):.1f} ({worst:+.1f})"
        cells = [cell(found[method], programs) if method in found else "" for method in columns]
        lines.append(f"| {name} | {ours} | {' | '.join(cells)} |")
    lines += ["", "| short lines | method | SSIM | energy, dB |", "| --- | --- | --- | --- |"]
    for name, found in cases.items():
        if CLEAN in found:
            for method in (CLEAN, DAMAGED, PROGRAM, *(column for column in columns if column in found)):
                ssims, energies = (mean(found[method], of) for of in ("ssim", "lines"))
                lines.append(f"| {name} | {method} | {ssims:.3f} | {energies:+.1f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure what lacks, add it to the JSON file of --output, and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kodak", type=Path, metavar="FOLDER", help="the PNG files")
    parser.add_argument("--damaged", type=Path, metavar="FOLDER", help="damaged files, and truth/")
    parser.add_argument("--corrupted", type=Path, metavar="FOLDER", help="more damaged files")
    parser.add_argument("--photographs", type=int, default=MANY, metavar="N", help="only the first N")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=[*CASES], metavar="CASE")
    parser.add_argument("--again", nargs="*", metavar="METHOD", help="measure again what is there")
    parser.add_argument("--output", type=Path, metavar="FILE", help="results, added to those that are there")
    options = parser.parse_args()
    output = options.output
    results: dict[str, Any] = {"seed": SEED, "cases": {}, "files": {}}
    if output and output.exists():
        results = json.loads(output.read_text())
    again = {DAMAGED, PROGRAM, *RIVALS} if options.again == [] else set(options.again or ())

    def save(about: str) -> None:
        print(about, flush=True)
        if output:
            output.parent.mkdir(parents=True, exist_ok=True)
            partial_file = output.with_suffix(".part")
            partial_file.write_text(json.dumps(results, indent=1) + "\n")
            partial_file.replace(output)

    images = photographs(options.kodak) if options.kodak else {}
    if options.kodak and not images:
        raise SystemExit(f"{options.kodak} holds no PNG files")
    for name in options.cases if images else ():
        case = CASES[name]
        chosen = dict(list(images.items())[: min(case.count, options.photographs)])
        for method in measure(case, chosen, results["cases"].setdefault(name, {}), again):
            save(f"{name}: {method}")
    folders = {"damaged": options.damaged, "corrupted": options.corrupted}
    for name in measure_files(folders, results["files"], again, program):
        save(name)
    print(table({name: results["cases"][name] for name in CASES if results["cases"].get(name)}))
    print(files_table(results["files"]))


if __name__ == "__main__":
    main()
