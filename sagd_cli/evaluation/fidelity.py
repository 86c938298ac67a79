"""`sagd fid`: distances between two sets of images in a space of features, with a receipt of what was compared."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from sagd_cli.errors import DataError, UsageError, suggest
from sagd_cli.evaluation.frechet import frechet_floor
from sagd_cli.evaluation.kernel import subset_size
from sagd_cli.evaluation.metrics import METRICS, figures_of
from sagd_cli.evaluation.sources import Reference
from sagd_cli.evaluation.spectra import compare_power
from sagd_cli.evaluation.statistics import load_statistics
from sagd_cli.features.cache import FeatureCache
from sagd_cli.features.extractor import (
    Extractor,
    check_channels,
    default_features,
    feature_plugin,
    load_extractor,
)
from sagd_cli.features.image_source import ImageSource
from sagd_cli.features.moments import Gaussian
from sagd_cli.features.survey import Side, Surveyor, Wanted
from sagd_cli.plugin.records import FeaturePlugin
from sagd_cli.system.console import Output

FEWEST = {"fid": 2, "kid": 4, "prc": 4, "isc": 10, "spectra": 3}
CLEAR = 0.1  # the share of a distance that may be chance before it is said


@dataclass(frozen=True)
class Measures:
    """What to measure and in which features.

    `features` None: digits-cnn for small grey images, else inception; `layer` None: their first; `options` are those of
    the features' plug-in. `repeats` divides the generated images into so many equal blocks of neighbours, and gives
    mean and deviation over them. `spectra` compares power spectra too. `batch_size` None: what suits the device.
    """

    metrics: tuple[str, ...] = ("fid", "kid")
    features: str | None = None
    layer: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    repeats: int = 1
    spectra: bool = False
    batch_size: int | None = None
    cache: bool = True

    def __post_init__(self) -> None:
        """Raise UsageError on a metric that is none."""
        for metric in self.metrics:
            if metric not in METRICS:
                raise UsageError(f"unknown metric {metric!r}", suggest(metric, METRICS))
        if not self.metrics:
            raise UsageError("no metric is asked for", f"Choose any of {', '.join(METRICS)}.")


def chosen_metrics(text: str | None, reference: Reference | None) -> tuple[str, ...]:
    """Read the names of metrics; None: fid and kid, or fid alone where there are no images to take kid from."""
    if text is None:
        return ("fid", "kid") if isinstance(reference, ImageSource) else ("fid",)
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def evaluate(
    generated: ImageSource, reference: Reference, how: Measures, device: torch.device, output: Output
) -> dict[str, Any]:
    """Compare a set of images with another, or with a file of statistics; return the JSON object of `sagd fid`.

    `fd` is the Fréchet distance in the chosen layer, and `fd_floor` what two sets of these counts of one Gaussian would
    show. Raises UsageError on metrics, layers and options that are none or do not go together, DataError on sets that
    cannot be compared, before features are computed where that can be known.
    """
    plugin, layer = feature_plugin(how.features or default_features(generated.shape), how.layer)
    check_comparable(generated, reference, how, plugin)
    logits = (plugin.logits,) if "isc" in how.metrics and plugin.logits else ()
    layers = tuple(dict.fromkeys([layer, *logits]))
    extractor = load_extractor(plugin, how.options, layers, device, how.batch_size)
    known = _known(reference, extractor, layer, generated, output) if isinstance(reference, Path) else None
    rows = (layer,) if {"kid", "prc"} & {*how.metrics} else ()
    with tempfile.TemporaryDirectory(prefix="sagd-") as scratch:
        surveyor = Surveyor(extractor, FeatureCache() if how.cache else None, Path(scratch), output)
        one = surveyor.survey(
            generated, Wanted(layer, tuple(dict.fromkeys([*rows, *logits])), how.spectra, how.repeats)
        )
        two, about = known or (None, {})
        if isinstance(reference, ImageSource):
            two = surveyor.survey(reference, Wanted(layer, rows, how.spectra))
            about = _describe(reference, two)
        assert two is not None
        figures = figures_of(how.metrics, one, two, layer, plugin.logits)
    size = generated.count // how.repeats
    named = plugin.distance if layer == plugin.layers[0] else f"{plugin.distance}-{layer}"
    label = f"{named}@{size}"
    _warn_of_chance(figures, two.gaussians[0], size, label, output)
    receipt = {
        "generated": _describe(generated, one),
        "reference": about,
        **extractor.receipt(layer),
        **(
            {}
            if "kid" not in figures
            else {"kid_subset_size": subset_size(size, two.gaussians[0].count or 0)}
        ),
    }
    spectra = compare_power(one.power, two.power) if one.power and two.power else None
    return {"label": label, **figures, **({"spectra": spectra} if spectra else {}), "receipt": receipt}


def statistics_of(
    source: ImageSource, how: Measures, device: torch.device, output: Output
) -> tuple[Gaussian, dict[str, Any]]:
    """Return the Gaussian of the features of a set, and the receipt that goes into a file of statistics."""
    plugin, layer = feature_plugin(how.features or default_features(source.shape), how.layer)
    check_channels(plugin, source.name, source.shape)
    _check_count(source, 1, ("fid",))
    extractor = load_extractor(plugin, how.options, (layer,), device, how.batch_size)
    with tempfile.TemporaryDirectory(prefix="sagd-") as scratch:
        surveyor = Surveyor(extractor, FeatureCache() if how.cache else None, Path(scratch), output)
        side = surveyor.survey(source, Wanted(layer))
    return side.gaussians[0], {**_describe(source, side), **extractor.receipt(layer)}


def check_comparable(
    generated: ImageSource, reference: Reference, how: Measures, plugin: FeaturePlugin
) -> None:
    """Raise what `evaluate` raises before anything is read."""
    if "isc" in how.metrics and plugin.logits is None:
        raise UsageError(
            f"the features {plugin.name} are no classifier's, and isc needs one", "Leave isc out."
        )
    check_channels(plugin, generated.name, generated.shape)
    measured = (*how.metrics, *(("spectra",) if how.spectra else ()))
    _check_count(generated, how.repeats, measured)
    if isinstance(reference, Path):
        for needed, given in (
            ("kid", "kid" in how.metrics),
            ("prc", "prc" in how.metrics),
            ("--spectra", how.spectra),
        ):
            if given:
                raise UsageError(
                    f"{reference} holds statistics alone, and {needed} needs the images",
                    "Give the images as REFERENCE, or ask for --metrics fid.",
                )
        return
    # The score is that of the generated images alone.
    _check_count(reference, 1, tuple(name for name in measured if name != "isc"))
    if generated.shape != reference.shape:
        raise DataError(
            f"{generated.name} holds images of shape {generated.shape}, {reference.name} of {reference.shape}: "
            "resizing or recolouring changes the figure, so it is not done silently",
            "Bring both to one size and colour, for example with `sagd data prepare --size N`.",
        )


def _check_count(source: ImageSource, blocks: int, measured: tuple[str, ...]) -> None:
    least = max((FEWEST[name] for name in measured), default=1)
    if source.count // blocks < least:
        count = source.count // blocks
        images = f"{count} image{'' if count == 1 else 's'}"
        part = "" if blocks == 1 else f" in each of {blocks} blocks"
        raise DataError(f"{source.name} has {images}{part}; {', '.join(measured)} need at least {least}")


def _known(
    path: Path, extractor: Extractor, layer: str, generated: ImageSource, output: Output
) -> tuple[Side, dict[str, Any]]:
    """The side that a file of statistics is; raise DataError when it is of other features."""
    gaussian, about = load_statistics(path, extractor.device)
    dimensions = extractor.dimensions(generated.shape)[layer]
    if gaussian.dimensions != dimensions:
        raise DataError(
            f"{path} holds statistics of {gaussian.dimensions} features, and layer {layer} of "
            f"{extractor.plugin.name} has {dimensions}",
            "Choose the features and the --layer the statistics were made with.",
        )
    chosen = {**extractor.receipt(layer), "shape": list(generated.shape)}
    is_ours = "features" in about
    for key in ("features", "distribution", "options", "layer", "weights_sha256", "shape") if is_ours else ():
        if about.get(key) != chosen[key]:
            raise DataError(
                f"{path} was made with {key} {about.get(key)}, not {chosen[key]}",
                "Make it anew with --save-stats.",
            )
    if not is_ours:
        output.warn(
            f"{path} does not say of which images and weights it is: that it fits {extractor.plugin.name} is taken on "
            "trust"
        )
    return Side([gaussian], {}, None, ""), {"path": str(path), "count": gaussian.count, **about}


def _describe(source: ImageSource, side: Side) -> dict[str, Any]:
    return {
        "path": source.name,
        "count": source.count,
        "shape": list(source.shape),
        "sha256": side.sha256,
        **({} if source.sampling is None else {"sampling": dict(source.sampling)}),
    }


def _warn_of_chance(
    figures: dict[str, Any], reference: Gaussian, count: int, label: str, output: Output
) -> None:
    """Say how much of a Fréchet distance is due to the counts, and add it to the figures as `fd_floor`."""
    if "fd" not in figures:
        return
    floor = frechet_floor(reference, count)
    figures["fd_floor"] = floor
    fewest = min(count, reference.count or count)
    if floor is None:
        output.warn(
            f"{fewest} images for {reference.dimensions} features: the covariance is singular and {label} biased "
            "upwards, by more the fewer images there are; compare it at equal counts only, or use more images, a "
            "smaller --layer or KID, which is not biased"
        )
    elif floor > CLEAR * figures["fd"]:
        output.warn(
            f"of {label} = {figures['fd']:.4g} about {floor:.2g} is what so few images show by chance; compare it at "
            "equal counts only, or use KID, which is not biased"
        )
