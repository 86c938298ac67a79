"""Blocks of images, as metrics see them."""

from collections.abc import Mapping
from dataclasses import dataclass

from sagd_cli.features.moments import Gaussian
from sagd_cli.features.rows import Rows
from sagd_cli.features.survey import Side


@dataclass(frozen=True, eq=False)
class Block:
    """The moments of a block of images, and its rows by what needs them: ROWS or LOGITS of the catalogue."""

    gaussian: Gaussian
    rows: Mapping[str, Rows]


def blocks_of(side: Side, layers: Mapping[str, str]) -> list[Block]:
    """Divide a side into its blocks; `layers` are those whose rows were kept, by what needs them."""
    count = len(side.gaussians)
    parts = {need: side.rows[name].parts(count) for need, name in layers.items() if name in side.rows}
    return [
        Block(gaussian, {need: rows[k] for need, rows in parts.items()})
        for k, gaussian in enumerate(side.gaussians)
    ]
