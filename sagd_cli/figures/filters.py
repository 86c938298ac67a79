"""Figures of filters: weights, profiles, noise, signal-to-noise ratios (docs/theory.md, sections 2 and 4)."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from sagd_cli.figures.style import (
    COLOURS,
    STYLE,
    centred_frequencies,
    draw_line,
    legend_below,
    name_rho_axis,
    plain,
    plain_decades,
    spectrum_image,
)
from sagd_cli.spectral.annuli import Annuli
from sagd_cli.spectral.filter import SpectralFilter
from sagd_cli.spectral.grid import Array
from sagd_cli.spectral.snr import LARGEST_TERMINAL_SNR

Pairs = Sequence[tuple[float, float]]

STEEP = 5.0


@mpl.rc_context(STYLE)
def filter_figure(
    title: str,
    spectral_filter: SpectralFilter,
    draw: NDArray[np.floating],
    measured: Pairs,
    initial: SpectralFilter | None = None,
) -> Figure:
    """Draw a filter in four panels: w(f), its radial profile, one draw of its noise and the noise's spectrum.

    `draw` has the filter's shape. `measured` holds pairs (rho, amplitude); the amplitude is the root of the power of
    many draws. `initial` is the filter before training. A steep filter is shown on logarithmic scales of w.
    """
    figure = Figure(figsize=(9.5, 7.6), layout=ConstrainedLayoutEngine(wspace=0.06))
    figure.suptitle(plain(title, 95), parse_math=False)
    panels = figure.subplots(2, 2)
    log = _is_steep(spectral_filter)
    _weight_panel(panels[0, 0], spectral_filter, log)
    _profile_panel(panels[0, 1], spectral_filter, initial, log)
    _draw_panel(panels[1, 0], np.asarray(draw, dtype=np.float64))
    _measured_panel(panels[1, 1], spectral_filter, measured, log)
    return figure


@mpl.rc_context(STYLE)
def compare_figure(
    labels: Sequence[str],
    filters: Sequence[SpectralFilter],
    power: Array | None = None,
    level: float | None = None,
) -> Figure:
    """Overlay the profiles of filters on one grid.

    `power` is that of data on the half spectrum, `level` is alpha_1^2 / sigma_1^2 of a schedule. With both, a second
    panel shows the signal-to-noise ratio level * power / w^2 of each annulus at t = 1.
    """
    known = power is not None and level is not None
    figure = Figure(figsize=(10.5 if known else 6.5, 5.0), layout="constrained")
    panels = figure.subplots(1, 2 if known else 1, squeeze=False)[0]
    lines = [draw_line(panels[0], *_profile(f), i) for i, f in enumerate(filters)]
    _name_profile(panels[0], "Radial profiles", filters)
    log = any(_is_steep(f) for f in filters)
    _scale_weights(panels[0], [np.asarray(line.get_ydata()) for line in lines], log)
    if power is not None and level is not None:
        _snr_panel(panels[1], filters, power, level)
    legend_below(figure, lines, labels, wrap=140 if known else 85)
    return figure


def _is_radial(spectral_filter: SpectralFilter) -> bool:
    """Tell whether w depends on rho alone."""
    _, group = np.unique(np.round(spectral_filter.grid.rho, 9), return_inverse=True)
    group, w = group.ravel(), spectral_filter.weight.ravel()
    mean = np.bincount(group, w) / np.bincount(group)
    return bool(np.allclose(w, mean[group], rtol=1e-6, atol=1e-6 * w.max()))


def _is_steep(spectral_filter: SpectralFilter) -> bool:
    """Tell whether a few weights are so large that a linear scale would flatten the others."""
    inside = spectral_filter.weight[spectral_filter.support]
    return bool(inside.max() > STEEP * np.median(inside))


def _profile(spectral_filter: SpectralFilter) -> tuple[Array, Array]:
    """Return the radial profile as two arrays, rho and w."""
    rho, w = np.array(spectral_filter.profile()).T
    return rho, w


def _weight_panel(axes: Axes, spectral_filter: SpectralFilter, log: bool) -> None:
    full, top = spectral_filter.grid.full(spectral_filter.weight), float(spectral_filter.weight.max())
    if full.ndim == 1:
        axes.plot(
            centred_frequencies(full.shape)[0], np.fft.fftshift(full), color=COLOURS[0], marker=".", ms=4
        )
        axes.set_xlabel("f (cycles/sample)")
        axes.set_ylabel("w")
        axes.set_title("Weight w(f)")
        _scale_weights(axes, [spectral_filter.weight], log)
        return
    plane = "" if full.ndim == 2 else " in the plane $f_z$ = 0"
    gap = " (white: w = 0)" if log and not spectral_filter.support.all() else ""
    axes.set_title(f"Weight w(f){plane}{gap}")
    smallest = float(spectral_filter.weight[spectral_filter.support].min())
    norm = LogNorm(max(smallest, top * 1e-4), top) if log else Normalize(0, top)
    image = spectrum_image(axes, full if full.ndim == 2 else full[0], norm, "cycles/sample")
    bar = axes.figure.colorbar(image, ax=axes, label="w")
    if log:
        plain_decades(bar.ax.yaxis)


def _scale_weights(axes: Axes, weights: Sequence[Array], log: bool) -> None:
    """Scale the axis so that it holds all weights: from 0, or with `log` in decades over those that are not 0."""
    top = max(float(w.max()) for w in weights)
    if log:
        smallest = min(float(w[w > 0].min()) for w in weights)
        axes.set_yscale("log", nonpositive="mask")
        plain_decades(axes.yaxis)
        axes.set_ylim(max(smallest, top * 1e-4) / 1.5, top * 1.5)
    else:
        axes.set_ylim(-0.03 * top, 1.08 * top)  # a line along 0 stays whole


def _profile_panel(
    axes: Axes, spectral_filter: SpectralFilter, initial: SpectralFilter | None, log: bool
) -> None:
    line = draw_line(axes, *_profile(spectral_filter), 0)
    shown = [spectral_filter] if initial is None else [spectral_filter, initial]
    if initial is not None:
        before = draw_line(axes, *_profile(initial), 1)
        axes.legend([line, before], ["trained", "initial"])
    _name_profile(axes, "Radial profile", shown)
    _scale_weights(axes, [f.weight for f in shown], log)


def _name_profile(axes: Axes, title: str, filters: Sequence[SpectralFilter]) -> None:
    axes.set_title(title)
    axes.set_ylabel("w" if all(_is_radial(f) for f in filters) else "w (rms over directions)")
    name_rho_axis(axes)


def _draw_panel(axes: Axes, draw: Array) -> None:
    if draw.ndim == 1:
        axes.plot(draw, color=COLOURS[0], lw=1)
        axes.set_xlabel("sample index")
        axes.set_ylabel("noise")
        axes.set_title("One draw of the noise")
        return
    middle = draw.shape[0] // 2
    plane = draw if draw.ndim == 2 else draw[middle]
    axes.set_title(f"One draw of the noise{'' if draw.ndim == 2 else f', slice z = {middle}'}")
    limit = float(np.abs(plane).max()) or 1.0
    image = axes.imshow(plane, cmap="gray", vmin=-limit, vmax=limit)
    if max(plane.shape) > 4 * min(plane.shape):
        axes.set_aspect("auto")
    axes.grid(False)
    axes.set_xlabel("x (samples)")
    axes.set_ylabel("y (samples)")
    axes.figure.colorbar(image, ax=axes, label="noise")


def _measured_panel(axes: Axes, spectral_filter: SpectralFilter, measured: Pairs, log: bool) -> None:
    # The same annuli as those of the measured points, so that a difference is one of the noise.
    annuli = Annuli(spectral_filter.grid)
    declared = draw_line(axes, annuli.rho, annuli.mean(spectral_filter.weight**2) ** 0.5, 0)
    declared.set_marker("")
    rho, amplitude = np.array(measured).T
    (points,) = axes.plot(rho, amplitude, "o", color=COLOURS[1], mfc="white", ms=5)
    axes.legend([points, declared], ["measured in draws", "declared w"])
    axes.set_title("Spectrum of the noise")
    axes.set_ylabel("amplitude")
    name_rho_axis(axes)
    shown = [spectral_filter.weight] if log else [np.asarray(declared.get_ydata()), amplitude]
    _scale_weights(axes, shown, log)


def _snr_panel(axes: Axes, filters: Sequence[SpectralFilter], power: Array, level: float) -> None:
    annuli = Annuli(filters[0].grid)
    signal = level * annuli.mean(power)
    for index, spectral_filter in enumerate(filters):
        noise = annuli.mean(spectral_filter.weight**2)
        snr = np.divide(signal, noise, out=np.full_like(signal, np.nan), where=noise > 0)
        draw_line(axes, annuli.rho, snr, index)
    bound = axes.axhline(LARGEST_TERMINAL_SNR, color="0.25", ls=(0, (6, 3)), lw=1.2)
    axes.legend([bound], [f"bound {LARGEST_TERMINAL_SNR:g}"])
    axes.set_yscale("log", nonpositive="mask")
    axes.set_title("Terminal signal-to-noise ratio (t = 1)")
    axes.set_ylabel("power of the data / power of the noise")
    name_rho_axis(axes)
