"""How strong each of several known kinds of noise is in images (docs/theory.md, section 6).

A kind in few frequencies is measured against those around it (`thin`), one with a band against a power law through the
frequencies outside (`likelihood`). Kinds that leave nothing outside, and sums of them, are fitted together with the
spectrum of images to how the quietest patches vary (`patches`); small images have no patches, and their spectra are
fitted.
"""

from collections.abc import Callable, Sequence
from math import sqrt

import numpy as np
import scipy

from sagd_cli.damage.blocks import surer
from sagd_cli.damage.fields import Fields, Signals, make_fields
from sagd_cli.damage.groups import TOUCHED, Groups
from sagd_cli.damage.likelihood import FEWEST_OUTSIDE, strength_from_power_law
from sagd_cli.damage.lines import WIDEST_LINE, line_strength
from sagd_cli.damage.patches import patch_variances
from sagd_cli.damage.strength import ITERATIONS, NONE, NORMAL_95, TINY, Strength
from sagd_cli.damage.texture import texture_of
from sagd_cli.damage.thin import kind_strengths
from sagd_cli.errors import DataError
from sagd_cli.spectral.grid import Array, FrequencyGrid
from sagd_cli.spectral.power_law import OFFSET, SLOPE, SLOPE_DEVIATION
from sagd_cli.spectral.spectrum import crop_spectrum

UnitPowers = Callable[[FrequencyGrid], Sequence[Array] | Array]

FEW = 0.05  # share of the frequencies up to which a kind of noise is measured against those around it
SLOPES = SLOPE + SLOPE_DEVIATION * np.linspace(-2, 2, 9)
PRIOR = np.square((SLOPES - SLOPE) / SLOPE_DEVIATION)  # twice its logarithm, negative
MOST_OF_LINE = 0.5  # share of an axis that offsets of rows or columns fill, but for its lowest frequencies
PATCH_GRID = FrequencyGrid((256, 256))  # frequencies fine enough for the covariance of patches
CHANCE = 3.0  # standard errors by which the smallest of some variances may be too small


def noise_levels(signals: Signals, units: UnitPowers) -> list[Strength]:
    """Return the strength of each kind of noise in images, all of them together.

    `signals` are images (C, H, W) on the [-1, 1] range. `units` returns the power spectra (K, *half spectrum) that the
    K kinds have at strength 1 on a grid. The strength of a kind is 0, in an interval from 0, where nothing is certain.
    Raises DataError when a side of an image is below 4 pixels.
    """
    fields = make_fields(signals)
    powers = np.asarray(units(FrequencyGrid(fields.extent)), dtype=np.float64)
    if all(np.ptp(signal) == 0 for signal in signals):
        return [NONE] * len(powers)
    carried = powers > TOUCHED * powers.max(axis=(1, 2), keepdims=True)
    grid = FrequencyGrid(fields.extent)
    few = np.array([grid.mean(kind) <= FEW for kind in carried])
    found = (
        dict(zip(np.flatnonzero(few).tolist(), _of_few(signals, powers[few], grid), strict=True))
        if few.any()
        else {}
    )
    broad = np.flatnonzero(~few)
    if len(broad) == 1:
        kind = broad[0]
        alone = _of_band(fields, powers[kind]) or _together(signals, fields, units)[kind]
        measured = [surer(alone, fields, powers[kind])]
    else:
        measured = [_together(signals, fields, units)[kind] for kind in broad] if len(broad) else []
    found |= dict(zip(broad.tolist(), measured, strict=True))
    return [found[kind] for kind in range(len(powers))]


def _of_few(signals: Signals, powers: Array, grid: FrequencyGrid) -> list[Strength]:
    """Return the strength of kinds of noise in few frequencies, against those around or beside them."""
    spectrum = texture_of(signals, [signal.shape[1:] for signal in signals])
    seen = [crop_spectrum(power, grid, spectrum.grid) for power in powers]
    try:
        found = kind_strengths(spectrum.power, spectrum.fields, spectrum.grid, seen)
    except DataError:
        found = [NONE] * len(seen)
    return [_of_line(signals, power, grid) or strength for power, strength in zip(powers, found, strict=True)]


def _of_line(signals: Signals, power: Array, grid: FrequencyGrid) -> Strength | None:
    """Return the strength of offsets of rows or columns, None where `power` is not that of such."""
    whole = grid.full(power)
    for turned, lines in ((signals, whole), ([signal.swapaxes(1, 2) for signal in signals], whole.T)):
        carried = lines > TOUCHED * lines.max()
        across = np.flatnonzero(carried.any(axis=0))
        half_width = int(np.max(np.minimum(across, len(carried.T) - across)))
        if half_width <= WIDEST_LINE and np.mean(carried[:, 0]) > MOST_OF_LINE:
            deviation = line_strength(turned, half_width)
            scale = sqrt(len(carried.T) / lines[carried].mean())
            return deviation and deviation.scaled(scale)
    return None


