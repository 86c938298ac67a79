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
from sagd_cli.damage.measured_noise import noise_files, noise_setting
from sagd_cli.data.folders import (
    check_names,
    check_output_folder,
    collect,
    list_images,
    output_name,
)
from sagd_cli.data.image_writer import ImageWriter
from sagd_cli.data.images import Image
from sagd_cli.data.journal import (
    Journal,
    SettingText,
    WrittenImage,
    file_state,
    journal_in,
    setting,
    told,
)
from sagd_cli.data.outcome import Outcome
from sagd_cli.data.ranges import Range, array_signal, image_pixels
from sagd_cli.datasets.writing import write_dataset
from sagd_cli.errors import UsageError
from sagd_cli.spectral.filter import SpectralFilter
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.noise import SpectralNoise, random_stream
from sagd_cli.system.console import Output
from sagd_cli.system.files import sole_user
from sagd_cli.system.signals import stop_at_once


@dataclass(frozen=True)
class Corruption:
    """Noise of the power `spectrum` on the [-1, 1] range; `seed` decides what is drawn.

    `given` are the values of black, -1, and white, 1, in image files, where the user says them. With `clip`, image
    files keep their format and depth.
    """

    spectrum: NoiseSpectrum
    seed: int = 0
    given: Range | None = None
    clip: bool = False

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

    def name_for(self, path: Path) -> str:
        """Return the name of the file that is written for an image file."""
        return output_name(path) if self.clip else f"{path.stem}.tiff"

    @property
    def settings(self) -> dict[str, SettingText]:
        """What decides the noise and the files, by its options."""
        given = {"--seed": self.seed, "--range": self.given, "--clip": self.clip or None}
        found = {option: setting(option, value) for option, value in given.items() if value is not None}
        return {"--noise": noise_setting(self.spectrum), **found}

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
    corruption: Corruption, source: Path, folder: Path, force: bool, output: Output
) -> dict[str, Any]:
    """Add noise to the images of `source`, a folder or one file, and write them to `folder`; return the JSON object.

    The noise of an image is a function of the seed and of the name of its file, with its number in a stack. Images that
    are not clipped are written as float TIFF, of 64 bits where the image has more than 32 hold: values outside the
    range survive, and y = x + n holds exactly. The range of such a file, which it states, is [0, 1] for integers that
    had that of their type; else it is the range of the source. The same command goes on where one was stopped. Raises
    UsageError on a folder that cannot be written to, and when another process writes there. Raises Interrupted when a
    signal asks to stop.
    """
    place = folder.resolve()
    workspace = place.with_name(f".{place.name}-corruption")
    with stop_at_once(lambda: journal_in(workspace)), sole_user(workspace):
        return _corrupt_files(corruption, source, folder, workspace, force, output)


def _corrupt_files(
    corruption: Corruption, source: Path, folder: Path, workspace: Path, force: bool, output: Output
) -> dict[str, Any]:
    paths = list_images(source)
    if not force and not journal_in(workspace):  # before the long look at all files
        check_output_folder(folder, (), force, [source])
    names = check_names(paths, lambda path: [corruption.name_for(path)])
    settings = {"INPUT": setting("INPUT", source), **corruption.settings}
    known = told(settings, {path: [path] for path in paths}, noise_files(corruption.spectrum))
    journal = Journal.opened(workspace, folder, [paths[0].parent], known, force)
    check_output_folder(folder, names, force or journal.measured is not None, [source])
    images = collect(paths, corruption.given, output, journal.seen)
    seen, images = [image.place for image in images.some], images.trimmed()
    if journal.done:
        output.note(f"{len(journal.done)} of {len(images.places)} images were corrupted before")
    journal.begin({}, seen, folder)
    outcome = Outcome([one.record for one in journal.done])
    with (
        output.progress("corrupt", len(images.places), len(journal.done)) as bar,
        ImageWriter(journal.folder if journal.writes else None, journal.begun) as writer,
    ):
        for run in journal.left(images.places):
            for image in replace(images, places=run).read(outcome, output, bar.advance):
                if outcome.has_frequencies(image, corruption.spectrum.units, output):
                    written = _written(corruption, image, folder, writer)
                    outcome.files.append(written.record)
                    journal.add([written])
    journal.end(bool(outcome.failed), output)
    outcome.say_clipped(output)
    return {"output": str(folder), **corruption.document(), "files": outcome.done, "failed": outcome.failed}


def _written(corruption: Corruption, image: Image, folder: Path, writer: ImageWriter) -> WrittenImage:
    """Add noise to an image and write it."""
    target = folder / corruption.name_for(image.path)
    changed, pixels, clipped = _corrupted(corruption, image)
    folder.mkdir(parents=True, exist_ok=True)
    state = file_state(target) if writer.write(changed, pixels, target) else None
    record: dict[str, Any] = {"input": str(image.path), "output": str(target), "range": image.values.ends}
    record |= {} if image.page is None else {"page": image.page}
    record |= {"clipped": clipped} if corruption.clip else {}
    return WrittenImage(str(image.path), image.page, record, {str(target): state})


def _corrupted(corruption: Corruption, image: Image) -> tuple[Image, np.ndarray, float]:
    """Return the image to write, its pixels with noise, and the share of its values that were clipped."""
    before = image.signal
    signal = before + corruption.noise(before.shape, image.place.name)
    if corruption.clip:
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
