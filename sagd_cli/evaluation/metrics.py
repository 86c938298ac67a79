"""The figures of a comparison: of each block, then over all of them."""

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from sagd_cli.evaluation.blocks import Block
from sagd_cli.evaluation.catalogue import Metric


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
