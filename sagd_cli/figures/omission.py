"""The figure of restored images: before, after, what was removed, and the spectra (docs/theory.md, section 6)."""

from collections.abc import Sequence
from math import floor, log10

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from sagd_cli.data.outcome import RestoredImage
from sagd_cli.data.ranges import Signal
from sagd_cli.figures.style import (
    COLOURS,
    DASHES,
    STYLE,
    centred_frequencies,
    legend_below,
    name_rho_axis,
    plain,
)
from sagd_cli.spectral.annuli import Annuli
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.grid import Array, FrequencyGrid
from sagd_cli.spectral.spectrum import power_spectrum

MOST_ROWS = 4
PANEL = 2.3  # inches
FLATTEST, TALLEST = 0.55, 1.5  # height over width of a row's panels
DIVERGING = "PuOr"  # a colour map that colour-blind readers can tell apart
LINES = ("outside the band (unchanged)", "in the band, before", "in the band, after", "in the band, true")
SURROUNDINGS = 0.03  # cycles/pixel shown around a notch or stripe
MOST_BINS = 300
FLOOR_DB = 20.0  # the panel reaches this far below the images' own power, to show an emptied band


@mpl.rc_context(STYLE)
def omission_figure(title: str, band: Band, images: Sequence[RestoredImage]) -> Figure:
    """Draw the first images, at most 4, with one row for each: before, after, what was removed, spectra.

    Before and after share a grey scale, from the darkest to the brightest pixel of the image after. What was removed
    is before - after, averaged over colours and multiplied by the factor in its title. Then comes the uncertainty, if
    it is known. The spectra are radial averages in the band, and outside of it, where before and after agree. For
    notches and stripes, the power of every frequency around them is also shown.
    """
    shown = images[:MOST_ROWS]
    uncertain = any(image.deviation is not None for image in shown)
    pictured = any(not part.is_radial for part in band.parts)
    ratios = [1.0] * (3 + uncertain) + [1.45] + [0.85] * (2 * pictured)
    heights = [float(np.clip(_aspect(image.before), FLATTEST, TALLEST)) for image in shown]
    size = (
        PANEL * sum(ratios) + 0.8 + 1.4 * pictured,
        sum(PANEL * height + 0.75 for height in heights) + 0.9,
    )
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(plain(title, int(10 * size[0])), parse_math=False)
    rows = figure.subfigures(len(shown), 1, squeeze=False, height_ratios=[PANEL * h + 0.75 for h in heights])[
        :, 0
    ]
    for row, image in zip(rows, shown, strict=True):
        row.suptitle(plain(image.name, int(9 * size[0])), parse_math=False, fontsize=9.5, weight="bold")
        panels = list(row.subplots(1, len(ratios), width_ratios=ratios))
        _image_panels(panels, image)
        if uncertain:
            _deviation_panel(panels[3], image)
        spectra = panels[3 + uncertain :]
        _radial_panel(spectra[0], band, image)
        if pictured:
            _power_panels(spectra[1:], band, image)
    known = any(image.truth is not None for image in shown)
    legend_below(figure, _lines()[: 3 + known], LINES[: 3 + known], wrap=160)
    return figure


def _aspect(signal: Signal) -> float:
    return float(signal.shape[1] / signal.shape[2])


def _image_panels(panels: Sequence[Axes], image: RestoredImage) -> None:
    inside = np.clip(image.after, -1, 1)
    norm = Normalize(float(inside.min()), max(float(inside.max()), float(inside.min()) + 1e-6))
    found = [image.record.get(key) for key in ("psnr_before", "psnr")]
    qualities = ["" if psnr is None else f", {psnr:.2f} dB" for psnr in found]
    for axes, signal, name, quality in zip(
        panels, (image.before, image.after), ("before", "after"), qualities, strict=False
    ):
        scaled = np.clip(np.asarray(norm(np.moveaxis(signal, 0, 2))), 0, 1)
        _show(axes, scaled if len(signal) == 3 else scaled[..., 0], Normalize(0, 1), "gray")
        axes.set_title(name + quality)
    removed = (image.before - image.after).mean(axis=0)
    gain = _round_gain(float(np.percentile(np.abs(removed), 98)))
    # When the image is drawn smaller, averages of neighbours would hide the noise of a high band.
    _show(panels[2], gain * removed, Normalize(-1, 1), DIVERGING, "nearest")
    panels[2].set_title(f"removed, ×{gain:g}")


def _round_gain(largest: float) -> float:
    """Return the largest factor of the form 1, 2 or 5 times a power of 10 that keeps `largest` at most 1."""
    if largest < 1e-6:
        return 1.0
    decade = 10.0 ** floor(-log10(largest) + 1e-9)
    return decade * max(step for step in (1, 2, 5) if step * decade * largest <= 1 + 1e-9)


def _deviation_panel(axes: Axes, image: RestoredImage) -> None:
    if image.deviation is None:
        axes.set_axis_off()
        return
    deviation = np.sqrt((image.deviation**2).mean(axis=0))
    top = float(deviation.max())
    _show(axes, deviation, Normalize(0, top or 1.0), "cividis")
    axes.set_title(f"uncertainty, 0 to {top:.2g}")


