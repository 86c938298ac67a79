"""What is measured, and in which features. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sagd_cli.errors import UsageError
from sagd_cli.features.image_source import ImageSource
from sagd_cli.metrics.catalogue import LOGITS, METRICS, MOMENTS, ROWS, Metric, distances
from sagd_cli.metrics.spectra import FEWEST
from sagd_cli.system.choices import chosen


@dataclass(frozen=True)
class Measures:
    """What to measure and in which features.

    `features` None means digits-cnn for small grey images, else inception. `layer` None means their first layer.
    `options` are those of the plug-in of the features. `repeats` divides the generated images into so many equal blocks
    of neighbours, and gives mean and deviation over them. `spectra` compares power spectra too. `batch_size` None means
    what suits the device.
    """

    metrics: tuple[str, ...] = field(default_factory=lambda: tuple(distances()))
    features: str | None = None
    layer: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    repeats: int = 1
    spectra: bool = False
    batch_size: int | None = None
    cache: bool = True

    def __post_init__(self) -> None:
        """Raise UsageError on an unknown metric, or on none at all."""
        for name in self.metrics:
            chosen("metric", name, METRICS)
        if not self.metrics:
            raise UsageError("no metric is asked for", f"Choose any of {', '.join(METRICS)}.")

    @property
    def records(self) -> list[Metric]:
        """The metrics to measure, in the order of the table."""
        return [metric for name, metric in METRICS.items() if name in self.metrics]

    def fewest(self, of_reference: bool = False) -> dict[str, int]:
        """Return the least number of images for each thing that is measured on a block, or on the reference."""
        read = [METRICS[name] for name in self.metrics]
        least = {
            metric.name: metric.fewest for metric in read if not (of_reference and metric.needs == LOGITS)
        }
        return {**least, "spectra": FEWEST} if self.spectra else least

    def rows(self, layer: str, logits: str | None) -> dict[str, str]:
        """Return the layers to keep rows of, by what needs them; `logits` is the classifier's own layer."""
        layers = {ROWS: layer, LOGITS: logits}
        needs = {metric.needs for metric in self.records}
        return {need: name for need, name in layers.items() if need in needs and name is not None}


def chosen_metrics(text: str | None, reference: ImageSource | Path | None) -> tuple[str, ...]:
    """Read the names of metrics; None stands for the distances that can be computed from `reference`."""
    if text is not None:
        return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    has_images = isinstance(reference, ImageSource)
    return tuple(name for name, metric in distances().items() if has_images or metric.needs == MOMENTS)
