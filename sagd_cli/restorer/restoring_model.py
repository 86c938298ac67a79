"""A network that was trained to remove noise from images, and the one in the package (docs/theory.md, section 9)."""

import json
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from sagd_cli.config.noise_spectrum import NoisePart, NoiseSpectrum
from sagd_cli.config.run import RestorationConfig, RunConfig
from sagd_cli.config.trained_noise import ring_strengths, strengths_of, trained_noise
from sagd_cli.config.validation import validate
from sagd_cli.damage.measured_noise import measured_hash
from sagd_cli.damage.strength import FINEST
from sagd_cli.denoising.image_law import image_power
from sagd_cli.denoising.planes import marked, to_planes
from sagd_cli.denoising.preconditioning import clipped_noise
from sagd_cli.denoising.random_spectra import LOST_LEVEL, NARROWEST_RING
from sagd_cli.denoising.sizes import of_planes, padded
from sagd_cli.denoising.spectral_denoiser import PATH_REACH, SpectralDenoiser
from sagd_cli.denoising.tiles import tiled
from sagd_cli.diffusion.denoiser import as_network
from sagd_cli.diffusion.prediction import Network
from sagd_cli.errors import UsageError
from sagd_cli.model.model import Model
from sagd_cli.model.network import build_backbone, seen_shape, side_multiple
from sagd_cli.run.folder import open_run
from sagd_cli.spectral.band import ANY, RINGS
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.noise import tensor_on
from sagd_cli.system.console import Output
from sagd_cli.system.devices import autocast_dtype

COMPARED_BITS = 18  # noises are compared at 2^18 frequencies
# A model is used up to this factor outside its trained strengths.
STRENGTH_SLACK = 1.25
ALL_CUT_OFF = 0.9  # share of the pixels from which on an image is one of black and white alone
PACKAGED, PACKAGED_NAME = Path(__file__).parent / "general.safetensors", "the restorer of the package"


