"""Frozen models, and pydantic's reports turned into errors of one sentence."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from sagd_cli.errors import ConfigError, suggest
from sagd_cli.plugin.records import Options
from sagd_cli.plugin.registry import registry
from sagd_cli.system.settings import Settings

M = TypeVar("M", bound=BaseModel)
LONGEST_SHOWN = 200


class Frozen(Settings):
    """Settings that are written to files and hashed."""

    def document(self) -> dict[str, Any]:
        """Return the model as plain YAML values, with defaults written out."""
        return self.model_dump(mode="json")

    def sha256(self) -> str:
        """Return the hash of the model, whatever the order of its keys and the spelling of its numbers."""
        return digest_of(self.document())


def digest_of(document: dict[str, Any]) -> str:
    """Return the sha256 of plain values, whatever the order of the keys and the spelling of the numbers."""
    canonical = json.dumps(_without_negative_zero(document), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _without_negative_zero(value: Any) -> Any:
    """Replace -0.0 by 0.0, which is the same number."""
    if isinstance(value, dict):
        return {key: _without_negative_zero(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_negative_zero(item) for item in value]
    return 0.0 if isinstance(value, float) and value == 0 else value


def complete_options(model: Any, kind: str, name: str) -> None:
    """Check the `options` of a frozen model against those of the plug-in `name`, and write its defaults into them."""
    schema: type[Options] = registry().get(kind, name).options
    options = validate(schema, model.options, f"{kind} {name}")
    object.__setattr__(model, "options", options.model_dump(mode="json"))


def validate(schema: type[M], values: Mapping[str, Any], source: str) -> M:
    """Return `values` as a `schema`; raise ConfigError, which names `source` and the key, when they do not fit."""
    try:
        return schema.model_validate(dict(values))
    except ValidationError as error:
        problems = error.errors(include_url=False)
        first = problems[0]
        key = ".".join(str(part) for part in first["loc"])
        more = f" ({len(problems) - 1} more)" if len(problems) > 1 else ""
        if first["type"] == "extra_forbidden":
            known = _fields_at(schema, first["loc"])
            raise ConfigError(
                f"{source}: unknown key {key!r}{more}", suggest(str(first["loc"][-1]), known)
            ) from None
        message = first["msg"].removeprefix("Value error, ")
        plain = isinstance(first["input"], str | int | float | bool)
        shown = f", not {shortened(repr(first['input']))}" if plain else ""
        place = f"{source}: {key}: " if key else f"{source}: "
        choices = re.findall("'([^']+)'", message) if first["type"] == "literal_error" else []
        hint = suggest(str(first["input"]), choices)
        if first["type"] in ("string_type", "path_type") and shown:
            hint = 'A text that looks like a number, true or null is put in quotes, for example "1e3".'
        raise ConfigError(f"{place}{message[:1].lower()}{message[1:]}{shown}{more}", hint) from None


def shortened(text: str) -> str:
    """Return `text`, or its beginning where it is long."""
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def _fields_at(schema: type[BaseModel], location: tuple[int | str, ...]) -> Iterable[str]:
    for part in location[:-1]:
        annotation = schema.model_fields[str(part)].annotation if str(part) in schema.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        schema = annotation
    return schema.model_fields
