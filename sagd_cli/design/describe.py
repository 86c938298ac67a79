"""What a filter is, in figures, for `sagd filter show` and `sagd filter compare`."""

from dataclasses import dataclass
from typing import Any

from sagd_cli.config.filter import FilterConfig
from sagd_cli.design.advice import warn_of_terminal_snr
from sagd_cli.design.measure import Measurement, measure_diffused
from sagd_cli.diffusion.schedule_tables import snr_level
from sagd_cli.errors import UsageError
from sagd_cli.spectral.filter import SpectralFilter
from sagd_cli.spectral.grid import Array, format_shape
from sagd_cli.spectral.snr import band_snr, largest_snr
from sagd_cli.system.console import Output

TIMES = (0.0, 0.5, 1.0)
DEFAULT_SHAPE = (32, 32)


@dataclass(frozen=True, eq=False)
class Setting:
    """What filters are described for: fields of one `shape`, a schedule and, where there are data, their spectrum."""

    shape: tuple[int, ...]
    schedule: str
    measured: Measurement | None = None

    @classmethod
    def choose(
        cls, shape: tuple[int, ...] | None, data: str | None, schedule: str, output: Output
    ) -> "Setting":
        """Return the setting of `data`, or without data that of `shape` (None: 32x32).

        Raises UsageError when the schedule is unknown, and when the images have another shape than `shape`.
        """
        snr_level(schedule, 1.0)  # an unknown schedule is said before the data are read
        if data is None:
            return cls(shape or DEFAULT_SHAPE, schedule)
        measured = measure_diffused(data, output)
        found = measured.spectrum.grid.shape
        if shape not in (None, found):
            raise UsageError(
                f"the images of {data} have the shape {format_shape(found)}, not {format_shape(shape or ())}",
                "Leave out --size.",
            )
        return cls(found, schedule, measured)

    @property
    def terminal_level(self) -> float:
        """The signal-to-noise ratio alpha_1^2 / sigma_1^2 of the schedule at t = 1."""
        return snr_level(self.schedule, 1.0)

    @property
    def power(self) -> Array | None:
        """S(f) of the data on the half spectrum, None without data."""
        return None if self.measured is None else self.measured.spectrum.power


def build_filter(
    config: FilterConfig, setting: Setting, output: Output, name: str = "the filter"
) -> SpectralFilter:
    """Build a filter for the setting; warn when the data still show through its noise at t = 1.

    `name` is what the warning calls the filter.
    """
    built = config.weights(setting.shape)
    if setting.measured is not None:
        warn_of_terminal_snr(built, setting.measured.spectrum.power, setting.schedule, output, name)
    return built


def describe_filter(
    config: FilterConfig, setting: Setting, output: Output, name: str = "the filter"
) -> dict[str, Any]:
    """Return the JSON object of `sagd filter show`; the filter is built with `build_filter`, which may warn.

    It holds the profile, each band's share of the noise power, the rank, the condition number and, with data, the
    signal-to-noise ratio of each band.
    """
    built = build_filter(config, setting, output, name)
    described = {
        **config.document(),
        "shape": list(built.grid.shape),
        "power": built.power,
        "rank": built.rank,
        "size": built.grid.size,
        "condition": built.condition,
        "profile": [list(pair) for pair in built.profile()],
        "bands": built.band_shares,
        "sha256": config.sha256(),
    }
    if setting.measured is None:
        return described
    power = setting.measured.spectrum.power
    source = setting.measured.source.model_dump()
    return {**described, "data": source, "snr": _describe_snr(built, power, setting.schedule)}


def _describe_snr(built: SpectralFilter, power: Array, schedule: str) -> dict[str, Any]:
    """Return the signal-to-noise ratio of each band at t = 0, 0.5 and 1, and the largest of a frequency at t = 1."""
    by_time = {t: band_snr(built, power, snr_level(schedule, t)) for t in TIMES}
    bands = {name: [by_time[t][name] for t in TIMES] for name in by_time[TIMES[0]]}
    largest = largest_snr(built, power, snr_level(schedule, TIMES[-1]))
    return {"schedule": schedule, "t": list(TIMES), "bands": bands, "largest_terminal": largest}
