"""A restored image, as it goes from restoration to figures and reports."""

from dataclasses import dataclass
from typing import Any

from sagd_cli.data.ranges import Signal


@dataclass(frozen=True, eq=False)
class RestoredImage:
    """An image before and after its restoration; all signals are (C, H, W) on [-1, 1].

    `name` is what people know it by, `record` its JSON record. `truth` is the true image, `deviation` the standard
    deviation of the estimate at each pixel; both are None where they are not known.
    """

    name: str
    before: Signal
    after: Signal
    record: dict[str, Any]
    truth: Signal | None = None
    deviation: Signal | None = None
