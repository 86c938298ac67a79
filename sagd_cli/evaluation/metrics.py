"""Figures of a comparison, from what was kept of its two sides: of each block, then over all of them."""

from collections.abc import Mapping
from statistics import fmean, stdev
from typing import Any

from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from sagd_cli.evaluation.frechet import frechet_distance
from sagd_cli.evaluation.kernel import kernel_distance
from sagd_cli.features.moments import Gaussian
from sagd_cli.features.rows import Rows
from sagd_cli.features.survey import Side

METRICS = ("fid", "kid", "prc", "isc")

Figures = dict[str, float]


def figures_of(
    metrics: tuple[str, ...], generated: Side, reference: Side, layer: str, logits: str | None
) -> dict[str, Any]:
    """Return the figures of `metrics` in a layer, the score in the layer `logits`.

    Of several blocks they are means, with the deviations (n - 1) and the figures of each block under `repeats`.
    """
    count = len(generated.gaussians)
    parts = {name: rows.parts(count) for name, rows in generated.rows.items()}
    blocks = [
        _block(metrics, gaussian, {name: rows[k] for name, rows in parts.items()}, reference, layer, logits)
        for k, gaussian in enumerate(generated.gaussians)
    ]
    if count == 1:
        return dict(blocks[0])
    means = {key: fmean(block[key] for block in blocks) for key in blocks[0]}
    own = [key for key in means if not key.endswith("_std")]
    deviations = {key: stdev([block[key] for block in blocks]) for key in own}
    return {**means, "repeats": {"count": count, "deviation": deviations, "blocks": blocks}}


def _block(
    metrics: tuple[str, ...],
    gaussian: Gaussian,
    rows: Mapping[str, Rows],
    reference: Side,
    layer: str,
    logits: str | None,
) -> Figures:
    figures: Figures = {}
    if "fid" in metrics:
        figures["fd"] = frechet_distance(gaussian, reference.gaussians[0])
    if "kid" in metrics:
        mine, theirs = rows[layer], reference.rows[layer]
        figures["kid"], figures["kid_std"] = kernel_distance(mine.take, len(mine), theirs.take, len(theirs))
    if "prc" in metrics:
        found = prc_features_to_metric(
            rows[layer].all(), reference.rows[layer].all(), save_cpu_ram=True, verbose=False
        )
        figures["precision"], figures["recall"] = found["precision"], found["recall"]
    if "isc" in metrics and logits is not None:
        score = isc_features_to_metric(rows[logits].all())
        figures["isc"], figures["isc_std"] = score["inception_score_mean"], score["inception_score_std"]
    return figures