def _of_band(fields: Fields, power: Array) -> Strength | None:
    """Return the strength of noise in a band, None where too few frequencies are outside."""
    groups = _groups(fields, fields.seen(power))
    if np.count_nonzero(~groups.inside) < FEWEST_OUTSIDE:
        return None
    return strength_from_power_law(groups.powers(fields.values).mean(axis=0), fields.independent, groups)


def _groups(fields: Fields, seen: Array) -> Groups:
    grid, channels = FrequencyGrid(fields.shape), fields.values.shape[1]
    return Groups(grid, seen, channels, hann=not fields.whole, lowest=fields.lowest)


def _together(signals: Signals, fields: Fields, units: UnitPowers) -> list[Strength]:
    """Return the strengths of kinds of noise that are fitted at once, together with the spectrum of images."""
    return floor_levels(signals, units) or _fitted(*_group_powers(fields, units))


def floor_levels(signals: Signals, units: UnitPowers) -> list[Strength] | None:
    """Return the strengths of kinds of noise that explain how the quietest patches vary; None if those are too few.

    The kinds of `units` together fill the spectrum.
    """
    powers = np.asarray(units(PATCH_GRID), dtype=np.float64)
    spectra = np.concatenate([_laws(PATCH_GRID), powers])
    # Directions are relative to the noise as it is, which the second round knows.
    shares = 1 / np.maximum(powers.mean(axis=(1, 2)), TINY)
    for _ in range(2):
        noise = np.tensordot(shares, powers, axes=1)
        noise /= noise.mean()
        variances = patch_variances(signals, spectra, noise + TOUCHED, PATCH_GRID)
        if variances is None:
            return None
        found = _fitted(*variances)
        if not any(strength.value for strength in found):
            break
        shares = np.square([strength.value for strength in found])
    return found


def _group_powers(fields: Fields, units: UnitPowers) -> tuple[Array, Array, Array]:
    """Return what `patch_variances` does, for groups of frequencies in place of directions."""
    extent = FrequencyGrid(fields.extent)
    spectra = np.stack([fields.seen(power) for power in [*_laws(extent), *units(extent)]])
    groups = _groups(fields, spectra[len(SLOPES) :].sum(axis=0))
    observed = groups.powers(fields.values).mean(axis=0)
    return observed, groups.mean(spectra).T, 2 * groups.bins * fields.independent


def _laws(grid: FrequencyGrid) -> Array:
    """Return the spectra (S, *half spectrum) of images of each slope."""
    return np.stack([(grid.radius + OFFSET) ** -slope for slope in SLOPES])


def _fitted(observed: Array, expected: Array, count: Array) -> list[Strength]:
    """Return the strengths of the kinds of noise whose variances, with those of an image, best explain `observed` (M,).

    `expected` (M, S + K) holds what images of each slope have, and what each kind has at strength 1; each observation
    is the mean of `count` (M,) independent squares. The fit is by maximum likelihood, with no variance below 0. It is
    the mean over the slopes, weighted by their prior and by how well they fit. What no slope explains widens the
    interval.
    """
    kinds = expected[:, len(SLOPES) :]
    fits = [_regressed(observed, np.column_stack([law, kinds]), count) for law in expected.T[: len(SLOPES)]]
    variances, errors, misfits = (np.array(part) for part in zip(*fits, strict=True))
    dispersion = max(1.0, float(misfits.min()) / max(len(observed) - kinds.shape[1] - 1, 1))
    deviance = misfits / dispersion + PRIOR
    weights = np.exp(-(deviance - deviance.min()) / 2)
    weights /= weights.sum()
    # No direction varies by less than the noise in it.
    highest = np.min(
        np.divide(
            (observed * (1 + CHANCE * np.sqrt(2 / count)))[:, None],
            kinds,
            out=np.full(kinds.shape, np.inf),
            where=kinds > TOUCHED * kinds.max(axis=0),
        ),
        axis=0,
    )
    variances[:, 1:] = np.minimum(variances[:, 1:], highest)
    variance = weights @ variances
    error = NORMAL_95 * np.sqrt(weights @ (dispersion * errors + (variances - variance) ** 2))
    return [
        Strength(sqrt(v), sqrt(max(v - e, 0.0)), sqrt(v + e))
        for v, e in zip(variance[1:], error[1:], strict=True)
    ]


def _regressed(observed: Array, columns: Array, count: Array) -> tuple[Array, Array, float]:
    """Return the coefficients of `columns` (M, K), their variances, and what the fit leaves in standard deviations."""
    scale = observed.mean() / np.maximum(columns.mean(axis=0), TINY)
    columns, fitted = columns * scale, observed
    for _ in range(ITERATIONS):
        weights = np.sqrt(count / 2) / np.maximum(fitted, 1e-6 * observed.mean() + TINY)
        weighted = columns * weights[:, None]
        coefficients, _ = scipy.optimize.nnls(weighted, observed * weights)
        fitted = columns @ coefficients
    errors = np.diag(np.linalg.pinv(weighted.T @ weighted))
    return coefficients * scale, errors * scale**2, float(np.sum((weights * (observed - fitted)) ** 2))
