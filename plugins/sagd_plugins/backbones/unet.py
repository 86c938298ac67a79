"""U-Net (diffusers' UNet2DModel) with widths chosen by image size."""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pydantic import Field

from sagd_cli.errors import ConfigError
from sagd_cli.plugin import BackbonePlugin, Options, hookimpl

if TYPE_CHECKING:
    from torch import nn


class UNetOptions(Options):
    """Architecture. An option that is None is chosen by the size of the images."""

    channels: tuple[int, ...] | None = Field(
        None, description="Width of each resolution, each a multiple of 8."
    )
    layers_per_block: int | None = Field(None, ge=1, description="Residual blocks per resolution.")
    attention: tuple[bool, ...] | None = Field(None, description="Self-attention at each resolution.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout in the residual blocks.")
    patch: int = Field(1, ge=1, description="Side of the squares of pixels that are folded into channels.")


# Largest side: (widths, residual blocks, attention). The first two are small enough to train on a CPU.
_PRESETS: tuple[tuple[int, tuple[tuple[int, ...], int, tuple[bool, ...]]], ...] = (
    (16, ((32, 64), 1, (False, False))),
    (28, ((32, 64, 64), 1, (False, False, False))),
    (32, ((128, 256, 256, 256), 2, (False, True, False, False))),  # the DDPM network for CIFAR-10
    (64, ((128, 256, 256, 512), 2, (False, False, True, False))),
    (1 << 30, ((128, 128, 256, 256, 512, 512), 2, (False, False, False, False, True, False))),
)


def resolve(options: UNetOptions, shape: tuple[int, ...]) -> UNetOptions:
    """Return the options with those filled in that depend on the size of the images, `shape` = (C, H, W)."""
    preset = next(values for side, values in _PRESETS if max(shape[1:]) <= side)
    channels = options.channels or preset[0]
    attention = options.attention or (
        preset[2] if len(channels) == len(preset[2]) else (False,) * len(channels)
    )
    return options.model_copy(
        update={
            "channels": channels,
            "layers_per_block": options.layers_per_block or preset[1],
            "attention": attention,
        }
    )


def _norm_groups(channels: tuple[int, ...]) -> int:
    """Return the number of groups of channels that are normalised together.

    It is the largest number that divides every width and 32 in wide networks, or 8 in others.
    """
    if min(channels) < 16:
        return 2  # Normalising a single channel would remove the time and the class that are added to it.
    return math.gcd(32 if min(channels) >= 128 else 8, *channels)


def build(options: UNetOptions, shape: tuple[int, ...], classes: int = 0) -> "nn.Module":
    """Build the network for images of `shape` = (C, H, W), labelled if there are `classes`.

    Raises ConfigError when they do not fit.
    """
    from diffusers import UNet2DModel

    from sagd_plugins.backbones._normalised import normalised_in_own_type

    o = resolve(options, shape)
    channels, attention, layers = o.channels or (), o.attention or (), o.layers_per_block or 1
    if len(shape) != 3:
        raise ConfigError(f"the backbone unet takes images (C, H, W), not fields of shape {shape}")
    stride = o.patch * 2 ** (len(channels) - 1)
    if any(side % stride for side in shape[1:]):
        raise ConfigError(
            f"the backbone unet needs sides divisible by {stride}, not {shape[1]}x{shape[2]}",
            "Resize the images, or give it fewer resolutions with --set backbone.options.channels=[32,64].",
        )
    if len(attention) != len(channels):
        raise ConfigError("backbone unet: attention and channels must have the same length")
    if not channels or any(width < 8 or width % 8 for width in channels):
        raise ConfigError(f"backbone unet: channels must be multiples of 8, not {list(channels)}")
    network: nn.Module = UNet2DModel(
        sample_size=tuple(side // o.patch for side in shape[1:]),
        in_channels=shape[0] * o.patch**2,
        out_channels=shape[0] * o.patch**2,
        layers_per_block=layers,
        block_out_channels=channels,
        down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attention),
        up_block_types=tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attention)),
        norm_num_groups=_norm_groups(channels),
        attention_head_dim=min(64, *channels),
        add_attention=any(attention),
        dropout=o.dropout,
        num_class_embeds=classes + 1 if classes else None,
    )
    network = normalised_in_own_type(network)
    if o.patch == 1:
        return network
    from sagd_plugins.backbones._folded import Folded

    return Folded(network, o.patch)


@hookimpl
def sagd_backbones() -> Iterable[BackbonePlugin]:
    """Provide `unet`."""
    yield BackbonePlugin(
        "unet",
        "U-Net sized to the images (diffusers UNet2DModel)",
        UNetOptions,
        build,
        resolve,
        takes_classes=True,
    )
