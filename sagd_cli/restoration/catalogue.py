"""The estimates of `sagd omit`, one record each. No torch.

A new one is a function in `estimates.py` and a row here. Options, help and the restorer read this table.
"""

from dataclasses import dataclass

from sagd_cli.system.choices import Choice, choices


@dataclass(frozen=True)
class EstimateChoice(Choice):
    """An estimate of the clean image.

    With `needs_model`, `build` names a function of (y, denoiser, levels, drawing); without, one of (y, noise).
    `walks_path` says that it follows the reverse process, which takes a model of all levels on the way. `draws` says
    that it may be drawn again, with another result. `has_deviation` says that samples can tell how uncertain it is.
    """

    needs_model: bool = True
    walks_path: bool = False
    draws: bool = False
    has_deviation: bool = False


_MODULE = "sagd_cli.restoration.estimates"

ESTIMATES = choices(
    EstimateChoice("mean", "expected clean image", f"{_MODULE}:mean_estimate", has_deviation=True),
    EstimateChoice(
        "sample",
        "a draw of those that may be",
        f"{_MODULE}:sample_estimate",
        walks_path=True,
        draws=True,
        has_deviation=True,
    ),
    EstimateChoice("ode", "a deterministic one", f"{_MODULE}:ode_estimate", walks_path=True),
    EstimateChoice(
        "wiener",
        "reduce the band to the level around it, untrained",
        f"{_MODULE}:wiener",
        needs_model=False,
    ),
    EstimateChoice("notch", "only remove the band", f"{_MODULE}:notch", needs_model=False),
)
