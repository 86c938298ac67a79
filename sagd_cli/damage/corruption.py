"""Noise added to images: y = x + n, n with a known power spectrum (docs/theory.md, section 6)."""

from dataclasses import dataclass, replace
from functools import lru_cache
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sagd_cli.config.noise_spectrum import NoiseSpectrum
from sagd_cli.config.run import DatasetConfig
from sagd_cli.data.folders import (
    check_names,
    check_output_folder,
    collect,
    list_images,
    output_name,
)
from sagd_cli.data.image_writer import ImageWriter
from sagd_cli.data.images import Image
from sagd_cli.data.outcome import Outcome
from sagd_cli.data.ranges import Range, array_signal, image_pixels
from sagd_cli.data.writing import write_dataset
from sagd_cli.errors import UsageError
from sagd_cli.spectral.filter import SpectralFilter
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.noise import SpectralNoise, random_stream
from sagd_cli.system.console import Output


@dataclass(frozen=True)
class Corruption:
    """Noise of the power `spectrum` on the [-1, 1] range; `seed` decides what is drawn.

    `given` are the values of black, -1, and white, 1, in image files, where the user says them.
    """

    spectrum: NoiseSpectrum
    seed: int = 0
    given: Range | None = None

    def __post_init__(self) -> None:
        """Raise UsageError unless each part has a level that noise can have."""
        self.spectrum.check_told()
        for part in self.spectrum.parts:
            if part.level is None:
                raise UsageError(
                    f"the noise {part} has no strength", f"Add --strength 0.5, or write {part}:level=0.5."
                )
            if part.level == inf:
                raise UsageError(f"{part} is lost, and no noise to add", "For example --strength 0.5.")

    def noise(self, shape: tuple[int, ...], key: str | int) -> NDArray[np.float32]:
        """Draw the noise of an image of `shape` (C, *spatial), a function of the seed and `key`.

        Raises ConfigError when a part of the spectrum holds no frequency at this size.
        """
        stream = random_stream("cpu", self.seed, "corrupt", key)
        shaped, peak = _shaped_noise(self.spectrum, shape[1:])
        return np.asarray(peak * shaped.draw((1, *shape), stream)[0].numpy())

    def document(self) -> dict[str, Any]:
        """Return what a JSON object says of it; `band` and `strength` are null where they do not say all."""
        (first, *others), band = self.spectrum.parts, self.spectrum.band
        known = band is not None and not others
        return {
            "band": str(band) if known else None,
            "strength": first.level if known else None,
            "noise": str(self.spectrum),
        }


@lru_cache(maxsize=1)
def _shaped_noise(spectrum: NoiseSpectrum, shape: tuple[int, ...]) -> tuple[SpectralNoise, float]:
    """Return the noise with its largest weight made 1, and that weight; images of a set mostly have one shape."""
    grid = FrequencyGrid(shape)
    weight = np.sqrt(spectrum.power(grid))
    return SpectralNoise(SpectralFilter.from_weight(grid, weight, "peak")), float(weight.max())


def corrupt_files(
    corruption: Corruption, source: Path, folder: Path, clip: bool, force: bool, output: Output
) -> dict[str, Any]:
    """Add noise to the images of `source`, a folder or one file, and write them to `folder`; return the JSON object.

    The noise of an image is a function of the seed and of the name of its file, with its number in a stack. With
    `clip`, images are written in their own format and depth. Otherwise they are written as float TIFF, of 64 bits where
    the image has more than 32 hold: values outside the range survive, and y = x + n holds exactly. The range of such a
    file, which it states, is [0, 1] for integers that had that of their type; else it is the range of the source.
    Raises UsageError on a folder that cannot be written to.
    """
    paths = list_images(source)
    name = output_name if clip else _float_name
    names = check_names(paths, lambda path: [name(path)])
    check_output_folder(folder, names, force, [source])
    outcome = Outcome()
    images = collect(paths, corruption.given, output).trimmed()
    with output.progress("corrupt", len(images.places)) as bar, ImageWriter() as writer:
        for image in images.read(outcome, output, bar.advance):
            if outcome.has_frequencies(image, corruption.spectrum.units, output):
                target = folder / name(image.path)
                changed, pixels, clipped = _corrupted(corruption, image, clip)
                folder.mkdir(parents=True, exist_ok=True)
                writer.write(changed, pixels, target)
                record: dict[str, Any] = {
                    "input": str(image.path),
                    "output": str(target),
                    "range": image.values.ends,
                }
                record |= {} if image.page is None else {"page": image.page}
                outcome.files.append(record | ({"clipped": clipped} if clip else {}))
    found = {"files": outcome.done, "failed": outcome.failed}
    outcome.say_clipped(output)
    return {"output": str(folder), **corruption.document(), **found}


def _corrupted(corruption: Corruption, image: Image, clip: bool) -> tuple[Image, np.ndarray, float]:
    """Return the image to write, its pixels with noise, and the share of its values that were clipped."""
    before = image.signal
    signal = before + corruption.noise(before.shape, image.place.name)
    if clip:
        return image, image.changed(before, signal), image.clipped(signal)
    # 32 bits, or 64 where the image has more than those hold.
    kind, values = np.result_type(image.pixels.dtype, np.float32), image.float_values
    alpha = None if image.cover is None else image_pixels(2 * image.cover - 1, kind, Range(0, values.high))
    metadata = image.metadata if values == image.values else image.metadata.in_other_units()
    pixels = image_pixels(signal, kind, values)
    noisy = replace(image, pixels=pixels, alpha=alpha, range=values, metadata=metadata)
    return noisy, pixels, 0.0


def corrupt_dataset(
    corruption: Corruption, config: DatasetConfig, target: Path, force: bool, output: Output
) -> dict[str, Any]:
    """Add noise to a data set and write it to `target`, a .npy or .npz file of float32; return the JSON object.

    Images are on the [-1, 1] range and not clipped. The noise of an image is a function of the seed and the image's
    index. Raises UsageError and DataError as `write_dataset` does, ConfigError when the noise has no frequency.
    """

    def corrupted(index: int, image: NDArray[Any]) -> NDArray[np.float32]:
        return (array_signal(image) + corruption.noise(image.shape, index)).astype(np.float32)

    count, *shape = write_dataset(config, target, force, output, corrupted)
    return {"output": str(target), **corruption.document(), "count": count, "shape": shape}


def _float_name(path: Path) -> str:
    return f"{path.stem}.tiff"
