"""TODO."""

from typing import Any

import numpy as np

from sagd_cli.design.radial_power import RadialPower
from sagd_cli.spectral.grid import Array
from sagd_cli.spectral.region import PRESETS


def compare_power(generated: RadialPower, reference: RadialPower) -> dict[str, Any]:
    """Return power of samples over that of data: a `profile` of rows [rho, ratio, its error], and the same of `bands`.

    Errors are standard errors, to first order. Frequencies where the data have no power are left out.
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
