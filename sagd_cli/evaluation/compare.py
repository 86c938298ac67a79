"""Whether two results of `sagd fid` may be compared, and by how many deviations they differ."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sagd_cli.metrics.catalogue import METRICS, figures

# What has to be equal, by the path to it in a result.
ALIKE = {
    "features": ("receipt", "features"),
    "distribution of the features": ("receipt", "distribution"),
    "options of the features": ("receipt", "options"),
    "layer": ("receipt", "layer"),
    "preprocessing": ("receipt", "preprocessing"),
    "weights": ("receipt", "weights_sha256"),
    "reference": ("receipt", "reference", "sha256"),
    "count of reference images": ("receipt", "reference", "count"),
    "size of the images": ("receipt", "generated", "shape"),
}


@dataclass(frozen=True)
class Difference:
    """A figure of two results, A's and B's.

    `deviation` is the standard error of B's figure less A's, sqrt(s_a^2 / R_a + s_b^2 / R_b): both are means of R
    repeats with deviation s. It is None unless both results were repeated.
    """

    a: float
    b: float
    deviation: float | None

    @property
    def document(self) -> dict[str, Any]:
        """The difference as plain values; `deviations` is its ratio to its standard error."""
        value = self.b - self.a
        ratio = value / self.deviation if self.deviation else None
        return {
            "a": self.a,
            "b": self.b,
            "difference": value,
            "deviation": self.deviation,
            "deviations": ratio,
        }


def compare_results(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    """Return what keeps two results from being compared, and how they differ.

    `comparable` says whether they may be compared, and `reasons` why not. `figures` holds a Difference for each figure
    that both have. `notes` are differences that matter less, such as versions.
    """
    found = {
        figure.key: Difference(a[figure.key], b[figure.key], _error(figure.key, a, b)).document
        for figure in figures()
        if a.get(figure.key) is not None and b.get(figure.key) is not None
    }
    reasons = _reasons(a, b) + ([] if found else ["they have no figure in common"])
    return {"comparable": not reasons, "reasons": reasons, "notes": _notes(a, b), "figures": found}


def _reasons(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """What keeps the two from being compared, whatever their figures are."""
    reasons = [
        f"{name}: {_shown(_at(a, path))} and {_shown(_at(b, path))}"
        for name, path in {**ALIKE, **_settings(a, b)}.items()
        if _at(a, path) != _at(b, path)
    ]
    if not any(_at(result, ALIKE["reference"]) for result in (a, b)):
        reasons.append("reference: neither result says of which images")
    counts = _count(a), _count(b)
    if counts[0] != counts[1]:
        reasons.append(f"count of generated images: {counts[0]} and {counts[1]}")
    return reasons


def _settings(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """What else has to be equal, for the metrics that both results have."""
    both = [metric for metric in METRICS.values() if metric.figure.key in a and metric.figure.key in b]
    return {setting.summary: ("receipt", setting.name) for metric in both for setting in metric.settings}


def _notes(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """The versions in which the two differ."""
    mine, theirs = _versions(a), _versions(b)
    return [
        f"{name} {mine.get(name)} and {theirs.get(name)}"
        for name in sorted({*mine, *theirs})
        if mine.get(name) != theirs.get(name)
    ]


def _count(result: Mapping[str, Any]) -> Any:
    """The number of generated images behind a figure: those of one block, where there were several."""
    count, blocks = _at(result, ("receipt", "generated", "count")), _at(result, ("repeats", "count")) or 1
    return count // blocks if isinstance(count, int) else count


def _versions(result: Mapping[str, Any]) -> Mapping[str, Any]:
    found = _at(result, ("receipt", "versions"))
    return found if isinstance(found, dict) else {}


def _at(result: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = result
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _shown(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text[:12] if len(text) == 64 else text


def _error(key: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> float | None:
    """The standard error of the difference of a figure, where both results were repeated."""
    squares = 0.0
    for result in (a, b):
        deviation, count = _at(result, ("repeats", "deviation", key)), _at(result, ("repeats", "count"))
        if deviation is None or not count:
            return None
        squares += deviation**2 / count
    return float(squares**0.5)
