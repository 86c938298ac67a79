"""Fréchet and kernel distances, precision, recall and Inception score, computed by torch-fidelity."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from sagd_cli.config import validate
from sagd_cli.console import Output
from sagd_cli.errors import DataError, UsageError, suggest
from sagd_cli.evaluation.receipt import describe_images, hash_weights, versions
from sagd_cli.plugin.records import FeaturePlugin
from sagd_cli.plugin.registry import registry

METRICS = ("fid", "kid", "prc", "isc")
KID_SUBSET = 1000
BATCH = 64
FEWEST = {"fid": 2, "kid": 4, "prc": 4, "isc": 10}


@dataclass(frozen=True)
class ImageSource:
    """A set of uint8 images (N, C, H, W) and what the user called it."""

    name: str
    images: NDArray[np.uint8]


def default_features(images: NDArray[np.uint8]) -> str:
    """digits-cnn for grey images up to 32 pixels, else inception."""
    return "digits-cnn" if images.shape[1] == 1 and max(images.shape[2:]) <= 32 else "inception"


def evaluate(
    generated: ImageSource,
    reference: ImageSource,
    metrics: Sequence[str],
    features: str,
    options: dict[str, Any],
    layer: str | None,
    device: torch.device,
    output: Output,
) -> dict[str, Any]:
    """Compare two sets of images; return the JSON object of `sagd fid`, with its receipt.

    `fd` is the Fréchet distance ||mu_1 - mu_2||^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2)) in the chosen layer.
    Raises UsageError on unknown metrics or layers, DataError on sets that cannot be compared.
    """
    plugin: FeaturePlugin = registry().get("feature", features)
    layer = layer or plugin.layers[0]
    _check(generated, reference, metrics, plugin, layer)
    wanted = tuple(dict.fromkeys([layer, *(["isc"] if "isc" in metrics else [])]))
    extractor, layers = _build(plugin, options, wanted, device)
    one = _extract(extractor, layers, generated, plugin, output)
    two = _extract(extractor, layers, reference, plugin, output) if set(metrics) != {"isc"} else one
    figures = _figures(metrics, one, two, layer)
    dimensions = one[layer].shape[1]
    fewest = min(len(generated.images), len(reference.images))
    if "fid" in metrics and fewest <= dimensions:
        output.warn(
            f"{fewest} images for {dimensions} features: the covariance is singular and the distance biased "
            "upwards; use more images, a smaller --layer or KID"
        )
    receipt = {
        "generated": describe_images(generated.name, generated.images),
        "reference": describe_images(reference.name, reference.images),
        "features": features,
        "layer": layer,
        "weights_sha256": hash_weights(extractor),
        "versions": versions(),
    }
    named = plugin.distance if layer == plugin.layers[0] else f"{plugin.distance}-{layer}"
    return {"label": f"{named}@{len(generated.images)}", **figures, "receipt": receipt}


def _check(
    generated: ImageSource,
    reference: ImageSource,
    metrics: Sequence[str],
    plugin: FeaturePlugin,
    layer: str,
) -> None:
    for metric in metrics:
        if metric not in METRICS:
            raise UsageError(f"unknown metric {metric!r}", suggest(metric, METRICS))
    if layer not in plugin.layers:
        raise UsageError(f"the features {plugin.name} have no layer {layer!r}", suggest(layer, plugin.layers))
    for source in (generated, reference):
        least = max(FEWEST[metric] for metric in metrics)
        if len(source.images) < least:
            raise DataError(
                f"{source.name} has {len(source.images)} images; {', '.join(metrics)} need at least {least}"
            )
        if source.images.ndim != 4 or source.images.shape[1] not in (1, 3):
            raise DataError(
                f"{source.name} holds fields of shape {source.images.shape[1:]}, not grey or RGB images"
            )
        if source.images.shape[1] > plugin.channels:
            raise DataError(f"{source.name} is in colour, and the features {plugin.name} take grey images")
    if generated.images.shape[1:] != reference.images.shape[1:]:
        raise DataError(
            f"{generated.name} holds images of shape {generated.images.shape[1:]}, {reference.name} of "
            f"{reference.images.shape[1:]}: resizing or recolouring changes the figure, so it is not done silently",
            "Bring both to one size and colour, for example with `sagd data prepare --size N`.",
        )


def _build(
    plugin: FeaturePlugin, options: dict[str, Any], wanted: tuple[str, ...], device: torch.device
) -> tuple[FeatureExtractorBase, tuple[str, ...]]:
    """Build the extractor; "isc" in `wanted` stands for the layer the extractor itself names for it."""
    build = plugin.load()
    checked = validate(plugin.options, options, f"features {plugin.name}")
    extractor = build(checked, tuple(name for name in wanted if name != "isc"))
    if "isc" in wanted:
        logits = extractor.get_default_feature_layer_for_metric("isc")
        layers = tuple(dict.fromkeys([*(name for name in wanted if name != "isc"), logits]))
        extractor = build(checked, layers)
    return extractor.to(device).eval(), tuple(extractor.get_requested_features_list())


@torch.inference_mode()
def _extract(
    extractor: FeatureExtractorBase,
    layers: tuple[str, ...],
    source: ImageSource,
    plugin: FeaturePlugin,
    output: Output,
) -> dict[str, Tensor]:
    device = next(extractor.parameters()).device
    parts: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    starts = range(0, len(source.images), BATCH)
    with output.progress(f"features of {source.name}", len(starts), 0, BATCH) as bar:
        for start in starts:
            part = np.array(source.images[start : start + BATCH])  # torch takes no read-only map of a file
            batch = torch.from_numpy(part).to(device)
            repeated = batch.expand(-1, plugin.channels, -1, -1)
            for layer, values in zip(layers, extractor(repeated), strict=True):
                parts[layer].append(values.double().cpu())
            bar.advance()
    return {layer: torch.cat(values) for layer, values in parts.items()}


def _figures(
    metrics: Sequence[str], one: dict[str, Tensor], two: dict[str, Tensor], layer: str
) -> dict[str, float]:
    figures: dict[str, float] = {}
    count = min(len(one[layer]), len(two[layer]))
    if "fid" in metrics:
        statistics = [fid_features_to_statistics(side[layer]) for side in (one, two)]
        figures["fd"] = fid_statistics_to_metric(*statistics, False)["frechet_inception_distance"]
    if "kid" in metrics:
        size = min(KID_SUBSET, max(2, count // 2))  # half, or the subsets would all be the same images
        kid = kid_features_to_metric(one[layer], two[layer], kid_subset_size=size, verbose=False)
        figures["kid"] = kid["kernel_inception_distance_mean"]
        figures["kid_std"] = kid["kernel_inception_distance_std"]
    if "prc" in metrics:
        prc = prc_features_to_metric(one[layer], two[layer], verbose=False)
        figures["precision"], figures["recall"] = prc["precision"], prc["recall"]
    if "isc" in metrics:
        logits = next(reversed(one))
        score = isc_features_to_metric(one[logits])
        figures["isc"], figures["isc_std"] = score["inception_score_mean"], score["inception_score_std"]
    return figures
