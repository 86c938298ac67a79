"""Whether two cells of a sweep differ: Student's t-test for pairs, corrected for the rivals of the best cell."""

import math
from typing import Any

import numpy as np
import scipy

CONFIDENCE = 0.95


def paired_test(differences: list[float], rivals: int, best: str, baseline: str) -> dict[str, Any] | None:
    """Test whether the mean of `differences`, best less baseline for each seed, is 0; return None for fewer than 2.

    The best cell was picked from `rivals` cells. `p_corrected` and `interval` take this into account (Bonferroni): the
    interval holds the mean difference with a confidence of 95 %, whichever rival is the best. `text` says it in words.
    """
    pairs = len(differences)
    if pairs < 2:
        return None
    mean = float(np.mean(differences))
    p, least = _significance(differences, rivals)
    corrected = min(1.0, p * rivals)
    found = {
        "difference": mean,
        "interval": [mean - least, mean + least],
        "p": p,
        "p_corrected": corrected,
        "pairs": pairs,
        "differs": corrected < 1 - CONFIDENCE,
    }
    return {**found, "text": _text(found, rivals, best, baseline, least)}


def _significance(differences: list[float], rivals: int) -> tuple[float, float]:
    """Return p, not corrected, and half the width of the corrected interval."""
    if np.ptp(differences) == 0:  # t would be a division by 0
        return (1.0 if np.mean(differences) == 0 else 0.0), 0.0
    pairs = len(differences)
    error = float(np.std(differences, ddof=1)) / math.sqrt(pairs)
    least = error * float(scipy.stats.t.isf((1 - CONFIDENCE) / 2 / rivals, pairs - 1))
    return float(scipy.stats.ttest_1samp(differences, 0.0).pvalue), least


def _text(found: dict[str, Any], rivals: int, best: str, baseline: str, least: float) -> str:
    mean, (low, high), pairs = found["difference"], found["interval"], found["pairs"]
    verdict = "differs from" if found["differs"] else "cannot be told from"
    picked = f", both corrected for {rivals} rivals" if rivals > 1 else ""
    text = (
        f"the best cell, {best}, {verdict} the baseline {baseline}: difference {mean:+.3g}, 95 % interval {low:+.3g} "
        f"to {high:+.3g}, p = {found['p_corrected']:.2g}{picked} (paired over {pairs} seeds)"
    )
    if not found["differs"]:
        text += f"; with this spread {pairs} seeds tell no difference below {least:.3g}"
    return text
