"""Figures of a training: its losses over the images seen, and the spectra of what it makes."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sagd_cli.reporting.figures import (
    COLOURS,
    DASHES,
    STYLE,
    draw_line,
    legend_below,
    name_rho_axis,
    plain_decades,
)
from sagd_cli.spectral.grid import Array

POINTS = 250
Record = dict[str, Any]


def curve(records: Sequence[Record], *keys: str) -> tuple[Array, Array]:
    """Return images seen and the value at `keys` of the records that have one; of many, means of 250 groups."""
    pairs = [(record["images"], value) for record in records if (value := _at(record, keys)) is not None]
    if not pairs:
        return np.empty(0), np.empty(0)
    parts = np.array_split(np.array(pairs, dtype=np.float64), min(POINTS, len(pairs)))
    images, values = np.array([part.mean(axis=0) for part in parts]).T
    return images, values


def _at(record: Record, keys: tuple[str, ...]) -> float | None:
    value: Any = record
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return float(value) if isinstance(value, int | float) else None


@mpl.rc_context(STYLE)
def loss_figure(records: Sequence[Record]) -> Figure:
    """Draw the plain and the whitened loss against images, and beside them the whitened loss of each band."""
    figure = Figure(figsize=(9.5, 3.6), layout="constrained")
    panels = figure.subplots(1, 2)
    _lines(panels[0], {"plain": curve(records, "loss"), "whitened": curve(records, "whitened_loss")})
    panels[0].set_title("Loss")
    names = dict.fromkeys(name for record in records for name in record.get("band_losses") or {})
    _lines(panels[1], {name: curve(records, "band_losses", name) for name in names})
    panels[1].set_title("Whitened loss by band")
    return figure


def _lines(axes: Axes, curves: dict[str, tuple[Array, Array]]) -> None:
    drawn = []
    for index, (name, (images, values)) in enumerate(curves.items()):
        if len(images):
            marker = "o" if len(images) == 1 else None
            drawn += axes.plot(
                images, values, color=COLOURS[index], ls=DASHES[index], lw=1.6, marker=marker, label=name
            )
    if drawn and min(np.min(line.get_ydata()) for line in drawn) > 0:
        axes.set_yscale("log")
        plain_decades(axes.yaxis)
    if drawn:
        axes.legend()
    axes.set_xlabel("images seen")
    axes.xaxis.set_major_formatter(mpl.ticker.EngFormatter())


@mpl.rc_context(STYLE)
def spectra_figure(
    rho: Array, noise: Array, data: Array | None, samples: Array | None, error: Array | None
) -> Figure:
    """Draw the radial power of data, samples and noise and, where both are known, that of samples over data.

    All are (K,); `error` is the standard error of the samples' power, shown twice to each side.
    """
    both = data is not None and samples is not None and error is not None
    figure = Figure(figsize=(9.5 if both else 5.5, 4.0), layout="constrained")
    panels = figure.subplots(1, 2 if both else 1, squeeze=False)[0]
    known = {"data": data, "samples": samples, "noise": noise}
    lines = {
        name: draw_line(panels[0], rho, _positive(power), index)
        for index, (name, power) in enumerate(known.items())
        if power is not None
    }
    panels[0].set_yscale("log", nonpositive="mask")
    panels[0].set_ylabel("power |F x|² / N about the mean image")
    panels[0].set_title("Spectra")
    name_rho_axis(panels[0])
    if data is not None and samples is not None and error is not None:
        _ratio_panel(panels[1], rho, data, samples, error)
    legend_below(figure, list(lines.values()), list(lines), wrap=100)
    return figure


def _positive(power: Array) -> Array:
    return np.where(power > 0, power, np.nan)


def _ratio_panel(axes: Axes, rho: Array, data: Array, samples: Array, error: Array) -> None:
    safe = _positive(data)
    line = draw_line(axes, rho, samples / safe, 1)
    low, high = (samples - 2 * error) / safe, (samples + 2 * error) / safe
    axes.fill_between(rho, low, high, color=line.get_color(), alpha=0.2, lw=0)
    axes.axhline(1.0, color="0.35", ls=(0, (6, 3)), lw=1.2, zorder=1)
    axes.set_ylim(0, min(4.0, max(1.5, 1.1 * float(np.nanmax(samples / safe)))))
    axes.set_ylabel("power of samples / power of data")
    axes.set_title("Samples over data (band: two standard errors)")
    name_rho_axis(axes)
