"""Which features of two dictionaries are the same: nearest neighbours by the cosine of their decoder directions.

Unit directions flow in, the nearest feature of the other dictionary for each side flows out; mutual ones are pairs.
Block by block, so that memory holds both dictionaries and one block of cosines. Knows no score: what is matched is
settled before any is looked at.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

COSINE_FLOOR = 0.7
"""Cosine from which two directions are taken for one feature (Leask et al. 2025; Paulo & Belrose 2025)."""
_ROWS, _COLUMNS = 512, 4096
"""A block of cosines: 8 MB, which stays near the processor."""

Directions = Float[np.ndarray, "feature d_out"]


class Nearest(NamedTuple):
    """Each feature's nearest one in the other dictionary; the lowest number of equally near ones."""

    of_a: Int[np.ndarray, " n_a"]
    cosine_a: Float[np.ndarray, " n_a"]
    of_b: Int[np.ndarray, " n_b"]
    cosine_b: Float[np.ndarray, " n_b"]


class Matched(NamedTuple):
    """Mutual nearest neighbours, by a's feature ascending."""

    a: Int[np.ndarray, " pair"]
    b: Int[np.ndarray, " pair"]
    cosine: Float[np.ndarray, " pair"]


def nearest(a: Directions, b: Directions) -> Nearest:
    """Nearest neighbours both ways; directions of length 0 (a feature without a decoder) are near nothing."""
    found = Nearest(*_unknown(len(a)), *_unknown(len(b)))
    left = _units(a)
    for low_b in range(0, len(b), _COLUMNS):
        columns = slice(low_b, min(low_b + _COLUMNS, len(b)))
        right = np.ascontiguousarray(_units(b[columns]).T)
        best = np.full(columns.stop - low_b, -np.inf, np.float32)
        for low_a in range(0, len(a), _ROWS):
            rows = slice(low_a, min(low_a + _ROWS, len(a)))
            cosine = left[rows] @ right
            _raise_rows(found, rows, low_b, cosine)
            _raise_columns(found, low_a, low_b, best, cosine)
        found.cosine_b[columns] = best
    return found


def _unknown(n: int) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(n, np.int64), np.full(n, -np.inf, np.float32)


def _units(directions: Directions) -> Directions:
    x = np.asarray(directions, dtype=np.float32)
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12))


def _raise_rows(found: Nearest, rows: slice, low_b: int, cosine: np.ndarray) -> None:
    """Take over what is nearer than any earlier column."""
    place = cosine.argmax(axis=1)
    here = np.take_along_axis(cosine, place[:, None], axis=1)[:, 0]
    nearer = here > found.cosine_a[rows]
    found.of_a[rows] = np.where(nearer, place + low_b, found.of_a[rows])
    found.cosine_a[rows] = np.where(nearer, here, found.cosine_a[rows])


def _raise_columns(found: Nearest, low_a: int, low_b: int, best: np.ndarray, cosine: np.ndarray) -> None:
    """The same down the columns; where the largest stands is looked up only in those that rose."""
    rose = np.flatnonzero(cosine.max(axis=0) > best)
    if len(rose):
        inside = cosine[:, rose]
        place = inside.argmax(axis=0)
        best[rose] = inside[place, np.arange(len(rose))]
        found.of_b[low_b + rose] = low_a + place


def mutual(found: Nearest, floor: float = COSINE_FLOOR) -> Matched:
    """Pairs that are each other's nearest, at a cosine of at least `floor`."""
    a = np.arange(len(found.of_a))
    kept = (found.of_b[found.of_a] == a) & (found.cosine_a >= floor)
    return Matched(a[kept], found.of_a[kept], found.cosine_a[kept])
