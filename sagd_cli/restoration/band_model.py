"""A network trained to tell noise in a band from images, as a denoiser (docs/theory.md, section 6.4)."""

from dataclasses import dataclass
from pathlib import Path

import torch

from sagd_cli.config.run import RestorationConfig
from sagd_cli.diffusion.band_denoiser import MULTIPLE, BandDenoiser, padded
from sagd_cli.diffusion.band_loss import NARROWEST_RING
from sagd_cli.diffusion.denoiser import as_network
from sagd_cli.diffusion.prediction import floored
from sagd_cli.diffusion.process import ForwardProcess
from sagd_cli.diffusion.schedule import make_schedule
from sagd_cli.errors import DataError, UsageError
from sagd_cli.model.model import Model
from sagd_cli.restoration.tiles import tiled
from sagd_cli.run.folder import open_run
from sagd_cli.spectral.band import RINGS, Band
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.noise import band_noise
from sagd_cli.system.console import Output

WINDOW_MULTIPLE = 16  # divides the sides of what a network trained on windows is given
# A model is used up to this factor outside its trained strengths; such an image counts as one at the nearest end.
STRENGTH_SLACK = 1.25


@dataclass(frozen=True)
class BandModel:
    """A model that tells noise in a band from images.

    It takes images of any size, unless it was trained on whole images.
    """

    model: Model

    def __post_init__(self) -> None:
        """Raise UsageError when the model was not trained to restore."""
        if self.model.config.restoration is None:
            raise UsageError(
                f"{self.name} was trained to make images, not to restore them",
                "Train one with `sagd train --restore BAND`, or keep one with `sagd omit --save-model RUN`.",
            )

    @property
    def name(self) -> str:
        """What messages call the model."""
        return self.model.name

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (C, h, w) of the fields the model was trained on."""
        return self.model.shape

    @property
    def settings(self) -> RestorationConfig:
        """The bands, strengths and window the model was trained for."""
        assert self.model.config.restoration is not None
        return self.model.config.restoration

    def check(self, band: Band, strengths: tuple[float, float]) -> None:
        """Raise UsageError when the model was not trained for `band`, or not for `strengths`.

        `strengths` are the least and the largest noise amplitude that are needed, on the [-1, 1] range.
        """
        bands = self.settings.bands
        known = {str(Band.parse(text)) for text in bands if text != RINGS}
        wide = [ring for ring in band.rings if ring.high - ring.low > NARROWEST_RING * (1 - 1e-9)]
        is_ring = len(band.parts) == len(wide) == 1
        if str(band) not in known and not (is_ring and RINGS in bands):
            raise UsageError(
                f"{self.name} was trained for the bands {', '.join(bands)}, not for {band}",
                "Give one of them, or another model.",
            )
        low, high = self.settings.strengths
        if strengths[0] < low / STRENGTH_SLACK or strengths[1] > high * STRENGTH_SLACK:
            raise UsageError(
                f"{self.name} was trained for strengths from {low:g} to {high:g}, and needed are "
                + " to ".join(f"{value:.3g}" for value in dict.fromkeys(strengths)),
                f"Train one with --set restoration.strengths=[{strengths[0]:.2g},{strengths[1]:.2g}].",
            )

    def check_level(self, level: float) -> None:
        """Raise DataError when the noise amplitude `level` of an image is above what the model was trained for."""
        high = self.settings.strengths[1]
        if level > high * STRENGTH_SLACK:
            raise DataError(
                f"its noise has the strength {level:.3g}, and {self.name} knows {high:.3g} at most",
                "Restore it with another --model, or without --per-image.",
            )

    def power_in(self, band: Band) -> float:
        """Return the mean over `band` of E |F x|^2 / N, the power spectrum of the training images."""
        grid = FrequencyGrid(self.shape[1:])
        mask = band.mask(grid)
        return grid.total(floored(self.model.moments["power"], grid) * mask) / grid.total(mask)

    def denoiser(self, band: Band, shape: tuple[int, ...]) -> BandDenoiser:
        """Return the denoiser of images with spatial `shape` and noise in `band`."""
        device = self.model.device
        process = ForwardProcess(
            make_schedule(self.model.config.schedule, device), band_noise(band, shape, device)
        )
        multiple = MULTIPLE if self.settings.window is None else WINDOW_MULTIPLE
        network = tiled(padded(as_network(self.model.network), multiple))
        return BandDenoiser(network, process, self.power_in(band))


def open_model(path: Path, device: torch.device, output: Output) -> BandModel:
    """Open the run of `sagd omit --save-model` or `sagd train --restore` at `path`.

    Raises UsageError when the run was not trained to restore, and what `open_run` raises.
    """
    return BandModel(open_run(path, output).model(device))
