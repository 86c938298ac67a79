"""The option that says which values are black and white."""

from typing import Annotated

from pydantic import AfterValidator

from sagd_cli.data.ranges import Range
from sagd_cli.errors import UsageError


def _checked(text: str) -> str:
    try:
        return str(Range.parse(text))
    except UsageError as error:
        raise ValueError(error.message) from None


RangeText = Annotated[str, AfterValidator(_checked)]


def parsed(text: str | None) -> Range | None:
    """Return the range that an option holds, or None where it is not given."""
    return None if text is None else Range.parse(text)
