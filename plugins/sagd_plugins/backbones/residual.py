"""A plain residual U-Net without normalisation and without time: for networks that restore images."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pydantic import Field

from sagd_cli.errors import ConfigError
from sagd_cli.plugin import BackbonePlugin, Options, hookimpl

if TYPE_CHECKING:
    from torch import nn


class ResidualOptions(Options):
    """Architecture."""

    channels: tuple[int, ...] = Field(
        (40, 80, 96, 112), min_length=1, description="Width of each resolution."
    )
    blocks: int = Field(
        2, ge=1, description="Residual blocks per resolution, on the way down and on the way up."
    )
    patch: int = Field(2, ge=1, description="Side of the squares of pixels that are folded into channels.")


def build(options: ResidualOptions, shape: tuple[int, ...], classes: int = 0) -> "nn.Module":
    """Build the network for images of `shape` = (C, H, W); raise ConfigError when their sides do not fit."""
    stride = options.patch * 2 ** (len(options.channels) - 1)
    if len(shape) != 3 or any(side % stride for side in shape[1:]):
        raise ConfigError(
            f"the backbone residual takes images with sides divisible by {stride}, not fields of shape {shape}"
        )
    from sagd_plugins.backbones._folded import Folded
    from sagd_plugins.backbones._residual import ResidualUNet

    return Folded(ResidualUNet(shape[0] * options.patch**2, options.channels, options.blocks), options.patch)


@hookimpl
def sagd_backbones() -> Iterable[BackbonePlugin]:
    """Provide `residual`."""
    yield BackbonePlugin(
        "residual", "residual U-Net without normalisation and time, to restore images", ResidualOptions, build
    )
