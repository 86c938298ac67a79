"""What there is to say of a run: read from its folder, and samples drawn from it, for a report."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from sagd_cli.config.run import RunConfig
from sagd_cli.config.validation import validate
from sagd_cli.data.images import contact_sheet, read_image
from sagd_cli.data.ranges import image_pixels, image_signal
from sagd_cli.design.radial_power import PowerAverage, RadialPower
from sagd_cli.errors import DataError, SagdError
from sagd_cli.evaluation.result import check_result
from sagd_cli.run.folder import Run, open_run
from sagd_cli.run.log import read_records
from sagd_cli.run.manifest import CONFIG
from sagd_cli.sampling.generator import ImageGenerator
from sagd_cli.spectral.annuli import Annuli
from sagd_cli.spectral.filter import SpectralFilter
from sagd_cli.spectral.grid import Array, FrequencyGrid
from sagd_cli.system.console import Output
from sagd_cli.system.files import read_json
from sagd_cli.system.yaml import dump_yaml, read_mapping

SHOWN, REPORT_BATCH = 64, 64
MOST_PIXELS = 700  # of the side of a contact sheet, or fewer images are shown
MOST_PAIRS, MOST_FIGURES = 4, 6
LARGEST_RECORD = 20_000_000  # bytes

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Spectra:
    """Radial power of data, samples and noise, (K,) each, at `rho`; None where that of the data is not known.

    `samples_se` is the standard error of that of the `count` samples.
    """

    rho: Array
    noise: Array
    data: Array | None
    samples: Array
    samples_se: Array
    count: int


@dataclass(frozen=True, eq=False)
class RestoredPair:
    """An image before and after an omission, uint8 (C, H, W), with its record."""

    record: dict[str, Any]
    before: NDArray[np.uint8]
    after: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class OmissionRecord:
    """The JSON object of a `sagd omit`, by the name of its file, and some of its images."""

    name: str
    result: dict[str, Any]
    images: list[RestoredPair]


@dataclass
class Portrait:
    """A run as a report shows it; `missing` says what could not be had, a sentence each."""

    path: Path
    config: RunConfig
    records: list[dict[str, Any]] = field(default_factory=list)
    step: int | None = None
    filter: SpectralFilter | None = None
    initial_filter: SpectralFilter | None = None
    filter_document: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    plugins: list[dict[str, str]] = field(default_factory=list)
    sheet: NDArray[np.uint8] | None = None
    spectra: Spectra | None = None
    results: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    omissions: list[OmissionRecord] = field(default_factory=list)
    figures: list[tuple[str, NDArray[np.uint8]]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @property
    def yaml(self) -> str:
        """Its configuration."""
        return dump_yaml(self.config.document())

    @property
    def command(self) -> str:
        """What trains it again, into a folder beside it."""
        again = self.path.with_name(f"{self.path.resolve().name}-again")
        return shlex.join(["sagd", "train", "--config", str(self.path / CONFIG), "--output", str(again)])

    def attempt(self, what: str, work: Callable[[], T]) -> T | None:
        """Return what `work` returns; where it fails, None, and say so under `missing`."""
        try:
            return work()
        except SagdError as error:
            self._miss(f"{what}: {error.message}")
        except Exception as error:  # files may hold anything, and the rest of the page is worth having
            self._miss(f"{what}: {type(error).__name__}: {error}")
        return None

    def _miss(self, sentence: str) -> None:
        if sentence not in self.missing:  # a page that is too large is laid out again
            self.missing.append(sentence)


def portray(path: Path, device: torch.device, count: int, output: Output) -> Portrait:
    """Return what there is to say of a run, with spectra of `count` samples.

    What is damaged or not there is listed in `missing`. Raises UsageError when `path` is no run at all.
    """
    portrait = Portrait(path, validate(RunConfig, read_mapping(path / CONFIG), str(path / CONFIG)))
    portrait.records = portrait.attempt("the records of the training", lambda: read_records(path)) or []
    run = portrait.attempt("the checkpoint", lambda: open_run(path, output))
    if run is not None:
        _describe(portrait, run)
    if run is not None and run.config.restoration is None:  # others make no images
        portrait.attempt("samples", lambda: _draw(portrait, run, device, count, output))
    _read_evaluation(portrait)
    for file in sorted((path / "figures").glob("*.png"))[:MOST_FIGURES]:
        pixels = portrait.attempt(f"the figure {file.name}", partial(_bytes_of, file))
        portrait.figures += [] if pixels is None else [(file.stem, pixels)]
    return portrait


def _describe(portrait: Portrait, run: Run) -> None:
    shape = run.shape[1:]
    portrait.step = run.checkpoint.step
    portrait.versions = dict(run.checkpoint.manifest["versions"])
    portrait.plugins = list(run.checkpoint.manifest["plugins"])
    portrait.filter_document = run.filter.document()
    portrait.filter = run.filter.weights(shape)
    if run.filter != portrait.config.filter:
        portrait.initial_filter = portrait.config.filter.weights(shape)


def _draw(portrait: Portrait, run: Run, device: torch.device, count: int, output: Output) -> None:
    """Draw samples; show some of them and measure the spectra of all."""
    model = run.model(device)
    generator = ImageGenerator(model, run.config.sampling)
    average, shown = PowerAverage(run.shape), list[NDArray[Any]]()
    for _, images in generator.batches(range(count), REPORT_BATCH, output):
        for image in images:
            average.add(image)
        shown += [*images] if len(shown) < SHOWN else []
    if model.is_drawable:
        side = max(1, MOST_PIXELS // max(48, *run.shape[1:]))
        sheet = contact_sheet(np.stack(shown[: min(SHOWN, side**2)]))
        factor = max(1, MOST_PIXELS // max(sheet.shape[1:]))
        portrait.sheet = sheet.repeat(factor, axis=1).repeat(factor, axis=2)
    else:
        portrait.missing.append("a grid of samples: they are no grey or RGB images")
    data = model.moments.get("power_about_mean")
    portrait.spectra = _spectra(model.filter, data, average.result(), count)


def _spectra(
    spectral_filter: SpectralFilter, data: Array | None, samples: RadialPower, count: int
) -> Spectra:
    annuli = Annuli(FrequencyGrid(spectral_filter.grid.shape))
    noise = annuli.mean(spectral_filter.weight**2)
    known = None if data is None else annuli.mean(data)
    return Spectra(annuli.rho, noise, known, samples.annuli, samples.annuli_se, count)


def _read_evaluation(portrait: Portrait) -> None:
    """Sort what is in the folder `evaluation` into results of `sagd fid` and of `sagd omit`."""
    for file in sorted((portrait.path / "evaluation").glob("*.json")):
        portrait.attempt(f"{file.name} in evaluation", partial(_read_record, portrait, file))


def _read_record(portrait: Portrait, file: Path) -> None:
    found = read_json(file, LARGEST_RECORD)
    if "receipt" in found:
        portrait.results.append((file.stem, check_result(found, file.name)))
        return
    if not (isinstance(found.get("files"), list) and isinstance(found.get("band"), str)):
        raise DataError("it is no result of sagd fid or sagd omit")
    omission = OmissionRecord(file.stem, found, _restored(found["files"]))
    portrait.omissions.append(omission)
    if found["files"] and not omission.images:
        raise DataError("its images are not where they were")


def _restored(files: list[Any]) -> list[RestoredPair]:
    """The first images of an omission that are still where they were."""
    found: list[RestoredPair] = []
    for record in files:
        if len(found) == MOST_PAIRS:
            break
        try:
            found.append(
                RestoredPair(record, _bytes_of(Path(record["input"])), _bytes_of(Path(record["output"])))
            )
        except (SagdError, KeyError, TypeError):
            continue
    return found


def _bytes_of(path: Path) -> NDArray[np.uint8]:
    pixels = read_image(path).pixels
    return pixels if pixels.dtype == np.uint8 else image_pixels(image_signal(pixels), np.dtype(np.uint8))
