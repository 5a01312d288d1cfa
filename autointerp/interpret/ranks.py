"""Mid-ranks under weights, row by row: the ties behind every rank statistic, and how features are cut into chunks.

Rows of values and non-negative weights flow in; the weight below and tied with each value flows out. Knows no
window, no level and no feature.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

CHUNK_ELEMENTS = 1 << 18
"""Elements of the largest array in one chunk: what a processor's cache holds, and far below any memory limit."""


class Ties(NamedTuple):
    """For every value of a row, how much weight of the row lies below it and at it."""

    below: Float[np.ndarray, "row n"]
    tied: Float[np.ndarray, "row n"]
    """Its own weight included."""


def ties(values: Float[np.ndarray, "row n"], weight: Float[np.ndarray, "row n"]) -> Ties:
    """Weight strictly below and tied with each value of its row; exact where the weights are whole numbers."""
    found = Ties(np.empty(values.shape), np.empty(values.shape))
    for rows in chunks(*values.shape):
        _fill(Ties(found.below[rows], found.tied[rows]), values[rows], weight[rows])
    return found


def _fill(found: Ties, values: np.ndarray, weight: np.ndarray) -> None:
    order = np.argsort(values, axis=1)
    ascending = np.take_along_axis(values, order, axis=1)
    until = np.cumsum(np.take_along_axis(weight, order, axis=1), axis=1, dtype=float)
    new = ascending[:, 1:] != ascending[:, :-1]
    edge = np.ones((len(values), 1), dtype=bool)
    before = np.concatenate([np.zeros((len(values), 1)), until[:, :-1]], axis=1)
    start = np.maximum.accumulate(np.where(np.concatenate([edge, new], axis=1), before, 0), axis=1)
    ends = np.where(np.concatenate([new, edge], axis=1), until, np.inf)
    stop = np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]
    np.put_along_axis(found.below, order, start, axis=1)
    np.put_along_axis(found.tied, order, stop - start, axis=1)


def centred_ranks(values: Float[np.ndarray, "row n"], weight: Float[np.ndarray, "row n"]) -> Float[np.ndarray, "row n"]:
    """Twice the mid-rank of each value less its weighted mean: whole numbers where the weights are."""
    found = ties(values, weight)
    return np.asarray(2 * found.below + found.tied - weight.sum(axis=1, keepdims=True))


def varies(values: Float[np.ndarray, "row n"], mask: Bool[np.ndarray, "row n"]) -> Bool[np.ndarray, " row"]:
    """Whether a row's unmasked values are at least two different ones."""
    largest = np.max(values, axis=1, initial=-np.inf, where=mask)
    return np.asarray(largest > np.min(values, axis=1, initial=np.inf, where=mask))


def chunks(n: int, elements_each: int) -> Iterator[slice]:
    """Cut n rows so that arrays of `elements_each` elements a row stay under `CHUNK_ELEMENTS`, one row at least."""
    size = max(1, CHUNK_ELEMENTS // max(1, elements_each))
    return (slice(start, min(start + size, n)) for start in range(0, n, size))
