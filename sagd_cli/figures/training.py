"""Figures of a training: its losses over the images seen, and the spectra of its samples."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sagd_cli.figures.style import COLOURS, DASHES, STYLE, draw_line, name_rho_axis, plain_decades
from sagd_cli.spectral.grid import Array

POINTS = 250
SIZE = (5.2, 3.7)  # inches: two beside each other, or one on a telephone

_Record = dict[str, Any]


def curve(records: Sequence[_Record], *keys: str) -> tuple[Array, Array]:
    """Return the images seen and the value at `keys`, for the records that have one.

    More than 250 records are averaged in 250 groups.
    """
    pairs = [(record["images"], value) for record in records if (value := _at(record, keys)) is not None]
    if not pairs:
        return np.empty(0), np.empty(0)
    parts = np.array_split(np.array(pairs, dtype=np.float64), min(POINTS, len(pairs)))
    images, values = np.array([part.mean(axis=0) for part in parts]).T
    return images, values


def _at(record: _Record, keys: tuple[str, ...]) -> float | None:
    value: Any = record
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return float(value) if isinstance(value, int | float) else None


@mpl.rc_context(STYLE)
def loss_figure(records: Sequence[_Record]) -> Figure:
    """Draw the plain and the whitened loss against the images seen."""
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    _lines(axes, {"plain": curve(records, "loss"), "whitened": curve(records, "whitened_loss")})
    axes.set_ylabel("loss")
    return figure


@mpl.rc_context(STYLE)
def shares_figure(records: Sequence[_Record], key: str, label: str) -> Figure:
    """Draw one curve for each band, from the records' values under `key` (such as `band_losses`), over images seen."""
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    names = dict.fromkeys(name for record in records for name in record.get(key) or {})
    _lines(axes, {name: curve(records, key, name) for name in names})
    axes.set_ylabel(label)
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
def spectra_figure(rho: Array, powers: Mapping[str, Array]) -> Figure:
    """Draw the radial `powers`, (K,) each, by name, against `rho` (K,)."""
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    lines = [draw_line(axes, rho, _positive(power), index) for index, power in enumerate(powers.values())]
    axes.set_yscale("log", nonpositive="mask")
    axes.set_ylabel("power |F x|² / N about the mean image")
    axes.legend(lines, [*powers])
    name_rho_axis(axes)
    return figure


def _positive(power: Array) -> Array:
    return np.where(power > 0, power, np.nan)


@mpl.rc_context(STYLE)
def ratio_figure(rho: Array, data: Array, samples: Array, error: Array) -> Figure:
    """Draw the power of samples divided by that of data, (K,) each, with two standard errors `error` to each side."""
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    safe = _positive(data)
    line = draw_line(axes, rho, samples / safe, 1)
    low, high = (samples - 2 * error) / safe, (samples + 2 * error) / safe
    axes.fill_between(rho, low, high, color=line.get_color(), alpha=0.2, lw=0)
    axes.axhline(1.0, color="0.35", ls=(0, (6, 3)), lw=1.2, zorder=1)
    ratio = (samples / safe)[np.isfinite(safe)]
    axes.set_ylim(0, min(4.0, max(1.5, 1.1 * float(ratio.max(initial=1.0)))))
    axes.set_ylabel("power of samples / power of data")
    name_rho_axis(axes)
    return figure
