"""Documents as nobody should have written them: a value where it does not belong."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any


def altered(document: dict[str, Any], value: Any) -> Iterator[Any]:
    """The document with `value` in each of its places in turn, of lists in the first alone; then the value itself."""
    for *path, last in _places(document):
        odd = deepcopy(document)
        place: Any = odd
        for key in path:
            place = place[key]
        place[last] = value
        yield odd
    yield value


def _places(value: Any) -> Iterator[tuple[Any, ...]]:
    items = (
        value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    )
    for key, item in items:
        yield (key,)
        yield from ((key, *rest) for rest in _places(item))
