"""The figure of the spectrum of a data set: radial average, power law, peaks (docs/theory.md, section 7)."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Patch, Rectangle
from matplotlib.patheffects import withStroke

from sagd_cli.figures.style import COLOURS, RHO, STYLE, legend_below, plain, plain_decades, spectrum_image
from sagd_cli.spectral.grid import Array

Law = tuple[float, float | None, Array, Array]
PeakMark = tuple[float | None, float | None, float, str]

LISTED_PEAKS = 12
OUTLINE = withStroke(linewidth=3, foreground="black")


@mpl.rc_context(STYLE)
def spectrum_figure(
    title: str,
    rho: Array,
    power: Array,
    law: Law | None = None,
    peaks: Sequence[PeakMark] = (),
    power2d: Array | None = None,
) -> Figure:
    """Draw the radially averaged `power` against `rho` and, for images, the power of every frequency.

    `law` is (beta, its standard error or None, fitted rho, fitted power). `power2d` is the full spectrum of images, in
    the order of `fftfreq`. `peaks` are (f_y, f_x, extent, label) in cycles/pixel; the frequency along the axis that a
    stripe runs along is None.
    """
    figure = Figure(figsize=(6.5 if power2d is None else 10.5, 5.0), layout="constrained")
    figure.suptitle(plain(title, 70 if power2d is None else 110), parse_math=False)
    panels = figure.subplots(1, 1 if power2d is None else 2, squeeze=False)[0]
    _rapsd_panel(panels[0], rho, power, law)
    if power2d is not None:
        _power_panel(panels[1], power2d)
        reach = max(0.02, 1.5 / min(power2d.shape))
        marks = [_mark_peak(panels[1], peak, reach) for peak in peaks]
        _number_peaks(panels[1], marks[:LISTED_PEAKS], reach)
        if peaks:
            _list_peaks(figure, peaks)
    return figure


def _rapsd_panel(axes: Axes, rho: Array, power: Array, law: Law | None) -> None:
    shown = (rho > 0) & (power > 0)
    (line,) = axes.plot(rho[shown], power[shown], color=COLOURS[0], marker=".", ms=5)
    handles, labels = [line], ["radial average"]
    if law is not None:
        beta, error, fitted_rho, fitted_power = law
        handles += axes.plot(fitted_rho, fitted_power, color=COLOURS[1], ls="--", lw=1.8)
        labels.append(f"power law, β = {beta:.4g}" + ("" if error is None else f" ± {error:.2g} (s.e.)"))
    if shown.any():  # constant images have no power, and an empty axis no decades
        axes.set_xscale("log")
        plain_decades(axes.xaxis)
        axes.set_yscale("log")
    axes.legend(handles, labels)
    axes.set_title("Radially averaged power")
    axes.set_xlabel(RHO)
    axes.set_ylabel("power |F x|² / N")


def _power_panel(axes: Axes, power2d: Array) -> None:
    positive = power2d[power2d > 0]
    floor = float(positive.min()) if positive.size else 1.0
    decibels = 10 * np.log10(np.maximum(power2d, floor))
    # Single empty frequencies, such as DC without the mean image, would take the whole scale.
    norm = Normalize(float(np.percentile(decibels, 1)), float(decibels.max()))
    image = spectrum_image(axes, decibels, norm, "cycles/pixel")
    axes.set_title("Power of every frequency")
    axes.figure.colorbar(image, ax=axes, label="power (dB)", extend="min")


def _mark_peak(axes: Axes, peak: PeakMark, smallest: float) -> tuple[float, float]:
    """Circle a peak and its mirror, or frame a stripe; return the place (f_x, f_y) for its number."""
    f_y, f_x, extent, _ = peak
    for sign in (1, -1):
        if f_x is None or f_y is None:
            low_x, width = (-0.5, 1.0) if f_x is None else (sign * f_x - extent / 2, extent)
            low_y, height = (-0.5, 1.0) if f_y is None else (sign * f_y - extent / 2, extent)
            patch: Patch = Rectangle((low_x, low_y), width, height)
        else:
            patch = Circle((sign * f_x, sign * f_y), max(extent, smallest))
        patch.set(fill=False, edgecolor="white", lw=1.3, path_effects=[OUTLINE])
        axes.add_patch(patch)
    return (0.4 if f_x is None else f_x, 0.4 if f_y is None else f_y)


def _number_peaks(axes: Axes, marks: Sequence[tuple[float, float]], reach: float) -> None:
    """Write 1, 2 and so on beside the marks, where no other mark or number is near."""
    taken = [*marks, *((-x, -y) for x, y in marks)]
    angles = np.pi / 4 * np.array([1, 3, 5, 7, 0, 2, 4, 6])
    ring = (reach + 0.03) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    for number, mark in enumerate(marks, 1):
        places = np.clip(mark + ring, -0.47, 0.46)
        distance = np.linalg.norm(places[:, None] - np.array(taken), axis=2).min(axis=1)
        x, y = places[np.argmax(np.minimum(distance, reach + 0.03))]
        taken.append((x, y))
        text = axes.text(x, y, str(number), color="white", weight="bold", ha="center", va="center")
        text.set_path_effects([OUTLINE])


def _list_peaks(figure: Figure, peaks: Sequence[PeakMark]) -> None:
    labels = [f"{number}  {label}" for number, (_, _, _, label) in enumerate(peaks[:LISTED_PEAKS], 1)]
    if len(peaks) > LISTED_PEAKS:
        labels.append(f"and {len(peaks) - LISTED_PEAKS} more, marked without a number")
    blank = Line2D([], [], ls="none")
    legend_below(figure, [blank] * len(labels), labels, wrap=140, handlelength=0)
