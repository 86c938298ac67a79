"""The power spectrum of a data set, read image by image (docs/theory.md, section 7)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sagd_cli.config.arguments import parse_dataset
from sagd_cli.config.filter import FilterSource
from sagd_cli.data.ranges import array_signal
from sagd_cli.datasets.loading import ImageHash, stream_images
from sagd_cli.errors import DataError, UsageError
from sagd_cli.plugin.records import Images
from sagd_cli.spectral.grid import Array
from sagd_cli.spectral.spectrum import Spectrum, SpectrumAverage
from sagd_cli.system.console import Output

WINDOWS = ("hann", "none")
# Sides of the largest tile, by the number of axes: finer frequencies than these tell no more of natural images.
LARGEST_TILE = {1: 8192, 2: 1024, 3: 64}
LARGEST_VALUE = 1e100  # so that powers, and sums of them, stay finite


@dataclass(frozen=True, eq=False)
class Measurement:
    """A spectrum, and the data it was measured on, of which some images may have `failed`: they could not be read."""

    spectrum: Spectrum
    source: FilterSource
    failed: int = 0


@dataclass
class _Survey:
    """What the first reading of images finds.

    `count` is the number of those that can be read, `smallest` the smallest sides. `mean` is the mean image, None
    for images of several shapes.
    """

    images: Images
    data: str
    count: int
    sha256: str
    smallest: tuple[int, ...]
    mean: Array | None

    @property
    def failed(self) -> int:
        return len(self.images) - self.count

    def require_mean(self) -> Array:
        if self.mean is None:
            raise DataError(
                f"the images of {self.data} differ in size or colours, and this takes a mean image and whole fields",
                "`sagd data prepare DIR --size N --output FILE.npy` brings them to one size.",
            )
        return self.mean

    def source(self) -> FilterSource:
        return FilterSource(data=self.data, images=self.count, sha256=self.sha256)


def measure_diffused(data: str, output: Output, replicates: int = 0) -> Measurement:
    """Measure S as a diffusion sees it: of whole periodic fields about their mean image, DC included.

    `replicates` is the number of bootstrap replicates. Raises DataError when the images differ in shape, are not
    finite, or are all alike.
    """
    survey = _survey(data, output)
    mean = survey.require_mean()
    if survey.failed:
        raise DataError(
            f"{survey.failed} of {len(survey.images)} images of {data} cannot be read",
            "Mend them or take them away.",
        )
    if survey.count < 2:
        raise DataError(
            f"{data} holds one image: how images vary cannot be told from it", "Give several images."
        )
    average = SpectrumAverage(survey.smallest, hann=False, keep_mean=True, replicates=replicates)
    # The mean image is that of these very images: M of them vary about it like M - 1 about the true one.
    correction = np.sqrt(survey.count / (survey.count - 1))
    spectrum = _accumulate(survey, average, lambda signal: (signal - mean) * correction, output)
    # Equal images leave the rounding of their mean, whatever the unit of their values.
    rounding = survey.count * np.finfo(np.float64).eps * np.abs(mean).max()
    if spectrum.power.max() <= spectrum.grid.size * rounding**2:
        raise DataError(f"the images of {data} are all alike: they have no spectrum about their mean")
    # M images about their own mean are as many as M - 1 independent ones.
    independent = replace(spectrum, fields=spectrum.fields - 1)
    return Measurement(independent, survey.source())


def measure_texture(data: str, output: Output, window: str = "hann") -> Measurement:
    """Measure the spectrum of the content of images: of each image about its own mean.

    With the window `hann`, images of any size are covered by half-overlapping tiles, which are tapered against leakage
    from their borders. With `none`, images are taken as whole periodic fields of one size. Raises UsageError on another
    window, DataError on images that cannot be measured. Files that cannot be read are left out and counted.
    """
    if window not in WINDOWS:
        raise UsageError(f"unknown window {window!r}", f"Windows are {' and '.join(WINDOWS)}.")
    survey = _survey(data, output)
    if window == "none":
        survey.require_mean()
        average = SpectrumAverage(survey.smallest, hann=False)
    else:
        top = LARGEST_TILE[len(survey.smallest)]
        average = SpectrumAverage(tuple(min(side, top) for side in survey.smallest), hann=True)
    spectrum = _accumulate(survey, average, lambda signal: signal, output)
    return Measurement(spectrum, survey.source(), survey.failed)


def _survey(data: str, output: Output) -> _Survey:
    images = stream_images(parse_dataset(data))
    digest, shapes, total, count = ImageHash(len(images)), set[tuple[int, ...]](), np.zeros(()), 0
    with output.progress("read", len(images)) as bar:
        for index, image in enumerate(images):
            signal = _checked(image, index, data)
            digest.add(image)
            shapes.add(image.shape)
            total = total + signal if len(shapes) == 1 else total
            count = index + 1
            bar.advance()
    if not shapes:
        raise DataError(f"{data} holds no image")
    if len({len(shape) for shape in shapes}) > 1:
        raise DataError(f"the images of {data} differ in their number of axes")
    smallest = tuple(min(sides) for sides in zip(*(shape[1:] for shape in shapes), strict=True))
    mean = total / count if len(shapes) == 1 else None
    return _Survey(images, data, count, digest.hexdigest(), smallest, mean)


def _checked(image: NDArray[Any], index: int, data: str) -> Array:
    if not 2 <= image.ndim <= 4:
        raise DataError(f"image {index} of {data} has the shape {image.shape}, not (C, *spatial)")
    signal = array_signal(image)
    if not np.all(np.isfinite(signal)):
        raise DataError(
            f"image {index} of {data} holds values that are not finite", "Mend it or leave it out."
        )
    if np.abs(signal).max() > LARGEST_VALUE:
        raise DataError(f"image {index} of {data} holds values above {LARGEST_VALUE:g}", "Scale the images.")
    return signal


def _accumulate(
    survey: _Survey, average: SpectrumAverage, prepare: Callable[[Array], Array], output: Output
) -> Spectrum:
    with output.progress("spectrum", survey.count) as bar:
        for image in survey.images:
            average.add(prepare(array_signal(image)))
            bar.advance()
    return average.result()
