"""Noise confined to a band, added to images (MATH: 6., y = x + gamma eps_B)."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sagd_cli.config.run import DatasetConfig
from sagd_cli.data.folders import (
    Outcome,
    check_names,
    check_output_folder,
    input_files,
    output_name,
    read_all,
)
from sagd_cli.data.images import Image, write_image
from sagd_cli.data.ranges import array_signal, image_pixels, image_signal
from sagd_cli.data.writing import write_dataset
from sagd_cli.errors import UsageError
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.noise import band_noise, random_stream
from sagd_cli.system.console import Output


def corrupt_files(
    source: Path,
    band: Band,
    strength: float,
    seed: int,
    folder: Path,
    clip: bool,
    force: bool,
    output: Output,
) -> dict[str, Any]:
    """Add noise of amplitude `strength` (on the [-1, 1] range) in `band` to the images of `source`.

    The noise of a file is a function of (seed, its name). Unless `clip`, images are written as 32-bit float
    TIFF, so that values outside [0, 1] survive and y = x + gamma eps_B holds exactly. Returns the JSON object.
    """
    _check_strength(strength)
    paths = input_files(source)
    name = output_name if clip else _float_name
    names = check_names(paths, lambda path: [name(path)])
    check_output_folder(folder, names, force, [source])
    outcome = Outcome()
    with output.progress("corrupt", len(paths)) as bar:
        for image in read_all(paths, outcome, output):
            bar.advance()
            if not outcome.has_band(image, band, output):
                continue
            signal = torch.from_numpy(image_signal(image.pixels))[None]
            noise = band_noise(band, tuple(signal.shape[2:]))
            stream = random_stream("cpu", seed, "corrupt", image.path.name)
            corrupted = (signal + strength * noise.draw(signal.shape, stream))[0].numpy()
            folder.mkdir(parents=True, exist_ok=True)
            target = folder / name(image.path)
            _write(image, corrupted, target, clip)
            outcome.files.append({"input": str(image.path), "output": str(target)})
    return {
        "output": str(folder),
        "band": str(band),
        "strength": strength,
        "files": outcome.files,
        "failed": outcome.failed,
    }


def corrupt_dataset(
    config: DatasetConfig,
    band: Band,
    strength: float,
    seed: int,
    target: Path,
    force: bool,
    output: Output,
) -> dict[str, Any]:
    """Add the noise of `corrupt_files` to a data set and write it to `target`, a .npy or .npz file of float32.

    Images are on the [-1, 1] range and not clipped; the noise of one is a function of (seed, its index). Returns the
    JSON object. Raises UsageError and DataError as `write_dataset` does, ConfigError when the band holds no frequency.
    """
    _check_strength(strength)
    noise_of = cache(lambda shape: band_noise(band, shape))

    def corrupt(index: int, image: NDArray[Any]) -> NDArray[np.float32]:
        stream = random_stream("cpu", seed, "corrupt", index)
        noise = noise_of(image.shape[1:]).draw((1, *image.shape), stream)[0]
        return (array_signal(image) + strength * noise.numpy()).astype(np.float32)

    count, *shape = write_dataset(config, target, force, output, corrupt)
    return {"output": str(target), "band": str(band), "strength": strength, "count": count, "shape": shape}


def _check_strength(strength: float) -> None:
    if not 0 < strength < float("inf"):
        raise UsageError(
            f"the strength must be positive and finite, not {strength:g}", "For example --strength 0.5."
        )


def _float_name(path: Path) -> str:
    return f"{path.stem}.tiff"


def _write(image: Image, signal: np.ndarray, target: Path, clip: bool) -> None:
    if clip:
        write_image(image, image_pixels(signal, image.pixels.dtype), target)
        return
    alpha = None if image.alpha is None else (image_signal(image.alpha) + 1) / 2
    pixels = image_pixels(signal, np.dtype(np.float32))
    write_image(Image(pixels, alpha, image.path), pixels, target)
