"""The figures of a comparison: blocks of images as metrics see them, and what the metrics say of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from sagd_cli.features.moments import Gaussian
from sagd_cli.features.rows import Rows
from sagd_cli.features.survey import Side
from sagd_cli.metrics.catalogue import Metric


@dataclass(frozen=True, eq=False)
class Block:
    """The moments of a block of images, and its rows by what needs them: ROWS or LOGITS of the catalogue."""

    gaussian: Gaussian
    rows: Mapping[str, Rows]


def blocks_of(side: Side, layers: Mapping[str, str]) -> list[Block]:
    """Divide a side into its blocks; `layers` are those whose rows were kept, by what needs them."""
    count = len(side.gaussians)
    parts = {need: side.rows[name].parts(count) for need, name in layers.items() if name in side.rows}
    return [
        Block(gaussian, {need: rows[k] for need, rows in parts.items()})
        for k, gaussian in enumerate(side.gaussians)
    ]


def figures_of(metrics: Sequence[Metric], generated: Sequence[Block], reference: Block) -> dict[str, Any]:
    """Return the figures of `metrics`.

    Of several blocks they are means. `repeats` then holds the deviations (n - 1) and the figures of each block.
    """
    functions = [metric.load() for metric in metrics]
    blocks: list[dict[str, float]] = [
        {key: value for function in functions for key, value in function(block, reference).items()}
        for block in generated
    ]
    if len(blocks) == 1:
        return dict(blocks[0])
    means = {key: fmean(block[key] for block in blocks) for key in blocks[0]}
    keys = [figure.key for metric in metrics for figure in metric.figures]
    deviations = {key: stdev([block[key] for block in blocks]) for key in keys}
    return {**means, "repeats": {"count": len(blocks), "deviation": deviations, "blocks": blocks}}
