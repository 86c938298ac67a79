"""The Inception score of a classifier's logits, by torch-fidelity's estimator."""

from torch_fidelity.metric_isc import isc_features_to_metric

from sagd_cli.evaluation.blocks import Block
from sagd_cli.evaluation.catalogue import LOGITS


def inception_score_figures(generated: Block, reference: Block) -> dict[str, float]:
    """Return the score of the generated images alone, and its deviation over their parts."""
    found = isc_features_to_metric(generated.rows[LOGITS].all())
    return {"isc": found["inception_score_mean"], "isc_std": found["inception_score_std"]}
