"""DINOv2 (Oquab et al. 2304.07193): features of FD-DINOv2 (Stein et al. 2306.04675), as EDM2 has it.

torch-fidelity's own extractor takes code and weights from torch's hub, over the network, and refuses a file. This is
the same network: torchvision's transformer with DINOv2's weights. DINOv2 scales what each block adds by a learned
vector; here it is part of the block's last weights, which is the same function.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from sagd_cli.plugin import FeaturePlugin, Options, hookimpl
from sagd_plugins.features._weights import given_weights, other_weights, read_weights

if TYPE_CHECKING:
    from torch import Tensor, nn

SOURCE = "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth"
SIZE, PATCH, HEAD = 224, 14, 64  # pixels of the image and of a patch, channels of an attention head
OFFSET = 0.1  # that DINOv2 adds to the number of patches when it resizes the embedding of their positions
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class DinoOptions(Options):
    """Where the weights are; they are never downloaded."""

    weights: Path | None = Field(
        None,
        description="Meta's dinov2_vit{s,b,l}14_pretrain.pth (EDM2 takes l), or the same as .safetensors.",
    )


def build(options: DinoOptions, layers: tuple[str, ...]) -> "nn.Module":
    """Return the network; raise UsageError without weights, DataError when they do not fit."""
    import torch
    from torch import nn
    from torchvision.transforms.functional import normalize

    path = given_weights(options.weights, "dinov2", "DINOv2", SOURCE)
    state = read_weights(path, SOURCE)
    try:
        transformer = _transformer(state)
    except (RuntimeError, KeyError, AttributeError, TypeError, ValueError, AssertionError) as error:
        raise other_weights(path, "a DINOv2 of patches of 14 (ViT-S, -B or -L)", error, SOURCE) from None

    class Features(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.transformer = transformer

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor]:
            resized = nn.functional.interpolate(images.float(), (SIZE, SIZE), mode="bicubic", antialias=True)
            return (self.transformer(normalize(resized / 255, MEAN, DEVIATION)),)

    return Features().requires_grad_(False)


def _transformer(state: "Mapping[str, Tensor]") -> "nn.Module":
    """Return the transformer with the weights `state`, which keep Meta's names; raise what does not fit."""
    from torch import nn
    from torchvision.models import VisionTransformer

    width, blocks = state["cls_token"].shape[-1], sum(key.endswith(".ls1.gamma") for key in state)
    network: nn.Module = VisionTransformer(SIZE, PATCH, blocks, width // HEAD, width, 4 * width)
    network.heads = nn.Identity()
    network.load_state_dict(_renamed(state, blocks))
    return network


def _renamed(state: "Mapping[str, Tensor]", blocks: int) -> "dict[str, Tensor]":
    """Return DINOv2's weights under torchvision's names; raise KeyError when one is missing."""
    found = {
        "class_token": state["cls_token"],
        "encoder.pos_embedding": _positions(state["pos_embed"]),
        "conv_proj.weight": state["patch_embed.proj.weight"],
        "conv_proj.bias": state["patch_embed.proj.bias"],
        "encoder.ln.weight": state["norm.weight"],
        "encoder.ln.bias": state["norm.bias"],
    }
    for k in range(blocks):
        ours, theirs = f"encoder.layers.encoder_layer_{k}", f"blocks.{k}"
        for kind in ("weight", "bias"):
            attended, mixed = (state[f"{theirs}.{name}.{kind}"] for name in ("attn.proj", "mlp.fc2"))
            found |= {
                f"{ours}.ln_1.{kind}": state[f"{theirs}.norm1.{kind}"],
                f"{ours}.ln_2.{kind}": state[f"{theirs}.norm2.{kind}"],
                f"{ours}.self_attention.in_proj_{kind}": state[f"{theirs}.attn.qkv.{kind}"],
                f"{ours}.self_attention.out_proj.{kind}": _scaled(attended, state[f"{theirs}.ls1.gamma"]),
                f"{ours}.mlp.0.{kind}": state[f"{theirs}.mlp.fc1.{kind}"],
                f"{ours}.mlp.3.{kind}": _scaled(mixed, state[f"{theirs}.ls2.gamma"]),
            }
    return found


def _scaled(weight: "Tensor", scale: "Tensor") -> "Tensor":
    """Return a weight (out, in) or a bias (out,) of which the outputs are multiplied by `scale`."""
    return weight * scale.reshape(-1, *[1] * (weight.ndim - 1))


def _positions(embedding: "Tensor") -> "Tensor":
    """Return the embedding (1, 1 + patches, width) for images of SIZE pixels, resized as DINOv2 does it."""
    import torch

    count, side = round((embedding.shape[1] - 1) ** 0.5), SIZE // PATCH
    if count == side:
        return embedding
    patches = embedding[:, 1:].reshape(1, count, count, -1).permute(0, 3, 1, 2)
    scale = (side + OFFSET) / count
    resized = torch.nn.functional.interpolate(patches, scale_factor=(scale, scale), mode="bicubic")
    return torch.cat([embedding[:, :1], resized.flatten(2).transpose(1, 2)], dim=1)


@hookimpl
def sagd_features() -> Iterable[FeaturePlugin]:
    """Provide `dinov2`."""
    yield FeaturePlugin(
        "dinov2",
        "DINOv2, as EDM2 measures FD-DINOv2; needs --weights FILE",
        DinoOptions,
        build,
        layers=("dinov2",),
        channels=3,
        distance="FD-DINOv2",
        preprocessing="bicubic with antialiasing to 224x224, no crop; mean and deviation of ImageNet",
    )
