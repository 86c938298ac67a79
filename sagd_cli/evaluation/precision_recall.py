"""Precision and recall of features, by torch-fidelity's estimator."""

from torch_fidelity.metric_prc import prc_features_to_metric

from sagd_cli.evaluation.blocks import Block
from sagd_cli.evaluation.catalogue import ROWS


def precision_recall_figures(generated: Block, reference: Block) -> dict[str, float]:
    """Return the share of generated features that lie near some of the reference, and the reverse."""
    sides = (generated.rows[ROWS].all(), reference.rows[ROWS].all())
    found = prc_features_to_metric(*sides, save_cpu_ram=True, verbose=False)
    return {"precision": found["precision"], "recall": found["recall"]}
