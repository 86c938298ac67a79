"""The network of a run, built by its plug-in."""

import torch

from sagd_cli.config.run import BackboneConfig, RunConfig
from sagd_cli.denoising.preconditioning import INPUTS
from sagd_cli.errors import ConfigError
from sagd_cli.plugin.records import BackbonePlugin
from sagd_cli.plugin.registry import registry
from sagd_cli.spectral.grid import format_shape
from sagd_cli.spectral.noise import random_stream


def seen_shape(config: RunConfig, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of the network's input for images of `shape` = (C, *spatial).

    With `training.crops` it sees squares of the images. A network that restores has 4 C channels, and sides that are
    continued to multiples of `side_multiple`. Raises ConfigError when the images are smaller than the squares.
    """
    crops = config.training.crops
    if crops and (len(shape) != 3 or max(crops) > min(shape[1:])):
        raise ConfigError(
            f"squares of {max(crops)} pixels cannot be cut from images of {format_shape(shape[1:])}",
            "Choose smaller training.crops, or none for whole images.",
        )
    sides = (max(crops),) * 2 if crops else shape[1:]
    if config.restoration is None:
        return (shape[0], *sides)
    multiple = side_multiple(config)
    return (INPUTS * shape[0], *(side + -side % multiple for side in sides))


def side_multiple(config: RunConfig) -> int:
    """Return the number that divides the sides of what a network that restores is given."""
    return 16 if config.training.crops else 4


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
