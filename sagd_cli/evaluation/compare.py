"""Whether two results of `sagd fid` may be compared, and by how many deviations they differ."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# What has to be equal, by the path to it in a result.
ALIKE = {
    "features": ("receipt", "features"),
    "distribution of the features": ("receipt", "distribution"),
    "options of the features": ("receipt", "options"),
    "layer": ("receipt", "layer"),
    "weights": ("receipt", "weights_sha256"),
    "reference": ("receipt", "reference", "sha256"),
    "count of reference images": ("receipt", "reference", "count"),
    "size of the images": ("receipt", "generated", "shape"),
    "size of KID's subsets": ("receipt", "kid_subset_size"),
}
FIGURES = ("fd", "kid", "precision", "recall", "isc")


@dataclass(frozen=True)
class Difference:
    """B's figure less A's; `deviation` is the standard error of that, None where neither result tells one."""

    a: float
    b: float
    deviation: float | None

    @property
    def document(self) -> dict[str, Any]:
        """The difference as plain values, `deviations` being its ratio to its standard error."""
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
    """Return {"comparable", "reasons", "figures"}: what keeps the two from being compared, and how they differ.

    The standard error of a difference is that of the repeats' means, sqrt(s_a^2 / R_a + s_b^2 / R_b). `notes` are
    differences that matter less, such as versions.
    """
    reasons = [
        f"{name}: {_shown(_at(a, path))} and {_shown(_at(b, path))}"
        for name, path in ALIKE.items()
        if _at(a, path) != _at(b, path) and not _is_of_missing_kid(name, a, b)
    ]
    if not any(_at(result, ALIKE["reference"]) for result in (a, b)):
        reasons.append("reference: neither result says of which images")
    counts = _count(a), _count(b)
    reasons += [f"count of generated images: {counts[0]} and {counts[1]}"] if counts[0] != counts[1] else []
    figures = {
        key: Difference(a[key], b[key], _error(key, a, b)).document
        for key in FIGURES
        if a.get(key) is not None and b.get(key) is not None
    }
    if not figures:
        reasons.append("they have no figure in common")
    versions = [
        f"{name} {_at(a, ('receipt', 'versions', name))} and {_at(b, ('receipt', 'versions', name))}"
        for name in sorted({*_versions(a), *_versions(b)})
        if _versions(a).get(name) != _versions(b).get(name)
    ]
    return {"comparable": not reasons, "reasons": reasons, "notes": versions, "figures": figures}


def _count(result: Mapping[str, Any]) -> Any:
    """Generated images behind a figure: those of one block, where there were several."""
    count, blocks = _at(result, ("receipt", "generated", "count")), _at(result, ("repeats", "count")) or 1
    return count // blocks if isinstance(count, int) else count


def _is_of_missing_kid(name: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return "KID" in name and not ("kid" in a and "kid" in b)


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
