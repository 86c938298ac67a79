"""Regions of the spectrum as weights in [0, 1]: radial windows, discs and strips (docs/theory.md, sections 1 and 3)."""

from collections.abc import Sequence
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from sagd_cli.errors import ConfigError
from sagd_cli.spectral.grid import Array, FrequencyGrid

PRESETS = {"low": (0.0, 0.25), "mid": (0.25, 0.5), "high": (0.5, 1.0)}
SLACK = 1e-9  # a frequency that lies on an edge may be rounded to either side of it


def check_edges(low: float, high: float, grid: FrequencyGrid) -> None:
    """Raise ConfigError unless 0 <= low < high <= the corner of the spectrum, in the grid's units."""
    top = grid.radial_max
    if not 0 <= low < high:
        raise ConfigError(
            f"the band {low:g} to {high:g} is reversed, empty or negative",
            f"Give 0 <= low < high <= {top:g} ({grid.units}).",
        )
    if high > top * (1 + SLACK):
        raise ConfigError(
            f"the band edge {high:g} is outside the spectrum, which ends at {top:g} ({grid.units})",
            "Edges are in rho (1 = the corner of the spectrum) unless `units` says nyquist or cycles.",
        )


def indicator(low: float, high: float, grid: FrequencyGrid) -> NDArray[np.bool_]:
    """Return which bins have low <= radial < high. A band that ends at the corner of the spectrum includes it.

    Raises what `check_edges` raises.
    """
    check_edges(low, high, grid)
    slack = SLACK * grid.radial_max
    above = grid.radial >= low - slack
    return above & ((grid.radial < high - slack) | (high >= grid.radial_max - slack))


def window(low: float, high: float, grid: FrequencyGrid, transition: float = 0.0) -> Array:
    """Return weights of 1 inside the band and 0 outside, with raised-cosine edges `transition` wide (grid units).

    An edge at DC or at the corner of the spectrum has no other side, so it has no transition.
    """
    if transition == 0:
        return indicator(low, high, grid).astype(np.float64)
    check_edges(low, high, grid)
    rising = _rise(grid.radial, low, transition) if low > 0 else np.ones(grid.half_shape)
    falling = _rise(grid.radial, high, transition) if high < grid.radial_max else 0.0
    return np.clip(rising - falling, 0.0, 1.0)


def check_center(center: Sequence[float]) -> None:
    """Raise ConfigError unless `center` is 1 to 3 frequencies from -0.5 to 0.5 cycles/sample."""
    shown = ", ".join(f"{f:g}" for f in center)
    if not 1 <= len(center) <= 3:
        raise ConfigError(f"a centre has 1 to 3 frequencies, not ({shown})", "For example (f_y, f_x).")
    if max(map(abs, center)) > 0.5 + SLACK:
        raise ConfigError(
            f"the notch at ({shown}) is outside the spectrum, which ends at 0.5 cycles/sample along each axis",
            "A period of p samples is the frequency 1/p.",
        )


def disc(center: Sequence[float], radius: float, grid: FrequencyGrid, transition: float = 0.0) -> Array:
    """Return weights of 1 within `radius` of `center` or its mirror, 0 elsewhere, with a raised-cosine edge.

    All lengths are in cycles/sample. `center` is (f_x), (f_y, f_x) or (f_z, f_y, f_x); leading axes that it does not
    name are at 0. Distances wrap around, as the spectrum is periodic. A disc smaller than the spacing of the
    frequencies still holds the nearest one. Raises ConfigError on a centre outside the spectrum, and on a centre with
    more axes than the field.
    """
    check_center(center)
    if len(center) > grid.ndim:
        raise ConfigError(
            f"the notch at {tuple(center)} has more axes than a field of shape {grid.shape}",
            "Give one frequency for each axis.",
        )
    whole = np.array((*[0.0] * (grid.ndim - len(center)), *center))
    squares = [_squares(sign * whole, grid) for sign in (1, -1)]
    radius = max(radius, float(np.sqrt(min(sum(axis.min() for axis in axes) for axes in squares))))
    weights = np.zeros(grid.half_shape)
    for axes in squares:
        near = [np.flatnonzero(np.sqrt(axis) <= radius + transition + SLACK) for axis in axes]
        distance = np.sqrt(reduce(np.add.outer, [axis[at] for axis, at in zip(axes, near, strict=True)]))
        here = np.ix_(*near)
        weights[here] = np.maximum(weights[here], _within(distance, radius, transition))
    return weights


def _squares(center: Array, grid: FrequencyGrid) -> list[Array]:
    """Return the squared distances from `center` along each axis."""
    offsets = [np.ravel(f) - c for f, c in zip(grid.axes, center, strict=True)]
    return [np.square(d - np.round(d)) for d in offsets]


def _within(distance: Array, radius: float, transition: float) -> Array:
    if transition == 0:
        return (distance <= radius + SLACK).astype(np.float64)
    return 1.0 - _rise(distance, radius, transition)


def strip(axis: int, width: float, guard: float, grid: FrequencyGrid, transition: float = 0.0) -> Array:
    """Return weights of 1 on a strip along the frequency axis `axis`, 0 elsewhere, with raised-cosine edges.

    Damage that alternates along one axis of the field and is constant along the others (scan lines) lies on such a
    strip. Across the strip, frequencies are at most `width` / 2 (cycles/sample; 0 is the axis itself). The radius is at
    least `guard` (grid units), which spares the coarse structure. Raises ConfigError on an axis that the field does
    not have, and on a guard beyond the spectrum.
    """
    if not -grid.ndim <= axis < grid.ndim:
        raise ConfigError(f"a field of shape {grid.shape} has no axis {axis}", "Axes count from 0.")
    if guard >= grid.radial_max:
        raise ConfigError(
            f"the guard {guard:g} spares the whole spectrum, which ends at {grid.radial_max:g} ({grid.units})",
            "Lower it.",
        )
    spared = window(guard, grid.radial_max, grid, transition) if guard > 0 else np.ones(grid.half_shape)
    others = [np.abs(f) for k, f in enumerate(grid.axes) if k != axis % grid.ndim]
    across = reduce(np.maximum, others, np.zeros(grid.half_shape))
    return _within(across, width / 2, transition) * spared


def wedge(angles: tuple[float, float], width: float, grid: FrequencyGrid) -> NDArray[np.bool_]:
    """Return the bins that hold straight lines in an image whose angles lie between two, in degrees.

    Angles are those of the lines as seen, counter-clockwise from horizontal ones. Their frequencies lie across them, on
    strips through DC of full `width` (cycles/sample) that are as wide as the spacing of frequencies at least. Between
    the strips of both angles all bins are inside; the second angle is at most 90 degrees from the first.
    """
    f_y, f_x = grid.axes
    # A frequency of 1/2 is -1/2, too.
    mirrored = np.where((np.abs(f_y) == 0.5) | (f_x == 0.5), -f_y, f_y)
    inside = np.zeros(grid.half_shape, bool)
    for rows in (f_y, mirrored):
        along = []
        for sine, cosine in ((np.sin(angle), np.cos(angle)) for angle in np.radians(angles)):
            least = max(abs(cosine) / grid.shape[1], abs(sine) / grid.shape[0])
            along.append(f_x * cosine - rows * sine)
            inside |= np.abs(along[-1]) <= max(width, least) / 2 + SLACK
        inside |= along[0] * along[1] < 0
    return inside


def _rise(x: Array, edge: float, width: float) -> Array:
    phase = np.clip((x - edge) / width + 0.5, 0.0, 1.0)
    return 0.5 - 0.5 * np.cos(np.pi * phase)
