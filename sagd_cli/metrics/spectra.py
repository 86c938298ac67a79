"""The power spectrum of generated images beside that of the reference."""

from typing import Any

import numpy as np

from sagd_cli.design.radial_power import RadialPower
from sagd_cli.spectral.grid import Array
from sagd_cli.spectral.region import PRESETS

FEWEST = 3  # images of a side, or their power has no standard error


def compare_power(generated: RadialPower, reference: RadialPower) -> dict[str, Any]:
    """Return the power of the generated images divided by that of the reference.

    `profile` has one row [rho, ratio, error] for each annulus, and `bands` the ratio and error of each band. Errors are
    standard errors, to first order. Annuli and bands where the reference has no power are left out.
    """
    shown = reference.annuli > 0
    ratio, error = _ratio(generated.annuli, generated.annuli_se, reference.annuli, reference.annuli_se)
    profile = np.stack([reference.rho, ratio, error], axis=1)[shown]
    ratios, errors = _ratio(generated.bands, generated.bands_se, reference.bands, reference.bands_se)
    bands = {
        name: {"ratio": float(ratios[i]), "ratio_se": float(errors[i])}
        for i, name in enumerate(PRESETS)
        if reference.bands[i] > 0
    }
    return {"profile": profile.tolist(), "bands": bands}


def _ratio(one: Array, one_se: Array, two: Array, two_se: Array) -> tuple[Array, Array]:
    safe = np.where(two > 0, two, 1.0)
    ratio = one / safe
    return ratio, np.hypot(one_se, ratio * two_se) / safe
