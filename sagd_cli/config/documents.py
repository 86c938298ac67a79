"""JSON objects from files, which are checked before they are used."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from sagd_cli.config.validation import validate
from sagd_cli.errors import ConfigError, DataError

Number = Annotated[float, Field(allow_inf_nan=False)]


class Document(BaseModel):
    """The schema of a JSON object. Types are strict (text is no number); further keys are allowed."""

    model_config = ConfigDict(strict=True, extra="allow")


def check_document(
    schema: type[Document], values: Mapping[str, Any], source: str, kind: str, hint: str
) -> None:
    """Raise DataError when `values` do not fit `schema`.

    The message says that `source` is no `kind`, and why. `hint` says what to do.
    """
    try:
        validate(schema, values, source)
    except ConfigError as error:
        reason = error.message.removeprefix(f"{source}: ")
        raise DataError(f"{source} is no {kind}: {reason}", hint) from None
