"""Knots of a radial profile, an option type that several families share."""

from typing import Annotated

import numpy as np
from pydantic import AfterValidator

Pairs = tuple[tuple[float, float], ...]


def _ordered(knots: Pairs) -> Pairs:
    rho, values = np.array(knots, dtype=float).reshape(-1, 2).T
    if len(rho) > 1000:
        raise ValueError("at most 1,000 knots make a profile")
    if len(rho) < 2 or np.any(np.diff(rho) <= 0):
        raise ValueError("at least two knots in increasing order of rho are needed")
    if rho[0] < 0 or rho[-1] > 1:
        raise ValueError("the knots' rho must lie in [0, 1]")
    if np.any(values < 0):
        raise ValueError("the knots' values must not be negative")
    return knots


def _positive(knots: Pairs) -> Pairs:
    if min(value for _, value in knots) <= 0:
        raise ValueError("the knots' values must be above 0")
    return knots


Knots = Annotated[Pairs, AfterValidator(_ordered)]
PositiveKnots = Annotated[Pairs, AfterValidator(_ordered), AfterValidator(_positive)]