@dataclass(frozen=True)
class RestoringModel:
    """A model that removes noise from images of any size, unless it was trained on whole images."""

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
        """Shape (C, h, w) of the images the model was trained on."""
        return self.model.shape

    @property
    def settings(self) -> RestorationConfig:
        """The noise the model was trained for."""
        assert self.model.config.restoration is not None
        return self.model.config.restoration

    @property
    def takes_crops(self) -> bool:
        """Whether it was trained on squares of images, and so serves images of any size."""
        return bool(self.model.config.training.crops)

    @property
    def takes_grey(self) -> bool:
        """Whether it restores grey images as such: it was trained on grey ones, or on some that were made grey."""
        return self.shape[0] == 1 or self.settings.grey > 0

    @property
    def knows_any_noise(self) -> bool:
        """Whether it was trained for noise of any spectrum and strength."""
        return ANY in self.settings.bands

    @property
    def network(self) -> Network:
        """The network, for planes (B, 4 C, H, W) of images of any size, of which it may have fewer than it knows."""
        module = self.model.network
        network = as_network(module, autocast_dtype("auto", self.model.device, module))
        return tiled(padded(of_planes(network, self.shape[0]), side_multiple(self.model.config)))

    def check(self, noise: NoiseSpectrum, walks_path: bool = False) -> None:
        """Raise UsageError when the model was not trained for `noise`, whose levels are known.

        With `walks_path` it needs to have been trained for all levels down to the end of a sample's path.
        """
        if self.knows_any_noise:
            return
        fitting = self._strengths(noise.merged)
        if not fitting:
            raise UsageError(
                f"{self.name} was trained for the bands {', '.join(self.settings.bands)}, "
                f"not for {(noise.band or noise).shown}",
                "Give one of them, or another model.",
            )
        errors = [self._misfit(strengths, walks_path) for strengths in fitting]
        if errors[0] is not None and None not in errors:
            raise errors[0]

    def check_measured(self, noise: NoiseSpectrum) -> None:
        """Raise UsageError when what was measured of `noise` is not what the model was trained for."""
        grid, trained = FrequencyGrid(self.shape[1:]), self.settings.measured
        if trained is not None and measured_hash(noise.merged, grid) != trained:
            raise UsageError(
                f"{self.name} was trained for other noise than what was measured now for {noise.shown}",
                "Give the images of noise, and the --range, that it was trained with, or train another model.",
            )

    @cached_property
    def _noises(self) -> list[NoiseSpectrum]:
        """The noises that it was trained for, but for random ones, at strength 1."""
        texts = dict.fromkeys(self.settings.bands)
        return [trained_noise(text).merged for text in texts if text not in (RINGS, ANY)]

    def _strengths(self, noise: NoiseSpectrum) -> list[list[float]]:
        """Return, for each noise trained for that `noise` may be, the least and the largest strength it has then."""
        ndim = len(self.shape) - 1
        grid = FrequencyGrid((2 ** (COMPARED_BITS // ndim),) * ndim)
        found = [strengths_of(noise, known, grid) for known in self._noises]
        ring = ring_strengths(noise, NARROWEST_RING, grid) if RINGS in self.settings.bands else None
        if ring is not None and ring[1] <= ring[0] * STRENGTH_SLACK**2:
            found.append(ring)
        return [[min(strength, LOST_LEVEL) for strength in pair] for pair in found if pair]

    def _misfit(self, strengths: list[float], walks_path: bool) -> UsageError | None:
        """Return what is wrong with these strengths of parts that were trained with one strength, or None."""
        low, high = self.settings.strengths
        level = max(strengths)
        end = FINEST if level >= LOST_LEVEL else max(FINEST, level / PATH_REACH)
        least = min(end, *strengths) if walks_path else min(strengths)
        if not (low / STRENGTH_SLACK <= least and level <= high * STRENGTH_SLACK):
            return UsageError(
                f"{self.name} was trained for strengths from {low:g} to {high:g}, and needed are "
                + " to ".join(f"{value:.3g}" for value in dict.fromkeys((least, level))),
                f"Train one with --set restoration.strengths=[{min(low, least):.2g},{max(high, level):.2g}].",
            )
        if level > min(strengths) * STRENGTH_SLACK**2:  # else some strength is near that of each part
            return UsageError(
                f"{self.name} was trained for one strength of all parts of {', '.join(self.settings.bands)}, "
                f"and needed are {min(strengths):.3g} to {level:.3g}",
                "Give levels in that proportion, or another model.",
            )
        return None

    def as_trained(self, noise: NoiseSpectrum) -> NoiseSpectrum:
        """Return the noise that a self-taught model was trained with, and what was measured of it in `noise`."""
        (known,), high = self._noises, self.settings.strengths[1]
        measured = {source: part.source for source, part in zip(noise.sources, noise.parts, strict=True)}
        parts = zip(known.sources, known.parts, strict=True)
        return NoiseSpectrum(
            tuple(
                NoisePart(measured.get(source, part.source), (part.level or 0.0) * high)
                for source, part in parts
            )
        )

    def denoiser(self, y: Tensor, noise: NoiseSpectrum, is_clipped: bool = False) -> SpectralDenoiser:
        """Return the denoiser of the planes of images `y` (B, C, H, W) with `noise`.

        `is_clipped`: pixels beyond black and white were cut off, which the model is told if it was trained so. Images
        of black and white alone, such as halftones, were not cut off.
        """
        shape, device = tuple(y.shape[2:]), self.model.device
        grid = FrequencyGrid(shape)
        power = tensor_on(device, noise.power(grid))[None, None]
        marks = None
        if is_clipped and self.settings.clipped:
            clipped = marked(y)
            share = clipped.abs().mean(dim=(1, 2, 3), keepdim=True)
            clipped, share = clipped * (share < ALL_CUT_OFF), share * (share < ALL_CUT_OFF)
            power, marks = clipped_noise(power, share.flatten(), grid), to_planes(clipped)
        damage, (_, high) = self.settings.damage, self.settings.strengths
        own = None if damage is None else power * (damage / high) ** 2
        return SpectralDenoiser(self.network, shape, power, image_power(to_planes(y), power, own), marks)


def open_model(path: Path, device: torch.device, output: Output) -> RestoringModel:
    """Open the run of `sagd omit --save-model` or `sagd train --restore` at `path`.

    Raises UsageError when the run was not trained to restore, and what `open_run` raises.
    """
    return RestoringModel(open_run(path, output).model(device))


@lru_cache(maxsize=1)
def packaged_model(device: torch.device) -> RestoringModel:
    """Return the restorer that comes with the package, on `device`: for grey and RGB images with any noise."""
    return packed_model(PACKAGED, device)


def packed_model(path: Path, device: torch.device) -> RestoringModel:
    """Return the model that `pack` wrote to `path`, on `device`."""
    with safe_open(path, "pt") as stored:
        about = json.loads(stored.metadata()["model"])
        weights = {name: stored.get_tensor(name).float() for name in stored.keys()}  # noqa: SIM118
    config = validate(RunConfig, about["config"], str(path))
    shape = tuple(about["shape"])
    network = build_backbone(config.backbone, seen_shape(config, shape))
    network.load_state_dict(weights)
    # Channels last, this network takes a sixth to a third less time, on the CPU as well.
    network = network.to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)
    white = config.filter.weights(shape[1:])
    return RestoringModel(
        Model(PACKAGED_NAME, config, network, 0, white, shape, np.dtype(np.uint8), None, {})
    )


def pack(model: Model, path: Path) -> None:
    """Write the averaged weights of a restoring model as float16, with its settings, to `path`."""
    config = model.config.document()
    # Where the images lay says nothing to others.
    config["dataset"]["options"] = {
        key: value for key, value in config["dataset"]["options"].items() if key not in ("path", "exclude")
    }
    about = {"config": config, "shape": list(model.shape)}
    weights = {name: value.half().contiguous() for name, value in model.network.state_dict().items()}
    save_file(weights, path, {"model": json.dumps(about, sort_keys=True)})
