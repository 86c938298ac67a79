"""A share of a command's work, for machines that divide it without knowing of each other."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from sagd_cli.errors import UsageError

Work = TypeVar("Work")


@dataclass(frozen=True)
class Shard:
    """Share number `number`, from 1, of `count` equal ones. Together they are the whole work, and no two overlap."""

    number: int = 1
    count: int = 1

    def of(self, items: Sequence[Work]) -> Sequence[Work]:
        """Return every `count`-th of `items`: this share of them, which may be none."""
        return items[self.number - 1 :: self.count]

    def __str__(self) -> str:
        """Return the text that `parse_shard` reads."""
        return f"{self.number}/{self.count}"


def parse_shard(text: str | None) -> Shard:
    """Return the share that K/N names; None is the whole work. Raises UsageError unless 1 <= K <= N."""
    if text is None:
        return Shard()
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise UsageError(
            f"--shard {text!r} is not K/N with K from 1 to N",
            "Give 1/4, 2/4, 3/4 and 4/4 to four machines, for example.",
        )
    return Shard(int(found[1]), int(found[2]))
