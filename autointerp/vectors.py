"""Small searches in arrays that choosing windows rests on.

Arrays flow in, arrays flow out. Knows no corpus and no feature.
"""

import numpy as np
from jaxtyping import Float, Int


def ranges(first: Int[np.ndarray, " n"], length: Int[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
    """The integers from each first one on, as many as its length says, one range after the other."""
    before = np.cumsum(length) - length
    return np.asarray(np.arange(int(length.sum())) + np.repeat(first - before, length))


def first_of_descending(values: Float[np.ndarray, " n"], k: int) -> Int[np.ndarray, " k"]:
    """Indices of the k largest values, largest first; of equal ones the first comes first."""
    among = np.arange(len(values))
    if 0 < k < len(values):
        among = np.flatnonzero(values >= np.partition(values, len(values) - k)[len(values) - k])
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
