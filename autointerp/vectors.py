"""Small searches in arrays that choosing windows rests on.

Arrays flow in, arrays flow out. Knows no corpus and no feature.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int


def ranges(first: Int[np.ndarray, " n"], length: Int[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
    """The integers from each first one on, as many as its length says, one range after the other."""
    before = np.cumsum(length) - length
    return np.asarray(np.arange(int(length.sum())) + np.repeat(first - before, length))


def events_inside(
    first: Int[np.ndarray, " n"], length: Int[np.ndarray, " n"], slot: Int[np.ndarray, " m"]
) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " k"]]:
    """Which events, by ascending slot, lie in windows, and the place of each in the windows laid end to end."""
    low, high = np.searchsorted(slot, (first, first + length))
    event = ranges(low, high - low)
    before = np.cumsum(length) - length
    return event, slot[event] + np.repeat(before - first, high - low)


def first_of_descending(values: Float[np.ndarray, " n"], k: int) -> Int[np.ndarray, " k"]:
    """Indices of the k largest values, largest first; of equal ones the first comes first."""
    among = np.arange(len(values))
    if 0 < k < len(values):
        ordered = values.copy()
        ordered.partition(len(values) - k)
        among = (values >= ordered[len(values) - k]).nonzero()[0]
    return among[np.argsort(-values[among], kind="stable")[:k]]


def strongest_of_each(value: Float[np.ndarray, " n"], document: Int[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
    """Index of the strongest event of each document, strongest first; of equal ones the first. `document` ascends."""
    if not len(value):
        return np.zeros(0, dtype=np.int64)
    start = np.flatnonzero(np.r_[True, document[1:] != document[:-1]])
    highest = np.maximum.reduceat(value, start)
    at_peak = np.flatnonzero(value == np.repeat(highest, np.diff(np.r_[start, len(value)])))
    return at_peak[np.searchsorted(at_peak, start)][np.argsort(-highest, kind="stable")]


def draw_each(weights: Float[np.ndarray, "n place"], rng: np.random.Generator) -> Int[np.ndarray, " n"]:
    """A place of each row drawn by weight; every row weighs something."""
    cumulative = np.cumsum(weights / weights.sum(axis=1, keepdims=True), axis=1)
    drawn = rng.random(len(weights))[:, None]
    return np.asarray((cumulative / cumulative[:, -1:] <= drawn).sum(axis=1))


def deal(group: Int[np.ndarray, " n"], sizes: Sequence[int], rng: np.random.Generator) -> Int[np.ndarray, " n"]:
    """Blocks of these sizes for items of groups, every block with its share of each; the last takes what is over."""
    by_group = np.argsort(group, kind="stable")
    ordered = group[by_group]
    first, end = np.searchsorted(ordered, ordered), np.searchsorted(ordered, ordered, side="right")
    share = np.zeros(len(group))
    share[by_group] = (np.arange(len(group)) - first + 0.5) / (end - first)
    order = np.lexsort((rng.permutation(len(group)), share))
    block = np.zeros(len(group), dtype=np.int64)
    block[order] = np.searchsorted(np.cumsum(sizes)[:-1], np.arange(len(group)), side="right")
    return block
