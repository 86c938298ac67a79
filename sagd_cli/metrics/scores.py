"""The metrics that torch-fidelity computes as a whole: precision and recall, and the Inception score."""

from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from sagd_cli.metrics.catalogue import LOGITS, ROWS
from sagd_cli.metrics.figures import Block


def precision_recall_figures(generated: Block, reference: Block) -> dict[str, float]:
    """Return the share of generated features that lie near some of the reference, and the reverse."""
    sides = (generated.rows[ROWS].all(), reference.rows[ROWS].all())
    found = prc_features_to_metric(*sides, save_cpu_ram=True, verbose=False)
    return {"precision": found["precision"], "recall": found["recall"]}


def inception_score_figures(generated: Block, reference: Block) -> dict[str, float]:
    """Return the score of the generated images alone, and its deviation over their parts."""
    found = isc_features_to_metric(generated.rows[LOGITS].all())
    return {"isc": found["inception_score_mean"], "isc_std": found["inception_score_std"]}
