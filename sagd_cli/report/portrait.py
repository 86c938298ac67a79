"""What a report shows of a run: it is read from the folder of the run, or measured on samples that are drawn."""

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
from sagd_cli.data.ranges import to_bytes
from sagd_cli.datasets.alike import byte_images
from sagd_cli.design.radial_power import PowerAverage, RadialPower
from sagd_cli.errors import DataError, SagdError
from sagd_cli.evaluation.result import RESULTS, check_result
from sagd_cli.report.omissions import OmissionRecord, read_omission
from sagd_cli.run.folder import Run, open_run
from sagd_cli.run.log import read_records
from sagd_cli.run.manifest import CONFIG, PluginRecord
from sagd_cli.sampling.generator import ImageGenerator
from sagd_cli.spectral.annuli import Annuli
from sagd_cli.spectral.filter import SpectralFilter
from sagd_cli.spectral.grid import Array, FrequencyGrid
from sagd_cli.system.console import Output
from sagd_cli.system.files import read_json
from sagd_cli.system.yaml import dump_yaml, read_mapping

SHOWN, REPORT_BATCH = 64, 64
MOST_PIXELS = 700  # of the side of a contact sheet, or fewer images are shown
MOST_FIGURES = 6
LARGEST_RECORD = 20_000_000  # bytes

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Spectra:
    """Radial power of data, samples and noise, (K,) each, at `rho`.

    `data` is None when it is not known. `samples_se` is the standard error of the power of the `count` samples.
    """

    rho: Array
    noise: Array
    data: Array | None
    samples: Array
    samples_se: Array
    count: int


@dataclass
class Portrait:
    """A run as a report shows it; `missing` holds one sentence for each thing that is not there."""

    path: Path
    config: RunConfig
    records: list[dict[str, Any]] = field(default_factory=list)
    step: int | None = None
    filter: SpectralFilter | None = None
    initial_filter: SpectralFilter | None = None
    filter_document: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    plugins: list[PluginRecord] = field(default_factory=list)
    sheet: NDArray[np.uint8] | None = None
    spectra: Spectra | None = None
    results: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    omissions: list[OmissionRecord] = field(default_factory=list)
    figures: list[tuple[str, NDArray[np.uint8]]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @property
    def yaml(self) -> str:
        """Its configuration as YAML."""
        return dump_yaml(self.config.document())

    @property
    def command(self) -> str:
        """The command that trains it again, into a folder beside it."""
        again = self.path.with_name(f"{self.path.resolve().name}-again")
        return shlex.join(["sagd", "train", "--config", str(self.path / CONFIG), "--output", str(again)])

    def attempt(self, what: str, work: Callable[[], T]) -> T | None:
        """Return what `work` returns; when it fails, return None and say under `missing` that `what` is not there."""
        try:
            return work()
        except SagdError as error:
            self._miss(f"{what}: {error.message}")
        except Exception as error:  # files may hold anything, and the rest of the page is shown nevertheless
            self._miss(f"{what}: {type(error).__name__}: {error}")
        return None

    def _miss(self, sentence: str) -> None:
        if sentence not in self.missing:  # a page that is too large is laid out several times
            self.missing.append(sentence)


def portray(path: Path, device: torch.device, count: int, output: Output) -> Portrait:
    """Return what a report shows of the run `path`, with spectra of `count` samples.

    What is damaged or not there is listed in `missing`. Raises UsageError when the configuration cannot be read.
    """
    portrait = Portrait(path, validate(RunConfig, read_mapping(path / CONFIG), str(path / CONFIG)))
    portrait.records = portrait.attempt("the records of the training", lambda: read_records(path)) or []
    run = portrait.attempt("the checkpoint", lambda: open_run(path, output))
    if run is not None:
        _describe(portrait, run)
    if run is not None and run.config.restoration is None:  # a run that restores draws no images
        portrait.attempt("samples", lambda: _draw(portrait, run, device, count, output))
    _read_evaluation(portrait)
    for file in sorted((path / "figures").glob("*.png"))[:MOST_FIGURES]:
        pixels = portrait.attempt(f"the figure {file.name}", partial(_bytes_of, file))
        portrait.figures += [] if pixels is None else [(file.stem, pixels)]
    return portrait


def _describe(portrait: Portrait, run: Run) -> None:
    shape = run.shape[1:]
    portrait.step = run.checkpoint.step
    portrait.versions = dict(run.checkpoint.manifest.versions)
    portrait.plugins = list(run.checkpoint.manifest.plugins)
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
        pictures = byte_images(shown[: min(SHOWN, side**2)], f"the samples of {portrait.path}")
        sheet = contact_sheet(np.stack([*pictures]))
        factor = max(1, MOST_PIXELS // max(sheet.shape[1:]))
        portrait.sheet = sheet.repeat(factor, axis=1).repeat(factor, axis=2)
    else:
        portrait.missing.append("a grid of samples: they are not grey or RGB images")
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
    """Sort the files of the folder of results into results of `sagd fid` and records of `sagd omit`."""
    for file in sorted((portrait.path / RESULTS).glob("*.json")):
        portrait.attempt(f"{file.name} in {RESULTS}", partial(_read_record, portrait, file))


def _read_record(portrait: Portrait, file: Path) -> None:
    found = read_json(file, LARGEST_RECORD)
    if "receipt" in found:
        portrait.results.append((file.stem, check_result(found, file.name)))
        return
    omission = read_omission(file.stem, found)
    portrait.omissions.append(omission)
    if omission.lacks_images:
        raise DataError("its images are not where they were")


def _bytes_of(path: Path) -> NDArray[np.uint8]:
    return to_bytes(read_image(path).pixels)
