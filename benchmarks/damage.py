"""How good the program is at real kinds of damage, beside other methods: offsets and gains of whole lines.

python benchmarks/damage.py --kodak FOLDER [--photographs N] [--cases rows-8 ...] [--bm3d]
    [--output benchmarks/results/damage.json]
python benchmarks/damage.py --files FILE ...    the power of lines in damaged files before and after

The first sixteen photographs of the Kodak suite in FOLDER, whole, as grey (Rec. 601 luma) on [-1, 1]; levels are
standard deviations in grey levels of 255. Noise is drawn by the seed and the name of a photograph, and is not clipped.
PSNR is on the range [-1, 1], estimates clipped to it.

damaged   the photographs with the damage
median    the median over a row of its difference to the row above, summed over the rows, less the moving median of 31
          rows; in windows of 101 pixels where offsets vary along the row; of the logarithm for gains
lines     what the program finds and takes away of whole lines, told nothing
sagd      bare `sagd omit`, told nothing: only where there is noise of another kind too
bm3d      BM3D told the spectrum of the rows' offsets, with --bm3d (seconds to minutes an image)
"""

import argparse
import json
import statistics
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from restorer import bm3d, check_peers, photographs, quality, rows
from scipy import ndimage

from sagd_cli.config.noise_spectrum import NoisePart, NoiseSpectrum
from sagd_cli.damage.lines import without_line_noise
from sagd_cli.data.images import read_image
from sagd_cli.data.ranges import RangeSurvey
from sagd_cli.detection.find_noise import find_offsets
from sagd_cli.library.arrays import Knowledge, restore
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.grid import Array, FrequencyGrid

SEED, COUNT = 0, 16
GREY_LEVEL = 2 / 255
ALONG = 60  # pixels: sigma of offsets that vary along the row
TREND, WINDOW = 31, 101
LOWEST = 0.02  # cycles/row

Random = np.random.Generator


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


CASES = {
    **{f"rows-{level}": Damage(level) for level in (0, 2, 8, 16)},
    "varying-8": Damage(8, varies=True),
    "gains-6%": Damage(gains=0.06),
    "varying-8+gains-6%+white-4": Damage(8, True, 0.06, 4),
}


def median(damage: Damage, y: Array) -> Array:
    """The rival: running sums of medians of differences."""
    if damage.gains:
        floor = np.log(np.maximum(y.T + 1, GREY_LEVEL))
        y = np.exp(without_medians(floor, None)).T - 1
    return without_medians(y, WINDOW if damage.varies else None) if damage.offsets else y


