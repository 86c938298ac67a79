"""Filters fitted to the spectrum of data (docs/theory.md, sections 3 and 7)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy

from sagd_cli.config.filter import FilterConfig
from sagd_cli.config.validation import validate
from sagd_cli.design.advice import warn_of_terminal_snr
from sagd_cli.design.measure import Measurement, measure_diffused
from sagd_cli.diffusion.schedule_tables import snr_level
from sagd_cli.errors import DataError, UsageError, suggest
from sagd_cli.spectral.power_law import PowerLaw, fit_power_law
from sagd_cli.spectral.snr import LARGEST_TERMINAL_SNR, largest_snr
from sagd_cli.spectral.spectrum import Spectrum
from sagd_cli.system.console import Output

METHODS = ("matched", "powerlaw")
EMPTY = 1e-12
CANDIDATES = 101
FEWEST_IMAGES = 3


@dataclass(frozen=True)
class FittedFilter:
    """A filter that was fitted.

    A power-law filter has more: `law` is the power law of the data, and `alpha_interval` the 95 % interval of its
    exponent (None for few images). `bounded` says that the exponent was moved towards white; `terminal_snr` is the
    largest signal-to-noise ratio at t = 1.
    """

    config: FilterConfig
    law: PowerLaw | None
    alpha_interval: tuple[float, float] | None = None
    bounded: bool = False
    terminal_snr: float = 0.0

    def notes(self) -> list[str]:
        """Return sentences about the fit, for the person at the terminal."""
        if self.law is None:
            return []
        error = "" if self.law.beta_se is None else f" +- {self.law.beta_se:.2g} (standard error)"
        notes = [
            f"S = c r^-beta with beta = {self.law.beta:.4g}{error} for rho up to {self.law.high_rho:.3g}"
        ]
        if self.alpha_interval is None:
            notes.append(
                f"alpha = -beta / 2 = {-self.law.beta / 2:.4g}; its error cannot be told from so few images"
            )
        else:
            low, high = self.alpha_interval
            notes.append(
                f"alpha = -beta / 2 = {-self.law.beta / 2:.4g} (95 % interval {low:.4g} to {high:.4g})"
            )
        if self.bounded:
            met = (
                "is then at most"
                if self.terminal_snr <= LARGEST_TERMINAL_SNR
                else f"is then {self.terminal_snr:.3g}, above"
            )
            notes.append(
                f"taken is {self.config.options['alpha']:g}, nearer to white: the terminal signal-to-noise ratio {met} "
                f"{LARGEST_TERMINAL_SNR}"
            )
        return notes

    def document(self) -> dict[str, Any]:
        """Return the filter and the figures of its fit as plain values."""
        law = {"beta": self.law.beta, "beta_se": self.law.beta_se} if self.law else {}
        interval = {"alpha_interval": self.alpha_interval, "bounded": self.bounded} if self.law else {}
        return {**self.config.document(), "sha256": self.config.sha256(), **law, **interval}


def fit_filter(
    data: str, method: str, options: Mapping[str, Any], schedule: str, output: Output
) -> FittedFilter:
    """Fit a filter of the family `method` to `data`; `options` are further options of that family.

    Warns when the data still show through the noise at t = 1. Raises UsageError on an unknown method, and on an option
    that the fit decides; DataError on data without a spectrum.
    """
    if method not in METHODS:
        raise UsageError(f"unknown method {method!r}", suggest(method, METHODS))
    decided = {"matched": "power", "powerlaw": "alpha"}[method]
    if decided in options:
        raise UsageError(f"{decided} is what {method} is fitted for", f"Leave out -o {decided}=.")
    # A wrong option or schedule is said before the data are read.
    validate(FilterConfig, {"type": method, "options": dict(options)}, "filter")
    snr_level(schedule, 1.0)
    measured = measure_diffused(data, output, replicates=0 if method == "matched" else 200)
    fit = _matched if method == "matched" else _power_law
    fitted = fit(measured, dict(options), schedule)
    built = fitted.config.weights(measured.spectrum.grid.shape)
    warn_of_terminal_snr(built, measured.spectrum.power, schedule, output)
    return fitted


def _matched(measured: Measurement, options: dict[str, Any], schedule: str) -> FittedFilter:
    spectrum = measured.spectrum
    _refuse_empty(spectrum, measured.source.data)
    power = [
        [float(f"{rho:.6g}"), float(f"{value:.6g}")]
        for rho, value in zip(spectrum.annuli.rho, spectrum.rapsd, strict=True)
    ]
    return FittedFilter(_config("matched", {**options, "power": power}, measured), None)


def _refuse_empty(spectrum: Spectrum, data: str) -> None:
    if len(spectrum.rapsd) < 2:
        raise DataError(f"the images of {data} are single samples: they have no spectrum to match")
    empty = spectrum.annuli.rho[spectrum.rapsd <= EMPTY * spectrum.rapsd.max()]
    if len(empty):
        raise DataError(
            f"the images of {data} hold no power from rho = {empty.min():.3g} to {empty.max():.3g}: a matched filter "
            "would give no noise there",
            "They may have been enlarged or filtered: use the originals, or --method powerlaw.",
        )


def _power_law(measured: Measurement, options: dict[str, Any], schedule: str) -> FittedFilter:
    law, count = fit_power_law(measured.spectrum), measured.spectrum.count
    if count < FEWEST_IMAGES:  # about their mean two images have the same spectrum
        law = replace(law, beta_se=None)
    wanted = -law.beta / 2
    alpha, snr = _bounded(wanted, measured, options, schedule)
    config = _config("powerlaw", {**options, "alpha": float(f"{alpha:.6g}")}, measured)
    interval = None
    if law.beta_se is not None:
        half = float(scipy.special.stdtrit(count - 1, 0.975)) * law.beta_se / 2
        interval = (wanted - half, wanted + half)
    return FittedFilter(config, law, interval, alpha != wanted, snr)


def _bounded(
    wanted: float, measured: Measurement, options: dict[str, Any], schedule: str
) -> tuple[float, float]:
    """Return an exponent alpha, and the largest terminal signal-to-noise ratio of the filter that has it.

    Candidates lie between `wanted` and 0, which is white. The first one that is within the bound is taken; without
    such a candidate, the one with the least ratio.
    """
    level, grid = snr_level(schedule, 1.0), measured.spectrum.grid

    def worst(alpha: float) -> float:
        built = _config("powerlaw", {**options, "alpha": alpha}, measured).weights(grid.shape)
        return max(largest_snr(built, measured.spectrum.power, level).values())

    found = []
    for alpha in np.linspace(wanted, 0.0, CANDIDATES):
        found.append((worst(float(alpha)), float(alpha)))
        if found[-1][0] <= LARGEST_TERMINAL_SNR:
            break
    snr, alpha = found[-1] if found[-1][0] <= LARGEST_TERMINAL_SNR else min(found)
    return alpha, snr


def _config(family: str, options: dict[str, Any], measured: Measurement) -> FilterConfig:
    document = {"type": family, "options": options, "source": measured.source.model_dump()}
    return validate(FilterConfig, document, "filter")
