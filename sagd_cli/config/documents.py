"""JSON objects that `sagd` or anybody has written, checked before they are relied on."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from sagd_cli.config.validation import validate
from sagd_cli.errors import ConfigError, DataError

Number = Annotated[float, Field(allow_inf_nan=False)]


class Document(BaseModel):
    """What has to be in an object: text is no number, and keys that are not named may be there."""

    model_config = ConfigDict(strict=True, extra="allow")


def check_document(
    schema: type[Document], values: Mapping[str, Any], source: str, kind: str, hint: str
) -> None:
    """Raise DataError, which says that `source` is no `kind` and why, when the values do not fit."""
    try:
        validate(schema, values, source)
    except ConfigError as error:
        reason = error.message.removeprefix(f"{source}: ")
        raise DataError(f"{source} is no {kind}: {reason}", hint) from None
