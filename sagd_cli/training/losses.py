"""Building the loss that a configuration asks for."""

import torch

from sagd_cli.config.run import RunConfig
from sagd_cli.config.trained_noise import NoiseContext, trained_noise
from sagd_cli.denoising.random_spectra import RandomSpectra
from sagd_cli.denoising.restoration_loss import RestorationLoss, Variety
from sagd_cli.diffusion.catalogue import PREDICTIONS
from sagd_cli.diffusion.loss import DiffusionLoss, Loss
from sagd_cli.diffusion.prediction import make_prediction
from sagd_cli.diffusion.process import ForwardProcess
from sagd_cli.diffusion.schedule import make_schedule
from sagd_cli.errors import ConfigError
from sagd_cli.model.learned_filter import LearnedNoise, LearnedNoiseLoss, LearnedProfile
from sagd_cli.model.network import side_multiple
from sagd_cli.spectral.band import ANY, RINGS
from sagd_cli.spectral.filter import SpectralFilter
from sagd_cli.spectral.grid import Array, FrequencyGrid
from sagd_cli.spectral.noise import SpectralNoise


def make_loss(
    config: RunConfig,
    spectral_filter: SpectralFilter,
    profile: LearnedProfile | None,
    power: Array,
    device: torch.device,
    context: NoiseContext | None = None,
) -> Loss:
    """Return the loss of a run on data with the power spectrum `power` (half spectrum).

    `context` says more of the noise of a run that restores. With a learned filter (`profile`), it is the whitened loss.
    Raises ConfigError when a learned filter comes with a prediction whose preconditioning needs
    the filter's weights.
    """
    schedule = make_schedule(config.schedule, device)
    if config.restoration is not None:
        return _restoration_loss(config, spectral_filter.grid.shape, device, context or NoiseContext())
    if profile is None:
        noise = SpectralNoise(spectral_filter, device)
        prediction = make_prediction(config.prediction, power, noise)
        return DiffusionLoss(ForwardProcess(schedule, noise), prediction, config.loss, config.blind)
    if PREDICTIONS[config.prediction].needs_filter:
        raise ConfigError(
            f"the prediction {config.prediction} depends on the filter's weights, which a learned filter changes",
            "Use --prediction edm.",
        )
    moving = LearnedNoise(profile.to(device), device)
    prediction = make_prediction(config.prediction, power, moving)
    smoothness = config.filter.options["smoothness"]
    return LearnedNoiseLoss(ForwardProcess(schedule, moving), prediction, smoothness=smoothness)


def _restoration_loss(
    config: RunConfig,
    shape: tuple[int, ...],
    device: torch.device,
    context: NoiseContext,
) -> RestorationLoss:
    """Return the loss of a run that learns to restore images of spatial `shape`, or crops of them.

    Noise is that of the whole images, also in crops of them.
    """
    wanted, crops = config.restoration, config.training.crops
    assert wanted is not None
    extent = context.extent or shape
    kinds = [
        band if band in (RINGS, ANY) else trained_noise(band, context.measured).of_crops(extent).power
        for band in wanted.bands
    ]
    spectra = RandomSpectra(kinds, wanted.strengths)
    varied = Variety(wanted.grey, wanted.paler, wanted.inverted, wanted.clipped)
    variety = None if varied == Variety() else varied
    smallest = (min(crops),) * len(shape) if crops else shape
    for power in kinds:  # noise that cannot be drawn is refused before anything is written
        if not isinstance(power, str):
            power(FrequencyGrid(smallest))
    return RestorationLoss(spectra, smallest, device, variety, wanted.damage, side_multiple(config))
