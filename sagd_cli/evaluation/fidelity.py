"""`sagd fid`: distances between two sets of images in a space of features, with a receipt of what was compared."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from sagd_cli.evaluation.checks import check_comparable, check_count
from sagd_cli.evaluation.measures import Measures
from sagd_cli.evaluation.sources import ReferenceSource
from sagd_cli.evaluation.statistics import statistics_side
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
from sagd_cli.metrics.catalogue import METRICS, MOMENTS, ROWS
from sagd_cli.metrics.figures import blocks_of, figures_of
from sagd_cli.metrics.frechet import add_floor
from sagd_cli.metrics.spectra import compare_power
from sagd_cli.plugin.records import FeaturePlugin
from sagd_cli.system.console import Output
from sagd_cli.system.devices import exact_arithmetic
from sagd_cli.system.distributed import World


def evaluate(
    generated: ImageSource,
    reference: ReferenceSource,
    how: Measures,
    device: torch.device,
    output: Output,
    world: World | None = None,
) -> dict[str, Any]:
    """Compare a set of images with another, or with a file of statistics; return the JSON object of `sagd fid`.

    `fd` is the Fréchet distance in the chosen layer. `fd_floor` is what two sets of these counts of one Gaussian would
    show. Raises UsageError on unknown layers and options, and on those that do not go together. Raises DataError on
    sets that cannot be compared. Both are raised before features are computed, where that can be known. The processes
    of a `world` compute together. Only the first one gets the result, the others an empty one.
    """
    plugin, layer = feature_plugin(how.features or default_features(generated.shape), how.layer)
    check_comparable(generated, reference, how, plugin)
    kept = how.rows(layer, plugin.logits)
    extractor = load_extractor(plugin, how.options, _unique(layer, *kept.values()), device, how.batch_size)
    with _surveyor(extractor, how, output, world) as surveyor:
        if surveyor.assists([source for source in (generated, reference) if isinstance(source, ImageSource)]):
            return {}
        one, two, about = _survey(generated, reference, how, layer, surveyor, output)
        surveyor.dismiss()
        figures = figures_of(how.records, blocks_of(one, kept), blocks_of(two, kept)[0])
    size, gaussian = generated.count // how.repeats, two.gaussians[0]
    label = f"{_name(plugin, layer)}@{size}"
    add_floor(figures, gaussian, size, label, output)
    receipt = {
        "generated": _describe(generated, one),
        "reference": about,
        **extractor.receipt(layer),
        **_settings(how, size, gaussian.count or 0),
    }
    spectra = {"spectra": compare_power(one.power, two.power)} if one.power and two.power else {}
    return {"label": label, **figures, **spectra, "receipt": receipt}


def statistics_of(
    source: ImageSource, how: Measures, device: torch.device, output: Output, world: World | None = None
) -> tuple[Gaussian, dict[str, Any]] | None:
    """Return the Gaussian of the features of a set, and the receipt that goes into a file of statistics.

    Of a `world`, only the first process gets them.
    """
    plugin, layer = feature_plugin(how.features or default_features(source.shape), how.layer)
    check_channels(plugin, source.name, source.shape)
    check_count(source, {name: metric.fewest for name, metric in METRICS.items() if metric.needs == MOMENTS})
    extractor = load_extractor(plugin, how.options, (layer,), device, how.batch_size)
    with _surveyor(extractor, how, output, world) as surveyor:
        if surveyor.assists([source]):
            return None
        side = surveyor.survey(source, Wanted(layer))
        surveyor.dismiss()
    return side.gaussians[0], {**_describe(source, side), **extractor.receipt(layer)}


@contextmanager
def _surveyor(extractor: Extractor, how: Measures, output: Output, world: World | None) -> Iterator[Surveyor]:
    """Give what surveys sides; the rows that are not cached are there until the block ends. CUDA takes no TF32."""
    with tempfile.TemporaryDirectory(prefix="sagd-") as scratch, exact_arithmetic(extractor.device):
        yield Surveyor(extractor, FeatureCache() if how.cache else None, Path(scratch), output, world)


def _survey(
    generated: ImageSource,
    reference: ReferenceSource,
    how: Measures,
    layer: str,
    surveyor: Surveyor,
    output: Output,
) -> tuple[Side, Side, dict[str, Any]]:
    """Return both sides, and what the receipt says of the reference."""
    kept = how.rows(layer, surveyor.extractor.plugin.logits)
    wanted = Wanted(layer, _unique(*kept.values()), how.spectra, how.repeats)
    if isinstance(reference, Path):
        # They come first, so that statistics that do not fit are refused before images are read.
        two, about = statistics_side(reference, surveyor.extractor, layer, generated.shape, output)
        return surveyor.survey(generated, wanted), two, about
    one = surveyor.survey(generated, wanted)
    two = surveyor.survey(reference, Wanted(layer, (layer,) if ROWS in kept else (), how.spectra))
    return one, two, _describe(reference, two)


def _unique(*layers: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(layers))


def _name(plugin: FeaturePlugin, layer: str) -> str:
    """What the distance in this layer is called."""
    return plugin.distance if layer == plugin.layers[0] else f"{plugin.distance}-{layer}"


def _describe(source: ImageSource, side: Side) -> dict[str, Any]:
    """What the receipt says of a set of images."""
    return {
        "path": source.name,
        "count": source.count,
        "shape": list(source.shape),
        "sha256": side.sha256,
        **({} if source.sampling is None else {"sampling": dict(source.sampling)}),
    }


def _settings(how: Measures, generated: int, reference: int) -> dict[str, Any]:
    """What else the figures depend on, from the two counts of images."""
    settings = [setting for metric in how.records for setting in metric.settings]
    return {setting.name: setting.load()(generated, reference) for setting in settings}
