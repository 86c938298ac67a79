"""DiT, the diffusion transformer (Peebles & Xie 2212.09748; diffusers' DiTTransformer2DModel)."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pydantic import Field

from sagd_cli.errors import ConfigError
from sagd_cli.plugin import BackbonePlugin, Options, hookimpl

if TYPE_CHECKING:
    from torch import nn


class DiTOptions(Options):
    """Architecture; the defaults are small, DiT-S is depth 12, heads 6, head_width 64."""

    patch: int = Field(2, ge=1, description="Side of a patch in pixels.")
    depth: int = Field(6, ge=1, description="Transformer blocks.")
    heads: int = Field(4, ge=1, description="Attention heads.")
    head_width: int = Field(32, ge=8, description="Width of a head.")


def build(options: DiTOptions, shape: tuple[int, ...], classes: int = 0) -> "nn.Module":
    """Build the network for square images of `shape` = (C, S, S); raise ConfigError when they do not fit."""
    from diffusers import DiTTransformer2DModel

    from sagd_plugins.backbones._conditioned import DiT

    if len(shape) != 3 or shape[1] != shape[2] or shape[1] % options.patch:
        raise ConfigError(
            f"the backbone dit takes square images whose side is divisible by {options.patch}, not fields of {shape}"
        )
    return DiT(
        DiTTransformer2DModel(
            num_attention_heads=options.heads,
            attention_head_dim=options.head_width,
            in_channels=shape[0],
            out_channels=shape[0],
            num_layers=options.depth,
            sample_size=shape[1],
            patch_size=options.patch,
            num_embeds_ada_norm=max(classes, 1),
        )
    )


@hookimpl
def sagd_backbones() -> Iterable[BackbonePlugin]:
    """Provide `dit`."""
    yield BackbonePlugin(
        "dit",
        "diffusion transformer (diffusers DiTTransformer2DModel)",
        DiTOptions,
        build,
        takes_classes=True,
    )
