"""Plots made of text, for the terminal."""

import math
from bisect import bisect_right

BLOCKS = " ▁▂▃▄▅▆▇█"
TICKS = (0, 0.25, 0.5, 0.75, 1)
MARGIN = 10


def profile_plot(
    pairs: list[tuple[float, float]], width: int = 64, height: int = 8, log: bool = False
) -> str:
    """Plot a radial profile, pairs (rho, w >= 0) in the order of rho, in `height` rows of block characters.

    A block character fills its place in eighths. The axis of w goes from 0 to the largest w; with `log` it goes from
    the smallest positive value to the largest, in decades. `width` columns span rho from 0 to 1; 24 to 66 columns fit a
    terminal of 80. Between the points w is linear in rho. A column is empty where w = 0, and only there.
    """
    bottom, top = _limits([w for _, w in pairs], log)
    values = [_interpolate(pairs, column / (width - 1)) for column in range(width)]
    eighths = [_eighths(w, bottom, top, 8 * height, log) for w in values]
    lines = []
    for row in reversed(range(height)):
        blocks = "".join(BLOCKS[min(max(level - 8 * row, 0), 8)] for level in eighths)
        label, axis = (f"{top:.3g}", "┤") if row == height - 1 else ("", "│")
        lines.append(f"{label:>{MARGIN - 2}} {axis}{blocks}".rstrip())
    return "\n".join([*lines, *_rho_axis(f"{bottom:.3g}", width)]) + "\n"


def _limits(values: list[float], log: bool) -> tuple[float, float]:
    positive = [w for w in values if w > 0] or [1.0]
    return (min(positive) if log else 0.0), max(positive)


def _interpolate(pairs: list[tuple[float, float]], rho: float) -> float:
    """Return w at `rho`: linear between two points, but that of the nearer one where either is 0.

    So gaps keep their widths and their edges.
    """
    right = bisect_right(pairs, rho, key=lambda pair: pair[0])
    if right in (0, len(pairs)):
        return pairs[min(right, len(pairs) - 1)][1]
    (rho_0, w_0), (rho_1, w_1) = pairs[right - 1 : right + 1]
    share = (rho - rho_0) / (rho_1 - rho_0)
    if min(w_0, w_1) == 0:
        return w_0 if share < 0.5 else w_1
    return w_0 + share * (w_1 - w_0)


def _eighths(w: float, bottom: float, top: float, full: int, log: bool) -> int:
    """Return the height of a column in eighths of a row; only w = 0 has the height 0."""
    if w <= 0:
        return 0
    if not log:
        return max(1, round(w / top * full))
    decades = math.log10(top) - math.log10(bottom)
    share = (math.log10(w) - math.log10(bottom)) / decades if decades > 0 else 1.0
    return max(1, round(share * full))


def _rho_axis(bottom: str, width: int) -> list[str]:
    line, labels = ["─"] * width, [" "] * (width + 4)
    for tick in TICKS:
        column = round(tick * (width - 1))
        line[column] = "┬"
        text = f"{tick:g}"
        start = column - len(text) // 2
        labels[start : start + len(text)] = text
    return [f"{bottom:>{MARGIN - 2}} └{''.join(line)}", f"{'':{MARGIN}}{''.join(labels).rstrip()} rho"]
