"""Shaped noise for any training loop (docs/theory.md, section 2)."""

from functools import lru_cache

import torch
from torch import Tensor

from sagd_cli.config.arguments import parse_filter
from sagd_cli.config.filter import FilterConfig
from sagd_cli.errors import ConfigError
from sagd_cli.spectral.filter import SpectralFilter
from sagd_cli.spectral.noise import SpectralNoise

KEPT = 32  # filters on their devices, so that a training loop builds its filter once


def design_filter(text: str, shape: tuple[int, ...]) -> SpectralFilter:
    """Return the filter that FILE or TYPE[:k=v,...] names, on fields of `shape` (1 to 3 spatial axes).

    Raises ConfigError or PluginError when the text names no filter, or one that has no valid weights at this shape.
    """
    return parse_filter(text).weights(tuple(shape))


def noise_like(
    x: Tensor, spectral_filter: SpectralFilter | str, generator: torch.Generator | None = None
) -> Tensor:
    """Draw noise eps_w of the shape, type and device of `x` (B, C, *spatial), independent for each image and channel.

    `spectral_filter` is a filter, or a text as `design_filter` reads it. With the default normalisation the variance of
    a sample is 1. White noise is drawn from `generator` (None: torch's own) and then shaped; a white filter returns it
    as it is. The transform runs in float32 whatever the type of `x`. Raises ConfigError when `x` is no tensor, is not
    floating, has no spatial axes, or has another spatial shape than the filter. Raises ConfigError or PluginError as
    `design_filter` does.
    """
    if not isinstance(x, Tensor):
        raise ConfigError(f"noise is drawn for torch tensors, not for {type(x).__name__}")
    shape = tuple(x.shape[2:])
    if not (1 <= len(shape) <= 3 and x.is_floating_point()):
        raise ConfigError(
            f"noise is drawn for floating images (B, C, *spatial), not for {x.dtype} of shape {tuple(x.shape)}"
        )
    if isinstance(spectral_filter, str):
        # The text is read at each call, since it may name a file that has changed; what it says is the key.
        noise = _configured_noise(parse_filter(spectral_filter).model_dump_json(), shape, x.device)
    elif not isinstance(spectral_filter, SpectralFilter):
        raise ConfigError(f"a filter is a SpectralFilter or a text, not {type(spectral_filter).__name__}")
    elif spectral_filter.grid.shape == shape:
        noise = _noise(spectral_filter, x.device)
    else:
        raise ConfigError(f"the filter is for fields of shape {spectral_filter.grid.shape}, not {shape}")
    return noise.draw(tuple(x.shape), generator).to(x.dtype)


@lru_cache(maxsize=KEPT)
def _noise(spectral_filter: SpectralFilter, device: torch.device) -> SpectralNoise:
    return SpectralNoise(spectral_filter, device)


@lru_cache(maxsize=KEPT)
def _configured_noise(document: str, shape: tuple[int, ...], device: torch.device) -> SpectralNoise:
    return SpectralNoise(FilterConfig.model_validate_json(document).weights(shape), device)
