"""Features of images, computed by a plug-in, one batch after the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sagd_cli.config.validation import validate
from sagd_cli.errors import DataError, UsageError, suggest
from sagd_cli.features.moments import Gaussian, Moments
from sagd_cli.features.receipt import hash_weights, versions
from sagd_cli.features.rows import RowsWriter
from sagd_cli.plugin.records import FeaturePlugin
from sagd_cli.plugin.registry import Provider, registry

# Larger batches are slower on a CPU, because they do not fit its caches, and they take memory.
BATCH = {"cpu": 8, "cuda": 250}


def default_features(shape: tuple[int, ...]) -> str:
    """digits-cnn for grey images (C, H, W) up to 32 pixels, else inception."""
    return "digits-cnn" if shape[0] == 1 and max(shape[1:]) <= 32 else "inception"


@dataclass(frozen=True, eq=False)
class Extractor:
    """A network that maps uint8 images (B, C, H, W) to features (B, D) of each of its `layers`.

    `weights_sha256` is the hash of its weights by value, whatever file they came from. `options` are those of the
    plug-in, without `weights`.
    """

    plugin: FeaturePlugin
    options: Mapping[str, Any]
    network: nn.Module
    layers: tuple[str, ...]
    device: torch.device
    batch_size: int
    weights_sha256: str

    @property
    def provider(self) -> Provider:
        """Where the plug-in comes from."""
        return registry().entry("feature", self.plugin.name).provider

    def receipt(self, layer: str) -> dict[str, Any]:
        """What decides the features of a layer, besides the images."""
        return {
            "features": self.plugin.name,
            "distribution": self.provider.distribution,
            "options": self.options,
            "layer": layer,
            **({"preprocessing": self.plugin.preprocessing} if self.plugin.preprocessing else {}),
            "weights_sha256": self.weights_sha256,
            "device": self.device.type,
            "versions": {**versions(), self.provider.distribution: self.provider.version},
        }

    @torch.inference_mode()
    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> dict[str, Tensor]:
        """Return the features of images (C, H, W) by layer; grey ones are repeated for a network that takes colour."""
        batch = torch.from_numpy(np.stack(images)).to(self.device)
        if self.plugin.channels is not None:
            batch = batch.expand(-1, self.plugin.channels, -1, -1)
        return dict(zip(self.layers, self.network(batch), strict=True))

    def features(self, images: Sequence[NDArray[np.uint8]]) -> dict[str, NDArray[Any]]:
        """Return the features (N, D) of any number of images (C, H, W) by layer, computed in batches."""
        size, found = self.batch_size, dict[str, NDArray[Any]]()
        batches = [self(images[start : start + size]) for start in range(0, len(images), size)]
        for layer in self.layers:
            values = torch.cat([batch[layer] for batch in batches])
            found[layer] = values.to(torch.promote_types(values.dtype, torch.float32)).cpu().numpy()
        return found

    def dimensions(self, shape: tuple[int, ...]) -> dict[str, int]:
        """Return the number of features, D, of each layer for images of this shape."""
        features = self([np.zeros(shape, np.uint8)])
        return {layer: values.shape[1] for layer, values in features.items()}


def feature_plugin(name: str, layer: str | None) -> tuple[FeaturePlugin, str]:
    """Return the plug-in and the layer to use.

    `layer` None stands for its first. Raises UsageError when the plug-in has no such layer.
    """
    plugin: FeaturePlugin = registry().get("feature", name)
    layer = layer or plugin.layers[0]
    if layer not in plugin.layers:
        raise UsageError(f"the features {plugin.name} have no layer {layer!r}", suggest(layer, plugin.layers))
    return plugin, layer


def check_channels(plugin: FeaturePlugin, name: str, shape: tuple[int, ...]) -> None:
    """Raise DataError when images (C, H, W) have more channels than the features take."""
    if plugin.channels is not None and shape[0] > plugin.channels:
        raise DataError(f"{name} is in colour, and the features {plugin.name} take grey images")


def load_extractor(
    plugin: FeaturePlugin,
    options: Mapping[str, Any],
    layers: tuple[str, ...],
    device: torch.device,
    batch_size: int | None = None,
) -> Extractor:
    """Build the network of these `layers` on `device`; raise what the plug-in raises about its options."""
    checked = validate(plugin.options, options, f"features {plugin.name}")
    network = cast(nn.Module, plugin.load()(checked, layers)).to(device).eval()
    size = batch_size or BATCH.get(device.type, BATCH["cpu"])
    # Weights are known by their values.
    kept = checked.model_dump(mode="json", exclude={"weights"})
    return Extractor(plugin, kept, network, layers, device, size, hash_weights(network))


class FeatureSink:
    """Takes features in the order of their images, and keeps their moments for each of `blocks` equal blocks of them.

    `rows` are writers of features by layer. Images beyond the last whole block do not count in the moments.
    """

    def __init__(
        self, extractor: Extractor, layer: str, count: int, blocks: int, rows: Mapping[str, RowsWriter]
    ) -> None:
        """Expect features of `count` images. The moments are those of `layer`, on the device of the `extractor`."""
        self._device, self._layer, self._rows = extractor.device, layer, rows
        self._moments = [Moments() for _ in range(blocks)]
        self._size = count // blocks
        self._seen = 0

    def add(self, features: Mapping[str, NDArray[Any]]) -> None:
        """Take in the features (N, D) of the next images, by layer."""
        for layer, writer in self._rows.items():
            writer.add(features[layer])
        values = torch.from_numpy(features[self._layer]).to(self._device)
        end = self._seen + len(values)
        for block in range(self._seen // self._size, min(len(self._moments), -(-end // self._size))):
            edges = [max(0, edge - self._seen) for edge in (block * self._size, (block + 1) * self._size)]
            self._moments[block].add(values[slice(*edges)])
        self._seen = end

    def gaussians(self) -> list[Gaussian]:
        """Return the moments of each block, after the last image."""
        return [moments.result() for moments in self._moments]
