"""The base of all settings: frozen models that take numbers only where numbers are meant."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

LEADING_ZERO = re.compile(r"[-+]?0[0-9_]+")
_BOOLEAN = PydanticCustomError("number", "Input should be a number")
_AMBIGUOUS = PydanticCustomError(
    "number", "Input should be a number without a leading 0, which some programs take for octal"
)

Place = tuple[int | str, ...]


class Settings(BaseModel):
    """A model that never changes. Unknown keys, NaN and infinity are refused, and defaults are checked.

    True and false are no numbers, and a number with a leading 0 is refused: 010 is 8 in YAML 1.1 and 10 in YAML 1.2. A
    whole number may be written as 1e6.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @model_validator(mode="wrap")
    @classmethod
    def _refuse_doubtful_numbers(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        model = handler(values)
        if isinstance(values, Mapping):
            taken = {key: getattr(model, key) for key in values if key in cls.model_fields}
            problems = [
                InitErrorDetails(type=problem, loc=place, input=given)
                for problem, place, given in _doubtful(values, taken, ())
            ]
            if problems:
                raise ValidationError.from_exception_data(cls.__name__, problems)
        return model


def _doubtful(given: Any, taken: Any, place: Place) -> Iterator[tuple[PydanticCustomError, Place, Any]]:
    """Yield what was `taken` for a number and is doubtful as it was `given`."""
    if isinstance(taken, Mapping) and isinstance(given, Mapping):
        for key in given.keys() & taken.keys():
            yield from _doubtful(given[key], taken[key], (*place, key))
    elif isinstance(taken, list | tuple):
        several = isinstance(given, list | tuple)
        for i, value in enumerate(taken):
            if not several:
                yield from _doubtful(given, value, place)
            elif i < len(given):
                yield from _doubtful(given[i], value, (*place, i))
    elif isinstance(taken, int | float) and not isinstance(taken, bool):
        if isinstance(given, bool):
            yield _BOOLEAN, place, given
        elif isinstance(given, str) and LEADING_ZERO.fullmatch(given.strip()):
            yield _AMBIGUOUS, place, given
