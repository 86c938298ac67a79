"""Pictures for docs/damage.md: enlarged crops of damaged images before (left) and after (right) the program.

python benchmarks/damage_figures.py [--kodak FOLDER] [--damaged FOLDER] [--corrupted FOLDER] [--only NAME ...]
    [--output docs/figures]

The whole image is restored, as `sagd omit --band auto` does, and told nothing; the first photograph of the Kodak suite
gets the row offsets of the case rows-8. Only files whose licences let them be shown are here: FIB-SEM curtains and the
halftone of a comic (MIT), a sinogram (Apache-2.0, Diamond Light Source), Florida (NOAA), Mars by Mariner 6 (NASA).
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from damage import CASES, program
from damage_files import levels_of
from PIL import Image

GAP, COLOURS = 8, 256


@dataclass(frozen=True)
class Crop:
    """The file in one of the folders, the corner and the sides of what is shown, and how much it is enlarged."""

    folder: str
    file: str
    top: int
    left: int
    height: int = 150
    width: int = 200
    times: int = 2


CROPS = {
    "rows": Crop("kodak", "kodim04.png", 250, 150),
    "curtains": Crop("damaged", "sem_battery_curtain.jpeg", 195, 300, 110, 140, 3),
    "halftone": Crop("damaged", "halftone_comic.png", 20, 60, 120, 160, 3),
    "florida": Crop("corrupted", "florida_satellite_scanlines.tif", 330, 200),
    "mariner": Crop("corrupted", "mariner6_mars_interference.png", 200, 220),
    "sinogram": Crop("corrupted", "sinogram_neutron_stripes.tif", 200, 220),
}


def planes_of(path: Path) -> np.ndarray:
    """The pixels (C, H, W) of a file in its own depth and colours."""
    if path.suffix == ".tif":
        pixels = tifffile.imread(path)
        return pixels.astype(pixels.dtype.newbyteorder("="))[None]
    pixels = np.asarray(Image.open(path))
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def damaged_photograph(path: Path) -> np.ndarray:
    """A photograph, grey, with the damage of rows-8, as an 8-bit file holds it."""
    image = np.asarray(Image.open(path).convert("L"), float) / 127.5 - 1
    y = CASES["rows-8"].damaged(image, np.random.default_rng(0))
    return np.clip(np.rint((y + 1) * 127.5), 0, 255).astype(np.uint8)[None]


def picture(before: np.ndarray, after: np.ndarray, crop: Crop) -> Image.Image:
    """Both crops side by side, on the grey levels of the one before."""
    window = np.s_[:, crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
    low, high = np.percentile(before[window], (0.2, 99.8))
    panels = []
    for planes in (before[window], after[window]):
        shown = np.clip((planes.astype(float) - low) / (high - low), 0, 1) * 255
        large = np.rint(shown).astype(np.uint8).repeat(crop.times, axis=1).repeat(crop.times, axis=2)
        panels += [large, np.full((*large.shape[:2], GAP), 255, np.uint8)]
    whole = np.concatenate(panels[:-1], axis=2)
    if len(whole) == 1:
        return Image.fromarray(whole[0])
    return Image.fromarray(whole.transpose(1, 2, 0)).quantize(COLOURS)


def main() -> None:
    """Write damage_NAME.png for each crop whose folder is given."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for folder in ("kodak", "damaged", "corrupted"):
        parser.add_argument(f"--{folder}", type=Path, metavar="FOLDER")
    parser.add_argument("--only", nargs="+", choices=CROPS, default=[*CROPS], metavar="NAME")
    parser.add_argument("--output", type=Path, default=Path("docs/figures"), metavar="FOLDER")
    options = parser.parse_args()
    for name in options.only:
        crop = CROPS[name]
        folder = vars(options)[crop.folder]
        if folder is None:
            continue
        path = folder / crop.file
        before = damaged_photograph(path) if crop.folder == "kodak" else planes_of(path)
        after = program(before, "auto", levels_of(before))
        picture(before, after, crop).save(options.output / f"damage_{name}.png", optimize=True)


if __name__ == "__main__":
    main()
