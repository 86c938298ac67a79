"""Spectrally anisotropic Gaussian diffusion (arXiv 2510.09660) on the command line and as a library.

`import sagd_cli` loads nothing heavy. Each name below is imported when it is first used; docs/library.md shows them.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# torch's OpenMP barrier spins by default: beside any other load on the same cores a step takes 30 times
# longer. The variable is read when torch is first imported, so it is set here, unless the user has set it.
os.environ["OMP_WAIT_POLICY"] = os.environ.get("OMP_WAIT_POLICY") or "PASSIVE"

# What the library hands out: the one list, name by module.
_HOMES = {
    "Band": "sagd_cli.spectral.band",
    "ConfigError": "sagd_cli.errors",
    "DataError": "sagd_cli.errors",
    "Denoiser": "sagd_cli.diffusion.denoiser",
    "DiffusionLoss": "sagd_cli.diffusion.loss",
    "ForwardProcess": "sagd_cli.diffusion.process",
    "FrequencyGrid": "sagd_cli.spectral.grid",
    "GaussianDenoiser": "sagd_cli.diffusion.gaussian",
    "Knowledge": "sagd_cli.library.arrays",
    "Level": "sagd_cli.diffusion.process",
    "LoadedRun": "sagd_cli.library.runs",
    "NetworkDenoiser": "sagd_cli.diffusion.denoiser",
    "SagdError": "sagd_cli.errors",
    "Schedule": "sagd_cli.diffusion.schedule",
    "SpectralFilter": "sagd_cli.spectral.filter",
    "SpectralNoise": "sagd_cli.spectral.noise",
    "UsageError": "sagd_cli.errors",
    "design_filter": "sagd_cli.library.noise",
    "integrate": "sagd_cli.diffusion.samplers",
    "load": "sagd_cli.library.runs",
    "make_prediction": "sagd_cli.diffusion.prediction",
    "make_sampler": "sagd_cli.diffusion.samplers",
    "make_schedule": "sagd_cli.diffusion.schedule",
    "noise_like": "sagd_cli.library.noise",
    "restore": "sagd_cli.library.arrays",
    "sampling_levels": "sagd_cli.diffusion.time_grids",
}
__all__ = ["__version__", *_HOMES]  # noqa: PLE0604 -- computed from the one list

# The same names for type checkers, which do not see __getattr__; a test holds the two equal.
if TYPE_CHECKING:
    from sagd_cli.diffusion.denoiser import Denoiser as Denoiser
    from sagd_cli.diffusion.denoiser import NetworkDenoiser as NetworkDenoiser
    from sagd_cli.diffusion.gaussian import GaussianDenoiser as GaussianDenoiser
    from sagd_cli.diffusion.loss import DiffusionLoss as DiffusionLoss
    from sagd_cli.diffusion.prediction import make_prediction as make_prediction
    from sagd_cli.diffusion.process import ForwardProcess as ForwardProcess
    from sagd_cli.diffusion.process import Level as Level
    from sagd_cli.diffusion.samplers import integrate as integrate
    from sagd_cli.diffusion.samplers import make_sampler as make_sampler
    from sagd_cli.diffusion.schedule import Schedule as Schedule
    from sagd_cli.diffusion.schedule import make_schedule as make_schedule
    from sagd_cli.diffusion.time_grids import sampling_levels as sampling_levels
    from sagd_cli.errors import ConfigError as ConfigError
    from sagd_cli.errors import DataError as DataError
    from sagd_cli.errors import SagdError as SagdError
    from sagd_cli.errors import UsageError as UsageError
    from sagd_cli.library.arrays import Knowledge as Knowledge
    from sagd_cli.library.arrays import restore as restore
    from sagd_cli.library.noise import design_filter as design_filter
    from sagd_cli.library.noise import noise_like as noise_like
    from sagd_cli.library.runs import LoadedRun as LoadedRun
    from sagd_cli.library.runs import load as load
    from sagd_cli.spectral.band import Band as Band
    from sagd_cli.spectral.filter import SpectralFilter as SpectralFilter
    from sagd_cli.spectral.grid import FrequencyGrid as FrequencyGrid
    from sagd_cli.spectral.noise import SpectralNoise as SpectralNoise


def __getattr__(name: str) -> Any:
    """Import what the library hands out under `name`, once."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
