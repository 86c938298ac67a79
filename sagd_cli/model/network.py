"""The network of a run, built by its plug-in."""

import torch

from sagd_cli.config.run import BackboneConfig, RunConfig
from sagd_cli.diffusion.band_denoiser import MULTIPLE
from sagd_cli.errors import ConfigError
from sagd_cli.plugin.records import BackbonePlugin
from sagd_cli.plugin.registry import registry
from sagd_cli.spectral.grid import format_shape
from sagd_cli.spectral.noise import random_stream


def seen_shape(config: RunConfig, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of the network's input for images of `shape` = (C, *spatial).

    A network that restores has 2 C channels: the field outside the band, and the noisy field inside the band. It sees
    a window of the image, or the whole image with sides continued to multiples of 4. Raises ConfigError when the
    images are smaller than the window.
    """
    if config.restoration is None:
        return shape
    window = config.restoration.window
    if window is not None and window > min(shape[1:]):
        raise ConfigError(
            f"the window of {window} pixels is larger than the images, {format_shape(shape[1:])}",
            "Choose a smaller restoration.window, or null for whole images.",
        )
    sides = [side + -side % MULTIPLE if window is None else window for side in shape[1:]]
    return (2 * shape[0], *sides)


def build_backbone(config: BackboneConfig, shape: tuple[int, ...], classes: int = 0) -> torch.nn.Module:
    """Build the network for inputs of `shape` = (C, *spatial) with `classes` classes; 0 means without labels.

    Raises ConfigError when there are classes and the network takes none.
    """
    plugin: BackbonePlugin = registry().get("backbone", config.name)
    if classes and not plugin.takes_classes:
        takers = [n for n in registry().names("backbone") if registry().get("backbone", n).takes_classes]
        raise ConfigError(f"the backbone {config.name} takes no classes", f"Use {' or '.join(takers)}.")
    condition = (classes,) if classes else ()
    return plugin.load()(plugin.options.model_validate(config.options), shape, *condition)  # type: ignore[no-any-return]


def new_backbone(
    config: BackboneConfig, shape: tuple[int, ...], seed: int, classes: int = 0
) -> torch.nn.Module:
    """Build the network as `build_backbone` does, with initial weights that are a function of `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(random_stream("cpu", seed, "weights").initial_seed())
        return build_backbone(config, shape, classes)


def resolve_backbone(config: RunConfig, shape: tuple[int, ...]) -> RunConfig:
    """Return `config` with the network's defaults that depend on the size of its inputs (C, *spatial) filled in."""
    plugin: BackbonePlugin = registry().get("backbone", config.backbone.name)
    if plugin.resolve is None:
        return config
    options = plugin.load("resolve")(plugin.options.model_validate(config.backbone.options), shape)
    backbone = BackboneConfig(name=config.backbone.name, options=options.model_dump(mode="json"))
    return config.model_copy(update={"backbone": backbone})


def laid_out(network: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    """Return `network` in training mode; on CUDA, laid out channels last if it convolves images."""
    # On the CPU small networks are 5 % slower with it (docs/performance.md).
    if device.type == "cuda" and any(parameter.ndim == 4 for parameter in network.parameters()):
        network.to(memory_format=torch.channels_last)
    return network.train()
