"""Results of `sagd fid` in words, for the terminal and as Markdown for the page of a CI job."""

from collections.abc import Mapping
from typing import Any

from sagd_cli.metrics.catalogue import Figure, figures


def fid_text(result: Mapping[str, Any]) -> str:
    """The figures, then the receipt, with one line for each."""
    figures = [(name, f"{value}{note}") for name, value, note in figure_rows(result)]
    rows = [*figures, *receipt_rows(result)]
    width = max(22, *(len(name) for name, _ in rows))
    return "\n".join(f"{name:<{width}} {text}" for name, text in rows)


def fid_markdown(result: Mapping[str, Any]) -> str:
    """The figures and the receipt as two tables of Markdown, whose cells hold whatever a name holds."""
    figures = [(name, value, note.strip()) for name, value, note in figure_rows(result)]
    lines = [f"### {_cell(result['label'])}", "", "| figure | value | |", "| --- | --- | --- |"]
    lines += [f"| {' | '.join(map(_cell, row))} |" for row in figures]
    lines += ["", "<details><summary>Receipt</summary>", "", "| | |", "| --- | --- |"]
    lines += [f"| {_cell(name)} | {_cell(text)} |" for name, text in receipt_rows(result)]
    return "\n".join([*lines, "", "</details>", "", ""])


def comparison_text(found: Mapping[str, Any]) -> str:
    """The object of `sagd fid compare` in words."""
    lines = []
    for name, one in found["figures"].items():
        told = one["deviations"]
        certainty = (
            "no deviation is known: repeat both with --repeats" if told is None else f"{told:+.2f} deviations"
        )
        lines.append(f"{name:<10} {one['a']:.5g} -> {one['b']:.5g}  {one['difference']:+.4g}  ({certainty})")
    lines += [f"differs    {reason}" for reason in found["reasons"]]
    lines += [f"note       {note}" for note in found["notes"]]
    verdict = "may be compared" if found["comparable"] else "may not be compared"
    return "\n".join([*lines, f"the two {verdict}"])


def figure_rows(result: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Name, value and a remark of each figure that was measured."""
    features = result["receipt"]["features"]
    suffix = "" if features == "inception" else f" ({features})"
    rows = []
    for figure in figures():
        if result.get(figure.key) is not None:
            name = figure.title(result["label"]) + (suffix if figure.names_features else "")
            value = f"{result[figure.key]:.5g}{_deviation(result, figure)}"
            rows.append((name, value, _remark(result, figure)))
    return [*rows, *((f"power, {band}", text, "") for band, text in _bands(result))]


def _deviation(result: Mapping[str, Any], figure: Figure) -> str:
    repeated = result.get("repeats")
    found = repeated["deviation"].get(figure.key) if repeated else _value(result, figure.deviation)
    return "" if found is None else f" ± {found:.4g}"


def _remark(result: Mapping[str, Any], figure: Figure) -> str:
    repeated, floor = result.get("repeats"), _value(result, figure.floor)
    remarks = [f"mean of {repeated['count']}"] if repeated else []
    remarks += [] if floor is None else [f"{floor:.3g} by chance alone"]
    remarks += [figure.remark] if figure.remark and not repeated else []
    return f"  ({', '.join(remarks)})" if remarks else ""


def _value(result: Mapping[str, Any], key: str | None) -> float | None:
    return None if key is None else result.get(key)


def _bands(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    bands = (result.get("spectra") or {}).get("bands", {})
    return [
        (name, f"{one['ratio']:.4g} ± {one['ratio_se']:.2g} of the reference's")
        for name, one in bands.items()
    ]


def receipt_rows(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the figures were computed from: one row of a name and a text for each thing."""
    receipt = result["receipt"]
    how = f"; {receipt['preprocessing']}" if receipt.get("preprocessing") else ""
    rows = [("features", f"{receipt['features']} layer {receipt['layer']}{how}")]
    for side in ("generated", "reference"):
        item = receipt[side]
        count = "?" if item.get("count") is None else item["count"]
        digest = f"  sha256 {item['sha256'][:12]}" if item.get("sha256") else ""
        rows.append((side, f"{count} images{digest}  {item['path']}"))
        drawn = item.get("sampling")
        if drawn:
            first, last = drawn["seeds"]
            drawing = (
                f"{drawn['sampler']} with {drawn['steps']} steps, {drawn['spacing']}, seeds {first} to {last}"
            )
            rows.append(("drawn", f"{drawn['checkpoint']}  {drawing}"))
    rows.append(("weights", f"sha256 {receipt['weights_sha256'][:12]}"))
    rows.append(("versions", ", ".join(f"{name} {version}" for name, version in receipt["versions"].items())))
    return rows


def _cell(text: str) -> str:
    """Escape a text, so that it stays one cell of a table and is shown as it is."""
    escaped = "".join(f"\\{char}" if char in "\\`*_{}[]()#+!|~" else char for char in str(text))
    return " ".join(escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").split())
