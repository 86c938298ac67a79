"""The estimates of `sagd omit`, one record each. No torch.

A new one is a function in `estimates.py` or `untrained.py` and a row here. Options, help and those who restore read
this table.
"""

from dataclasses import dataclass

from sagd_cli.system.choices import Choice, choices


@dataclass(frozen=True)
class EstimateChoice(Choice):
    """An estimate of the clean image.

    With `needs_model`, `build` names a function of (planes, denoiser, drawing). Without it, `build` names a function of
    (y, inside): NumPy arrays, images (..., C, H, W) and which bins of the half spectrum hold noise. `walks_path`: the
    estimate follows the reverse process, so it needs a model of all noise levels on the way. `empties_band`: nothing is
    left in the band. `draws`: the estimate is random, so it can be drawn several times. `has_deviation`: samples can
    tell how uncertain the estimate is.
    """

    needs_model: bool = True
    walks_path: bool = False
    empties_band: bool = False
    draws: bool = False
    has_deviation: bool = False


_MODULE, _UNTRAINED = "sagd_cli.restorer.estimates", "sagd_cli.restorer.untrained"

ESTIMATES = choices(
    EstimateChoice("mean", "expected clean image", f"{_MODULE}:mean_estimate", has_deviation=True),
    EstimateChoice(
        "sample",
        "one random draw of the possible clean images",
        f"{_MODULE}:sample_estimate",
        walks_path=True,
        draws=True,
        has_deviation=True,
    ),
    EstimateChoice(
        "ode", "one possible image, without randomness", f"{_MODULE}:ode_estimate", walks_path=True
    ),
    EstimateChoice(
        "wiener",
        "reduce the band to the level around it, untrained",
        f"{_UNTRAINED}:wiener",
        needs_model=False,
    ),
    EstimateChoice(
        "notch", "only remove the band", f"{_UNTRAINED}:notch", needs_model=False, empties_band=True
    ),
)
