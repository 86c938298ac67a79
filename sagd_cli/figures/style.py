"""What the figures share: their style, axes of the spectrum, legends, and files (PNG or SVG)."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from sagd_cli.errors import SagdError, UsageError
from sagd_cli.spectral.grid import Array
from sagd_cli.spectral.region import PRESETS
from sagd_cli.system.files import atomic_path, has_suffix, refuse_existing

# Okabe and Ito's colours, which the colour-blind tell apart; the dashes tell them apart in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00")
DASHES = ("-", "--", "-.", ":", (0, (8, 2, 1, 2, 1, 2)), (0, (3, 1)))
# Its lightness grows evenly, so it reads the same to the colour-blind and in grey.
COLOUR_MAP = "cividis"

STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.grid": True,
    "grid.color": "0.9",
    "axes.axisbelow": True,
    "legend.fontsize": 8.5,
    "image.cmap": COLOUR_MAP,
    "svg.hashsalt": "sagd",  # the names of an SVG's parts are random otherwise
}

METADATA: dict[str, dict[str, None]] = {".png": {"Software": None}, ".svg": {"Date": None}}
RHO = "rho (1 = corner of the spectrum)"
TICK_STEPS = (1, 2, 5)


def check_figure_path(path: Path, force: bool = False) -> None:
    """Raise UsageError when `path` ends in neither .png nor .svg, and when the file exists already, without `force`."""
    if not has_suffix(path, *METADATA):
        raise UsageError(
            f"{path} is not a figure's name: it ends in neither .png nor .svg", "Name it FILE.png."
        )
    refuse_existing(path, force)


@mpl.rc_context(STYLE)
def save_figure(figure: Figure, path: Path, force: bool = False) -> None:
    """Write a figure as PNG (150 dots per inch) or SVG, by the suffix of `path`; equal figures give equal bytes.

    The file appears whole or not at all. Raises what `check_figure_path` raises, and SagdError when the file cannot be
    written.
    """
    check_figure_path(path, force)
    suffix = path.suffix.lower()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary, warnings.catch_warnings():
            # A title in a script the font lacks is drawn as boxes; that is no reason to stop.
            warnings.filterwarnings("ignore", message="Glyph")
            figure.savefig(temporary, format=suffix[1:], dpi=150, metadata=METADATA[suffix])
    except OSError as error:
        raise SagdError(
            f"the figure {path} could not be written: {error.strerror or error}",
            "Check the disk's space and the folder's permissions.",
        ) from None


def plain(text: str, width: int) -> str:
    """Return `text` wrapped to `width` characters, also within words; bytes that are no text become ?."""
    return fill(text.encode("utf-8", "replace").decode(), width)


def spectrum_image(axes: Axes, full: Array, norm: Normalize, unit: str) -> Any:
    """Show a full spectrum with DC in the middle; axes are frequencies in `unit`.

    f_y points down, as the rows of an image do, so that a wave and its peak lie in the same direction.
    """
    (top, bottom), (left, right) = [
        (f[0] - 0.5 / len(f), f[-1] + 0.5 / len(f)) for f in centred_frequencies(full.shape)
    ]
    image = axes.imshow(np.fft.fftshift(full), norm=norm, extent=(left, right, bottom, top), origin="upper")
    axes.grid(False)
    axes.set_xticks([-0.5, -0.25, 0, 0.25])
    axes.set_yticks([-0.5, -0.25, 0, 0.25])
    axes.set_xlabel(f"$f_x$ ({unit})")
    axes.set_ylabel(f"$f_y$ ({unit})")
    return image


def centred_frequencies(shape: tuple[int, ...]) -> list[Array]:
    """Return the frequencies along each axis in cycles/sample, in increasing order."""
    return [np.fft.fftshift(np.fft.fftfreq(n)) for n in shape]


def plain_decades(axis: Axis) -> None:
    """Label a logarithmic axis 0.5, 1, 2, 5 and so on rather than in powers of ten."""
    axis.set_major_locator(LogLocator(subs=TICK_STEPS))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def draw_line(axes: Axes, rho: Array, values: Array, index: int) -> Line2D:
    """Plot `values` against `rho` in the colour and dash of `index`; at most 16 points are marked."""
    marker = "o" if len(rho) <= 16 else None
    (line,) = axes.plot(
        rho,
        values,
        color=COLOURS[index % len(COLOURS)],
        ls=DASHES[index % len(DASHES)],
        marker=marker,
        ms=4,
        lw=1.8,
    )
    return line


def name_rho_axis(axes: Axes) -> None:
    """Make the horizontal axis one of rho, with the named bands marked lightly and their names above the panel."""
    axes.set_xlim(-0.01, 1.01)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    axes.set_xlabel(RHO)
    for _, high in list(PRESETS.values())[:-1]:
        axes.axvline(high, color="0.55", ls="--", lw=0.8, zorder=1)
    names = axes.secondary_xaxis("top")
    names.set_xticks([(low + high) / 2 for low, high in PRESETS.values()], list(PRESETS))
    names.tick_params(length=0, pad=1, labelcolor="0.35", labelsize=8)


def legend_below(
    figure: Figure, lines: Sequence[Line2D], labels: Sequence[str], wrap: int, handlelength: float = 3
) -> None:
    """Draw one legend under the panels, in several columns where the labels are short."""
    longest = max((len(label) for label in labels), default=1)
    columns = max(1, min(4, len(labels), wrap // (longest + 8)))
    # A label that begins with _ would be left out of the legend.
    texts = [("\u200a" if label.startswith("_") else "") + plain(label, wrap) for label in labels]
    legend = figure.legend(lines, texts, loc="outside lower center", ncols=columns, handlelength=handlelength)
    for text in legend.get_texts():
        text.set_parse_math(False)
