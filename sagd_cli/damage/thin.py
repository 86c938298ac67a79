"""The strength of noise in each part of a band, against the spectrum around it: peaks differ by many dB."""

from collections.abc import Sequence
from math import sqrt

import numpy as np
import scipy
from numpy.typing import NDArray

from sagd_cli.damage.groups import TOUCHED
from sagd_cli.damage.strength import (
    ITERATIONS,
    NONE,
    NORMAL_95,
    TINY,
    Strength,
    nothing_to_omit,
    variance_interval,
)
from sagd_cli.damage.texture import texture
from sagd_cli.data.images import Image
from sagd_cli.errors import DataError
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.grid import Array, FrequencyGrid
from sagd_cli.spectral.peaks import CORRELATED_BINS, LOBE, REACH

FEWEST_AROUND = 12
BULK = 0.2  # share of the highest power of a kind of noise above which a bin tells how strong it is


def part_strengths(power: Array, count: int, grid: FrequencyGrid, band: Band) -> list[Strength]:
    """Return the strength of the noise in each part of `band`, as if the noise filled the part evenly.

    `power` is the Hann-tapered power spectrum on the half spectrum of `grid`, the mean over `count` independent
    fields. The background is a power law through the bins that are outside the band and at most 10 bins from the part
    (24 in one dimension). How far those bins depart from the law widens the interval. Raises DataError on constant
    images, and when fewer than 12 bins are around a part.
    """
    masks = [part.mask(grid) & (grid.radius > 0) for part in band.parts]
    names = [str(part) for part in band.parts]
    return kind_strengths(power, count, grid, [mask.astype(np.float64) for mask in masks], names)


def kind_strengths(
    power: Array, count: int, grid: FrequencyGrid, units: Sequence[Array], names: Sequence[str] | None = None
) -> list[Strength]:
    """Return the strength of each of several kinds of noise in few bins: `part_strengths` of any spectra.

    `units` are the power spectra of the kinds at strength 1, as `power` shows them; `names` name them in errors.
    Without names, a kind that too few frequencies are around has the strength 0.
    """
    if not np.any(power > TINY):
        raise DataError("the images are constant: nothing can be told about noise in them")
    touched = np.any([unit > TOUCHED * unit.max() for unit in units], axis=0)
    taken = _near(touched, grid, LOBE) | (grid.radius <= (LOBE + 0.5) / min(grid.shape))
    found = []
    for k, unit in enumerate(units):
        inside = (unit > BULK * unit.max()) & (grid.radius > 0)
        around = _near(inside, grid, REACH[grid.ndim]) & ~taken
        if np.count_nonzero(around) < FEWEST_AROUND:
            if names is None:
                found.append(NONE)
                continue
            raise DataError(
                f"too few frequencies are around {names[k]} to tell its noise from the images",
                "Give the strength with --strength.",
            )
        found.append(_kind_strength(power, count, grid, np.where(inside, unit, 0.0), around))
    return found


def _near(mask: NDArray[np.bool_], grid: FrequencyGrid, reach: int) -> NDArray[np.bool_]:
    """Return the bins of the half spectrum that are at most `reach` bins from those of `mask`; the mask is periodic."""
    full = np.pad(grid.full(mask), reach, mode="wrap")
    near = np.zeros_like(full)
    # Around each group of bins alone: a map of distances of the whole spectrum takes 20 bytes a bin.
    for box in scipy.ndimage.find_objects(scipy.ndimage.label(full)[0]):
        wide = tuple(slice(max(side.start - reach, 0), side.stop + reach) for side in box)
        near[wide] |= scipy.ndimage.distance_transform_edt(~full[wide]) <= reach
    return np.asarray(near[(slice(reach, -reach),) * grid.ndim][..., : grid.half_shape[-1]])


def _kind_strength(
    power: Array, count: int, grid: FrequencyGrid, unit: Array, around: NDArray[np.bool_]
) -> Strength:
    inside = unit > 0
    unit = unit[inside]
    background, error = _background(power, count, grid, inside, around)
    share = grid.multiplicity[inside]  # f and -f are one observation
    observed, variance = power[inside], 0.0
    for _ in range(ITERATIONS):
        weights = share * unit / (background + variance * unit) ** 2
        weights /= np.sum(weights * unit)
        variance = max(float(weights @ (observed - background)), 0.0)
    variance = float(weights @ (observed - background))
    # The variance of exponentials of mean background + v that the taper correlates, and the background's own.
    correlated = min(CORRELATED_BINS**grid.ndim, float(np.sum(share)) / 2)
    own = weights**2 * 2 / share / count * correlated
    low, high = variance_interval(
        variance,
        NORMAL_95**2 * float(own @ background**2 + (error * (weights @ background)) ** 2),
        NORMAL_95**2 * float(2 * own @ (background * unit)),
        NORMAL_95**2 * float(own @ unit**2),
    )
    return Strength(sqrt(max(variance, 0.0)), sqrt(low), sqrt(high))


def _background(
    power: Array, count: int, grid: FrequencyGrid, inside: NDArray[np.bool_], around: NDArray[np.bool_]
) -> tuple[Array, float]:
    """Return the power, at the bins `inside`, of the law through those `around`, and its logarithm's standard error."""
    design = np.stack([np.ones(grid.half_shape), np.log(np.maximum(grid.radius, 1e-9))], axis=-1)
    level = np.log(np.maximum(power[around], TINY)) - (scipy.special.digamma(count) - np.log(count))
    law, *_ = np.linalg.lstsq(design[around], level, rcond=None)
    scatter = float(np.mean((level - design[around] @ law) ** 2))
    departure = max(0.0, scatter - float(scipy.special.polygamma(1, count)))
    centre = design[inside].mean(axis=0)
    spread = centre @ np.linalg.pinv(design[around].T @ design[around]) @ centre
    sampling = float(spread) * scatter * CORRELATED_BINS**grid.ndim
    # Departures are taken to be the same within the reach of a bin, and independent beyond it.
    patches = max(1.0, np.count_nonzero(inside | around) / (2 * REACH[grid.ndim] + 1) ** grid.ndim)
    return np.exp(design[inside] @ law), float(np.sqrt(sampling + departure / patches))


def thin_strength(images: Sequence[Image], band: Band) -> Strength:
    """Return the strength of the noise in a thin band of images, against the spectrum around each of its parts.

    It is the root mean square over the band of what is found in its parts. Raises DataError when no part has noise.
    """
    spectrum = texture(images)
    parts = part_strengths(spectrum.power, spectrum.fields, spectrum.grid, band)
    found = [part if part.found else Strength(0.0, 0.0, part.high) for part in parts]
    if not any(part.found for part in parts):
        raise nothing_to_omit(band, "the spectrum around it", parts[0])
    sizes = [spectrum.grid.total(part.mask(spectrum.grid)) for part in band.parts]

    def mean(values: list[float]) -> float:
        return sqrt(np.average(np.square(values), weights=sizes))

    value, low, high = (mean([getattr(part, end) for part in found]) for end in ("value", "low", "high"))
    return Strength(value, low, high)


def is_thin(band: Band) -> bool:
    """Tell whether all parts of a band are as narrow as notches and stripes are."""
    return all(part.is_thin for part in band.parts)
