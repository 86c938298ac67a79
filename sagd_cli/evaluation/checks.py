"""What keeps two sets of images from being compared, found before any of them is read."""

from collections.abc import Mapping
from pathlib import Path

from sagd_cli.errors import DataError, UsageError
from sagd_cli.evaluation.measures import Measures
from sagd_cli.features.extractor import check_channels
from sagd_cli.features.image_source import ImageSource
from sagd_cli.metrics.catalogue import LOGITS, METRICS, MOMENTS, ROWS
from sagd_cli.plugin.records import FeaturePlugin
from sagd_cli.system.choices import listing


def check_comparable(
    generated: ImageSource, reference: ImageSource | Path, how: Measures, plugin: FeaturePlugin
) -> None:
    """Raise what `evaluate` raises before anything is read; a `reference` that is a path holds statistics."""
    for metric in how.records:
        if metric.needs == LOGITS and plugin.logits is None:
            raise UsageError(
                f"the features {plugin.name} are not those of a classifier, and {metric.name} needs one",
                f"Leave {metric.name} out.",
            )
    check_channels(plugin, generated.name, generated.shape)
    check_count(generated, how.fewest(), how.repeats)
    if isinstance(reference, Path):
        _check_statistics_suffice(reference, how)
    else:
        check_count(reference, how.fewest(of_reference=True))
        _check_alike(generated, reference)


def check_count(source: ImageSource, fewest: Mapping[str, int], blocks: int = 1) -> None:
    """Raise DataError when a block of `source` has too few images; `fewest` says how many each thing needs."""
    count, least = source.count // blocks, max(fewest.values(), default=1)
    if count < least:
        images = f"{count} image{'' if count == 1 else 's'}"
        part = "" if blocks == 1 else f" in each of {blocks} blocks"
        raise DataError(f"{source.name} has {images}{part}; {', '.join(fewest)} need at least {least}")


def _check_statistics_suffice(path: Path, how: Measures) -> None:
    needing = [metric.name for metric in how.records if metric.needs == ROWS]
    needing += ["--spectra"] if how.spectra else []
    if needing:
        sufficient = {name: metric for name, metric in METRICS.items() if metric.needs == MOMENTS}
        raise UsageError(
            f"{path} holds statistics alone, and {needing[0]} needs the images",
            f"Give the images as REFERENCE, or ask for --metrics {listing(sufficient)}.",
        )


def _check_alike(generated: ImageSource, reference: ImageSource) -> None:
    if generated.shape != reference.shape:
        raise DataError(
            f"{generated.name} holds images of shape {generated.shape}, {reference.name} of {reference.shape}: "
            "resizing or recolouring changes the figure, so it is not done silently",
            "Bring both to one size and colour, for example with `sagd data prepare --size N`.",
        )
