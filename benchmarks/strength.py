"""How often the interval of the strength holds the truth, how wide it is, and how often clean images seem noisy.

python benchmarks/strength.py [--root DIR] [--trials 50] [--output benchmarks/results/strength.json]

Digits (reference: the first 1,500, damaged: the last 297) and MNIST in DIR (the first 10,000 training images, the
first 200 test images). A trial draws new noise, and 100 of the damaged images. `alone` are single images against the
reference. Photographs are scikit-image's, cut by `make_fields`, each against its own power law.
"""

import argparse
import json
import platform
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from sagd_cli.config.arguments import parse_dataset
from sagd_cli.damage.fields import make_fields
from sagd_cli.damage.groups import Groups
from sagd_cli.damage.likelihood import Reference, strength_from_power_law, strength_from_reference
from sagd_cli.damage.strength import Strength
from sagd_cli.data.ranges import array_signal
from sagd_cli.datasets.loading import load_images
from sagd_cli.errors import DataError
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.grid import Array, FrequencyGrid
from sagd_cli.spectral.spectrum import crop_spectrum

BANDS = ("high", "mid", "low", "0.3:0.6")
GAMMAS = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0)
DRAWN = 100
PHOTOGRAPHS = [
    "camera",
    "coins",
    "moon",
    "page",
    "text",
    "brick",
    "gravel",
    "grass",
    "astronaut",
    "coffee",
    "chelsea",
    "rocket",
]


def band_noise(count: int, grid: FrequencyGrid, band: Band, random: np.random.Generator) -> Array:
    """Draw noise (count, *shape) of amplitude 1 in the band."""
    white = np.fft.rfft2(random.standard_normal((count, *grid.shape)))
    return np.fft.irfft2(white * band.mask(grid), s=grid.shape)


def figures(found: list[Strength], gamma: float) -> dict[str, float | None]:
    """Return the coverage, the share in which noise was found, and the medians of the value and of the half width.

    The half width is None where the median interval has no end.
    """
    half_width = float(np.median([(s.high - s.low) / 2 for s in found]))
    return {
        "coverage": float(np.mean([s.low <= gamma <= s.high for s in found])),
        "found": float(np.mean([s.found for s in found])),
        "value": float(np.median([s.value for s in found])),
        "half_width": half_width if np.isfinite(half_width) else None,
    }


def of_data(name: str, clean: Array, damaged: Array, trials: int) -> Iterable[dict[str, Any]]:
    """Yield the figures of one data set: `clean` (M, C, H, W) and `damaged` (N, C, H, W) are on the [-1, 1] range."""
    grid = FrequencyGrid(clean.shape[2:])
    for text in BANDS:
        band = Band.parse(text)
        groups = Groups(grid, band.mask(grid).astype(float))
        reference = Reference(groups.powers(clean), len(clean))
        for gamma in GAMMAS:
            random = np.random.default_rng([len(text), int(100 * gamma)])
            found: dict[str, list[Strength]] = {"reference": [], "power law": [], "alone": []}
            for _ in range(trials):
                drawn = damaged[random.choice(len(damaged), DRAWN, replace=False)]
                noise = band_noise(DRAWN, grid, band, random)[:, None]
                powers = groups.powers(drawn + gamma * noise)
                power = powers.mean(axis=0)
                found["reference"].append(strength_from_reference(power, DRAWN, groups, reference))
                found["power law"].append(strength_from_power_law(power, DRAWN, groups))
                found["alone"] += [alone(power, groups, reference) for power in powers]
            for method, strengths in found.items():
                yield {"data": name, "band": text, "gamma": gamma, "method": method} | figures(
                    strengths, gamma
                )


def alone(power: Array, groups: Groups, reference: Reference) -> Strength:
    """Return the strength of the noise in one image, which is 0 where nothing can be told of it, as for `sagd omit`."""
    try:
        return strength_from_reference(power, 1, groups, reference)
    except DataError:
        return Strength(0.0, 0.0, 0.0)


def of_photographs() -> Iterable[dict[str, Any]]:
    """Yield the figures of photographs, each against its own power law."""
    import skimage.data

    photographs = [getattr(skimage.data, name)() for name in PHOTOGRAPHS]
    for text in BANDS:
        for gamma in GAMMAS:
            random, band, found = np.random.default_rng(0), Band.parse(text), []
            for pixels in photographs:
                image = array_signal(np.atleast_3d(pixels).transpose(2, 0, 1))
                grid = FrequencyGrid(image.shape[1:])
                noisy = image + gamma * band_noise(len(image), grid, band, random)
                fields = make_fields([noisy.astype(np.float32)])
                crop = FrequencyGrid(fields.shape)
                seen = crop_spectrum(band.mask(grid).astype(float), grid, crop)
                groups = Groups(crop, seen, len(image), True, fields.lowest)
                powers = groups.powers(fields.values).mean(axis=0)
                found.append(strength_from_power_law(powers, fields.independent, groups))
            yield {"data": "photographs", "band": text, "gamma": gamma, "method": "power law"} | figures(
                found, gamma
            )


def main() -> None:
    """Print one line for each case, and write JSON to --output."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, help="folder of MNIST; left out without")
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--photographs", action="store_true", help="also scikit-image's photographs")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    sets = {"digits": ("digits", "digits:test")}
    if options.root:
        sets["mnist"] = (f"mnist:root={options.root}", f"mnist:test,root={options.root}")
    rows = []
    for name, sides in sets.items():
        clean, damaged = (array_signal(load_images(parse_dataset(side)).images[:10_000]) for side in sides)
        damaged = damaged if name == "digits" else damaged[:200]
        rows += [*map(shown, of_data(name, clean, damaged, options.trials))]
    if options.photographs:
        rows += [*map(shown, of_photographs())]
    if options.output:
        about = {"date": date.today().isoformat(), "machine": platform.machine(), "trials": options.trials}
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps({**about, "images": DRAWN, "rows": rows}, indent=1) + "\n")


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """Print the row and return it."""
    half_width = "no end" if row["half_width"] is None else f"+- {row['half_width']:.3f}"
    print(
        f"{row['data']:<12}{row['band']:<9}{row['gamma']:<5}{row['method']:<10} coverage {row['coverage']:.2f}"
        f"  found {row['found']:.2f}  {row['value']:.3f} {half_width}",
        flush=True,
    )
    return row


if __name__ == "__main__":
    main()