def _show(axes: Axes, plane: Array, norm: Normalize, colours: str, interpolation: str = "auto") -> None:
    axes.imshow(plane, norm=norm, cmap=colours, interpolation=interpolation)
    if not FLATTEST / 2 < plane.shape[0] / plane.shape[1] < 2 * TALLEST:
        axes.set_aspect("auto")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)


def _radial_panel(axes: Axes, band: Band, image: RestoredImage) -> None:
    """Draw the radial averages in decibels; an emptied band is drawn at the floor of the panel."""
    grid = FrequencyGrid(image.before.shape[1:])
    annuli, inside = Annuli(grid), band.mask(grid)
    before = power_spectrum(image.before, grid)
    powers = [_mean_where(annuli, before, ~inside), _mean_where(annuli, before, inside)]
    powers.append(_mean_where(annuli, power_spectrum(image.after, grid), inside))
    if image.truth is not None:
        powers.append(_mean_where(annuli, power_spectrum(image.truth, grid), inside))
    known = np.concatenate([power[power > 0] for power in (*powers[:2], *powers[3:])])
    top, bottom = (float(known.max()), float(known.min())) if known.size else (1.0, 1.0)
    floor_power = max(bottom * 10 ** (-FLOOR_DB / 10), top * 1e-12)
    for ring in band.rings:
        axes.axvspan(ring.low, ring.high, color="0.5", alpha=0.15, lw=0)
    for line, power in zip(_lines(), powers, strict=False):
        marker = "o" if np.count_nonzero(np.isfinite(power)) <= 16 else None
        drawn = Line2D(annuli.rho, 10 * np.log10(np.maximum(power, floor_power)), marker=marker, ms=4)
        drawn.set(color=line.get_color(), ls=line.get_linestyle(), lw=line.get_linewidth())
        axes.add_line(drawn)
    axes.autoscale_view()
    name_rho_axis(axes)
    axes.set_ylabel("power (dB)")


def _lines() -> list[Line2D]:
    """Return one line for each entry of `LINES`, as it is drawn."""
    colours = ("0.4", COLOURS[1], COLOURS[0], COLOURS[2])
    return [
        Line2D([], [], color=c, ls=d, lw=1.6)
        for c, d in zip(colours, DASHES[:1] * 3 + DASHES[1:2], strict=True)
    ]


def _mean_where(annuli: Annuli, power: Array, inside: NDArray[np.bool_]) -> Array:
    """Return the mean power of each annulus over its bins `inside`, without DC; NaN when it has none."""
    share = annuli.mean(inside & (annuli.grid.radius > 0))
    return np.divide(annuli.mean(power * inside), share, out=np.full_like(share, np.nan), where=share > 0)


def _power_panels(panels: Sequence[Axes], band: Band, image: RestoredImage) -> None:
    """Draw the power of every frequency around the notches and stripes of the band, before and after, on one scale."""
    grid = FrequencyGrid(image.before.shape[1:])
    marked = Band(tuple(part for part in band.parts if not part.is_radial))
    inside = np.fft.fftshift(grid.full(marked.mask(grid).astype(np.float64)))
    frequencies = centred_frequencies(grid.shape)
    around = tuple(_around(f, np.flatnonzero(inside.any(axis=1 - k))) for k, f in enumerate(frequencies))
    powers = [
        np.fft.fftshift(grid.full(power_spectrum(x, grid)))[around] for x in (image.before, image.after)
    ]
    positive = powers[0][powers[0] > 0]
    low, high = np.percentile(positive, [1, 100]) if positive.size else (1.0, 1.0)
    norm = Normalize(10 * np.log10(low), 10 * np.log10(high))
    (top, bottom), (left, right) = [
        (f[s][0] - 0.5 / len(f), f[s][-1] + 0.5 / len(f)) for f, s in zip(frequencies, around, strict=True)
    ]
    extent = (left, right, bottom, top)
    for axes, power, name in zip(panels, powers, ("before", "after"), strict=True):
        decibels = 10 * np.log10(np.maximum(_pooled(power), low))
        drawn = axes.imshow(decibels, norm=norm, extent=extent, aspect="auto", interpolation="nearest")
        # Every bin twice: a contour needs two along each axis.
        outline = np.kron(_pooled(inside[around]), np.ones((2, 2)))
        axes.contour(outline, [0.5], extent=extent, origin="upper", colors="white", linewidths=0.7)
        axes.set_title(f"power {name}")
        axes.set_xlabel("$f_x$ (cycles/pixel)")
        axes.grid(False)
        axes.locator_params(nbins=4)
    panels[0].set_ylabel("$f_y$ (cycles/pixel)")
    panels[1].tick_params(labelleft=False)
    panels[1].figure.colorbar(drawn, ax=list(panels), label="dB")


def _around(frequencies: Array, inside: NDArray[np.int64]) -> slice:
    margin = max(4, round(SURROUNDINGS * len(frequencies)))
    return slice(max(0, int(inside[0]) - margin), int(inside[-1]) + margin + 1)


def _pooled(values: Array) -> Array:
    """Reduce `values` to few pixels by the maximum over neighbours, so that single frequencies stay visible."""
    for axis, size in enumerate(values.shape):
        step = max(1, size // MOST_BINS)
        values = np.maximum.reduceat(values, np.arange(0, size, step), axis=axis)
    return values
