"""The lattice of a periodic pattern's peaks (docs/theory.md, section 7).

What repeats along two directions, as a halftone or a grid does, has power at the sums of whole multiples of two
frequencies only, its generators. Multiples beyond the edge of the spectrum are wrapped around it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product
from math import comb, log

import numpy as np
from numpy.typing import NDArray

from sagd_cli.spectral.grid import Array

NEAR = 2.5  # bins along each axis within which a peak lies on a point of a lattice
MOST_ORDER = 5  # multiples of each generator
MOST_GENERATORS = 8  # of the peaks, in their order, that are tried as generators
FEWEST_FURTHER = 2  # peaks besides the generators that a lattice has to explain
FARTHEST = 0.75  # cycles/sample of a point from DC, before it is wrapped: harmonics beyond are faint
LATTICE_CHANCE = 1e-4  # that peaks at random places lie so
DENSEST = 0.1  # chance that one peak does
ROUNDS = 2
SQUARE = 1.5  # bins along each axis by which the fourth corner of a square may be off


@dataclass(frozen=True, eq=False)
class Lattice:
    """The frequencies n G for pairs n of whole numbers; the rows of `generators` G (2, 2) are in cycles/sample.

    `bins` (2,) is the resolution of the spectrum in which it was found. The first generator is the frequency of the
    lattice that is nearest to DC.
    """

    generators: Array
    bins: Array

    def holds(self, frequencies: Array) -> NDArray[np.bool_]:
        """Tell which of the frequencies (M, 2) lie on the lattice."""
        return self.orders(frequencies)[1]

    def orders(self, frequencies: Array) -> tuple[Array, NDArray[np.bool_]]:
        """Return the nearest point of each frequency, its multiples and turns around the torus (M, 4); is it near?

        Of several near points, that of the lowest order counts.
        """
        points = self._points
        offset = frequencies[:, None] - points @ self.generators
        turns = np.round(offset)
        distance = np.max(np.abs(offset - turns) / self.bins, axis=-1)
        cost = np.where(
            distance <= NEAR, distance / NEAR + np.linalg.norm(points, axis=1) / MOST_ORDER, np.inf
        )
        rows, nearest = np.arange(len(frequencies)), np.argmin(cost, axis=1)
        return np.column_stack([points[nearest], turns[rows, nearest]]), distance[rows, nearest] <= NEAR

    @property
    def density(self) -> float:
        """The chance that a peak at a random place lies on the lattice."""
        return float(len(self._points) * np.prod(2 * NEAR * self.bins))

    @cached_property
    def _points(self) -> NDArray[np.int64]:
        points = np.concatenate([_pairs(), -_pairs()])
        return np.asarray(points[np.linalg.norm(points @ self.generators, axis=1) < FARTHEST])

    @property
    def points(self) -> Array:
        """Its frequencies (M, 2) within the spectrum; one of each and its mirror, without DC."""
        most = int(np.ceil(np.max(np.abs(np.linalg.inv(self.generators)))))
        orders = np.array(list(product(range(-most, most + 1), repeat=2)))
        points = orders[len(orders) // 2 + 1 :] @ self.generators
        return np.asarray(points[np.max(np.abs(points), axis=1) <= 0.5])

    def fitted(self, frequencies: Array) -> "Lattice":
        """Return it with generators that fit the frequencies (M, 2) that lie on it best."""
        orders, on = self.orders(frequencies)
        if np.linalg.matrix_rank(orders[on, :2]) < 2:
            return self
        generators = np.linalg.lstsq(orders[on, :2], (frequencies - orders[:, 2:])[on], rcond=None)[0]
        return Lattice(np.asarray(generators, dtype=np.float64), self.bins)

    def reduced(self) -> "Lattice":
        """Return it with its two shortest generators (Lagrange and Gauss)."""
        first, second = sorted(self.generators, key=np.linalg.norm)
        while (turns := np.round(first @ second / (first @ first))) != 0:
            first, second = sorted([first, second - turns * first], key=np.linalg.norm)
        return Lattice(np.array([first, second]), self.bins)


def find_lattice(frequencies: Array, shape: Sequence[int]) -> Lattice | None:
    """Return the lattice on which most of the peaks (M, 2) lie, None where they may lie so by chance.

    `frequencies` are those of the peaks in fields of `shape`, the strongest first. Two of the first are generators,
    which then are fitted to all peaks on the lattice. The two strongest alone make a lattice where they are as far from
    DC and at right angles, as those of a screen are.
    """
    found, fewest, bins = None, FEWEST_FURTHER, 1 / np.array(shape)
    for pair in combinations(frequencies[:MOST_GENERATORS], 2):
        if abs(np.linalg.det(pair)) < np.prod(2 * NEAR * bins):
            continue  # they are multiples of one frequency
        lattice = Lattice(np.array(pair), bins)
        for _ in range(ROUNDS):
            lattice = lattice.fitted(frequencies)
        further = int(np.count_nonzero(lattice.holds(frequencies))) - 2
        if lattice.density > DENSEST or further < fewest:
            continue
        ways = comb(len(frequencies), 2) * comb(len(frequencies) - 2, further)
        if log(ways) + further * log(lattice.density) < log(LATTICE_CHANCE):
            found, fewest = lattice.reduced(), further + 1
    return found or _square(frequencies[:2], bins)


def _square(pair: Array, bins: Array) -> Lattice | None:
    """Return the square lattice that two frequencies make, None where they make none."""
    if len(pair) < 2:
        return None
    turned = pair[0, ::-1] * (1, -1)
    off = min(float(np.max(np.abs(pair[1] - sign * turned) / bins)) for sign in (1, -1))
    return Lattice(pair, bins) if off <= SQUARE else None


def _pairs() -> NDArray[np.int64]:
    """Return pairs (M, 2) of whole numbers up to `MOST_ORDER`: of each and its negative one, without (0, 0)."""
    pairs = np.array(list(product(range(-MOST_ORDER, MOST_ORDER + 1), repeat=2)))
    return pairs[len(pairs) // 2 + 1 :]
