"""What the spectrum of a data set says: its radial average, power law and peaks, for `sagd spectrum`."""

from dataclasses import dataclass
from typing import Any

from sagd_cli.design.measure import Measurement, measure_texture
from sagd_cli.errors import DataError, UsageError
from sagd_cli.spectral.peaks import REACH, Peak, find_peaks
from sagd_cli.spectral.power_law import PowerLaw, fit_power_law
from sagd_cli.system.console import Output


@dataclass(frozen=True, eq=False)
class Analysis:
    """A measured spectrum with what was found in it.

    `law` is None when no power law could be fitted, `peaks` is None when peaks were not sought.
    """

    measured: Measurement
    law: PowerLaw | None
    peaks: list[Peak] | None

    @property
    def profile(self) -> list[tuple[float, float]]:
        """Pairs (rho, power) of the annuli, without DC: each image has lost its mean."""
        spectrum = self.measured.spectrum
        return list(zip(spectrum.annuli.rho[1:].tolist(), spectrum.rapsd[1:].tolist(), strict=True))

    @property
    def has_room(self) -> bool:
        """Whether the fields are so large that peaks have surroundings."""
        grid = self.measured.spectrum.grid
        return min(grid.shape) > 2 * REACH[grid.ndim]

    @property
    def bands(self) -> str:
        """The peaks as one BAND for `sagd omit`."""
        return "+".join(peak.band for peak in self.peaks or [])

    @property
    def marks(self) -> list[tuple[float | None, float | None, float, str]]:
        """Frequency f_y and f_x, extent and label of each peak, as `figures.spectrum` marks them."""
        centers = [((None, None, *peak.center)[-2:], peak) for peak in self.peaks or []]
        return [
            (f_y, f_x, peak.extent, f"{peak.band}  +{peak.excess_db:.1f} dB") for (f_y, f_x), peak in centers
        ]

    def document(self) -> dict[str, Any]:
        """Return the JSON object of `sagd spectrum`."""
        spectrum, law = self.measured.spectrum, self.law
        document = {
            "count": spectrum.count,
            "shape": list(spectrum.grid.shape),
            "window": "hann" if spectrum.hann else "none",
            "beta": law.beta if law else None,
            "beta_se": law.beta_se if law else None,
            "misfit_db": law.misfit_db if law else None,
            "fitted_rho": [law.low_rho, law.high_rho] if law else None,
            "profile": [list(pair) for pair in self.profile],
            "data": self.measured.source.model_dump(),
        }
        if self.peaks is None:
            return document
        return {
            **document,
            "band": self.bands or None,
            "peaks": [_peak_document(peak) for peak in self.peaks],
        }


def analyse(data: str, window: str, peaks: bool, output: Output) -> Analysis:
    """Measure the spectrum of `data` with `window`, fit a power law and, with `peaks`, find peaks and stripes.

    Raises UsageError when peaks are sought without the Hann window, because they are told from the background by its
    lobes. Raises DataError on constant images. Warns when no power law can be fitted, and when the fields are too small
    to have peaks.
    """
    if peaks and window != "hann":
        raise UsageError("peaks are told from the background by the Hann window", "Leave out --window.")
    measured = measure_texture(data, output, window)
    spectrum = measured.spectrum
    if spectrum.power.max() == 0:
        raise DataError(f"the images of {data} are constant: they have no spectrum")
    law = _law(measured, output)
    found = find_peaks(spectrum.power, spectrum.grid, spectrum.fields)[0] if peaks else None
    analysis = Analysis(measured, law, found)
    if peaks and not analysis.has_room:
        room = 2 * REACH[spectrum.grid.ndim] + 1
        output.warn(f"no peaks were sought: they need fields of {room} samples along each axis at least")
    return analysis


def _law(measured: Measurement, output: Output) -> PowerLaw | None:
    try:
        law = fit_power_law(measured.spectrum)
    except DataError as error:
        output.warn(f"no power law was fitted: {error.message}")
        return None
    if law.beta_se is None:
        output.warn("one image gives no standard error of beta: the bootstrap needs several")
    return law


def _peak_document(peak: Peak) -> dict[str, Any]:
    f_y, f_x = (None, None, *peak.center)[-2:]
    return {"band": peak.band, "f_y": f_y, "f_x": f_x, "excess_db": peak.excess_db}