def without_medians(y: Array, window: int | None) -> Array:
    """An image less the running sum of the medians, over rows or windows of them, of steps from row to row."""
    steps = np.diff(y, axis=0, prepend=y[:1])
    medians = (
        ndimage.median_filter(steps[:, ::4], (1, window // 4), mode="nearest").repeat(4, axis=1)[
            :, : y.shape[1]
        ]
        if window
        else np.median(steps, axis=1, keepdims=True)
    )
    profile = medians.cumsum(axis=0)
    return y - profile + ndimage.median_filter(profile, (TREND, 1), mode="nearest")


def lines(y: Array) -> Array:
    """The image (H, W) or (C, H, W) without the offsets and gains of lines that the program finds."""
    signal = y.reshape(-1, *y.shape[-2:]).astype(np.float32)
    found = find_offsets([signal])
    if not found:
        return y
    noise = NoiseSpectrum(tuple(NoisePart(Band((stripe,)), strength.value) for stripe, strength in found))
    return without_line_noise(signal, noise)[0].reshape(y.shape).astype(float)


def bare(y: Array) -> Array:
    """What `sagd omit` makes of it, told nothing."""
    return restore(y[None, None].astype(np.float32), known=Knowledge(range=(-1, 1)))[0, 0].astype(float)


def line_power(y: Array) -> float:
    """By how much the power of steps from row to row is higher on the axis than 8 to 20 bins off it, in dB.

    Frequencies from 0.02 cycles/row on.
    """
    steps = np.diff(y, axis=0)
    steps = (steps - steps.mean()) * np.hanning(steps.shape[1])
    power = np.abs(np.fft.fft2(steps)) ** 2
    seen = np.abs(np.fft.fftfreq(len(steps))) > LOWEST
    on, off = power[seen, :2].mean(axis=1), power[seen, 8:21].mean(axis=1)
    return float(10 * np.log10(np.mean(on) / np.mean(off)))


def real_files(paths: list[Path]) -> None:
    """Print the power of rows and columns in files before and after, told nothing."""
    for path in paths:
        image = read_image(path)
        survey = RangeSurvey(None)
        survey.add(image.pixels, image.range)
        signal = replace(image, range=survey.decided().of(image.pixels.dtype, image.range)).signal
        after = lines(signal)
        cells = [
            f"{name} {line_power(before):.1f} {line_power(restored):.1f}"
            for name, before, restored in (
                ("rows", signal.mean(axis=0), after.mean(axis=0)),
                ("columns", signal.mean(axis=0).T, after.mean(axis=0).T),
            )
        ]
        print(path.name, *cells, sep=" | ", flush=True)


def methods(damage: Damage, with_bm3d: bool) -> dict[str, Callable[[Array], Array]]:
    """The methods that have something to say about a damage, by their names."""
    chosen: dict[str, Callable[[Array], Array]] = {
        "damaged": lambda y: y,
        "median": partial(median, damage),
        "lines": lines,
    }
    if damage.white:
        chosen["sagd"] = bare
    if with_bm3d and damage == Damage(damage.offsets):
        chosen["bm3d"] = lambda y: bm3d(y, rows(damage.offsets)(FrequencyGrid(y.shape)))
    return chosen


def measured(damage: Damage, images: dict[str, Array], with_bm3d: bool) -> dict[str, dict[str, float]]:
    """The PSNR by method and photograph."""
    figures: dict[str, dict[str, float]] = {}
    for name, image in images.items():
        y = damage.added(image, np.random.default_rng([SEED, zlib.crc32(name.encode())]))
        for method, function in methods(damage, with_bm3d).items():
            figures.setdefault(method, {})[name] = quality(function(y), image)
    return figures


def summary(figures: dict[str, float], damaged: dict[str, float]) -> dict[str, object]:
    """The mean and the worst gain over the damaged photographs, and each figure."""
    gains = [figures[name] - damaged[name] for name in figures]
    return {
        "mean": round(statistics.mean(figures.values()), 2),
        "worst_gain": round(min(gains), 2),
        "photographs": len(figures),
        "psnr": figures,
    }


def main() -> None:
    """Print a row for each case, and add the figures to the JSON file of --output."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kodak", type=Path, metavar="FOLDER", help="the PNG files")
    parser.add_argument(
        "--files", nargs="+", type=Path, metavar="FILE", help="damaged files, before and after"
    )
    parser.add_argument("--photographs", type=int, default=COUNT, metavar="N", help="only the first N")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=[*CASES], metavar="CASE")
    parser.add_argument("--bm3d", action="store_true", help="measure BM3D, a package of the extra bench")
    parser.add_argument("--output", type=Path, metavar="FILE", help="results, added to those that are there")
    options = parser.parse_args()
    if options.bm3d:
        check_peers()
    if options.files:
        return real_files(options.files)
    if not options.kodak:
        parser.error("--kodak or --files")
    images = dict(list(photographs(options.kodak).items())[: options.photographs])
    if not images:
        raise SystemExit(f"{options.kodak} holds no PNG files")
    output = options.output
    results = json.loads(output.read_text()) if output and output.exists() else {"seed": SEED, "cases": {}}
    for name in options.cases:
        figures = measured(CASES[name], images, options.bm3d)
        found = {method: summary(values, figures["damaged"]) for method, values in figures.items()}
        results["cases"].setdefault(name, {}).update(found)
        cells = [f"{method} {one['mean']} ({one['worst_gain']:+})" for method, one in found.items()]
        print(name, *cells, sep=" | ", flush=True)
        if output:
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
