"""A network of diffusers with any configuration: UNet2DModel or DiTTransformer2DModel."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from sagd_cli.errors import ConfigError
from sagd_cli.plugin import BackbonePlugin, Options, hookimpl

if TYPE_CHECKING:
    from torch import nn

HINT = "`sagd import` writes the configuration of a model that it can use."


class DiffusersOptions(Options):
    """The model's own configuration. Channels, classes and, of a DiT, the size are those of the data."""

    config: dict[str, Any] = Field(
        default_factory=dict,
        description="The mapping in the model's config.json; _class_name is UNet2DModel or DiTTransformer2DModel.",
    )


def build(options: DiffusersOptions, shape: tuple[int, ...], classes: int = 0) -> "nn.Module":
    """Build the network for images of `shape` = (C, H, W), labelled if there are `classes`.

    A model of 2 C output channels has learned variances, which are left out. Raises ConfigError when the model is none
    that can be built, or when the images do not fit it.
    """
    from sagd_plugins.backbones._normalised import normalised_in_own_type

    name = options.config.get("_class_name")
    builders = {"UNet2DModel": _unet, "DiTTransformer2DModel": _dit}
    if name not in builders:
        raise ConfigError(f"the backbone diffusers builds {' and '.join(builders)}, not {name}", HINT)
    if len(shape) != 3:
        raise ConfigError(f"the backbone diffusers takes images (C, H, W), not fields of shape {shape}")
    config = {key: value for key, value in options.config.items() if not key.startswith("_")}
    channels = {"in_channels": shape[0], "out_channels": shape[0] * (2 if learns_variance(config) else 1)}
    return normalised_in_own_type(builders[name](config | channels, shape, classes))


def learns_variance(config: Mapping[str, Any]) -> bool:
    """Whether the model predicts the variance of each value, too, in as many channels again."""
    inputs, outputs = config.get("in_channels"), config.get("out_channels")
    return isinstance(inputs, int) and outputs == 2 * inputs


def _unet(config: dict[str, Any], shape: tuple[int, ...], classes: int) -> "nn.Module":
    from sagd_plugins.backbones._conditioned import ClassEmbedding, WithoutVariance

    for key, usual in (("time_embedding_type", "positional"), ("class_embed_type", None)):
        if config.get(key, usual) != usual:
            raise ConfigError(
                f"the backbone diffusers takes no UNet2DModel with {key} {config[key]}", f"Only with {usual}."
            )
    embeddings = config.get("num_class_embeds")
    # Of as many embeddings as classes, none is left for "no class".
    config["num_class_embeds"] = (embeddings if embeddings == classes else classes + 1) if classes else None
    network = _constructed("UNet2DModel", config)
    stride = 2 ** (len(network.down_blocks) - 1)
    if any(side % stride for side in shape[1:]):
        raise ConfigError(f"this UNet2DModel needs sides divisible by {stride}, not {shape[1]}x{shape[2]}")
    if classes and embeddings == classes:
        network.class_embedding.__class__ = ClassEmbedding
    return WithoutVariance(network) if learns_variance(config) else network


def _dit(config: dict[str, Any], shape: tuple[int, ...], classes: int) -> "nn.Module":
    from sagd_plugins.backbones._conditioned import DiT

    patch = config.get("patch_size", 2)
    if shape[1] != shape[2] or not isinstance(patch, int) or shape[1] % patch:
        raise ConfigError(
            f"this DiT takes square images whose side is divisible by {patch}, not fields of {shape}"
        )
    known = config.get("num_embeds_ada_norm", 1000)
    embeddings = classes or known
    network = _constructed(
        "DiTTransformer2DModel", config | {"sample_size": shape[1], "num_embeds_ada_norm": embeddings}
    )
    # Without classes, it takes all images as being of no class. One class alone is none.
    return DiT(network, unlabelled=0 if embeddings == 1 else embeddings)


def _constructed(name: str, config: dict[str, Any]) -> Any:
    """Return a model of diffusers; raise ConfigError, which says why, when it does not take its configuration."""
    import diffusers

    try:
        return getattr(diffusers, name)(**config)
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"diffusers' {name} does not take its configuration: {reason}", HINT) from None


@hookimpl
def sagd_backbones() -> Iterable[BackbonePlugin]:
    """Provide `diffusers`."""
    yield BackbonePlugin(
        "diffusers",
        "a diffusers UNet2DModel or DiTTransformer2DModel of any configuration, as `sagd import` finds it",
        DiffusersOptions,
        build,
        takes_classes=True,
    )
