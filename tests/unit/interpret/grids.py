"""Arrays `[feature, window, tok]` with ties, padding and windows without an answer, for tests of statistics."""

from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from jaxtyping import Bool, Float, Int


class Grid(NamedTuple):
    """What a statistic takes; masked places hold NaN, so that a value read there shows."""

    truth: Float[np.ndarray, "feature window tok"]
    predicted: Float[np.ndarray, "feature window tok"]
    mask: Bool[np.ndarray, "feature window tok"]


def make_grid(seed: int, n_feature: int = 1, n_window: int = 12, n_tok: int = 7) -> Grid:
    """Activations with many zeros, levels that follow them, windows of different lengths (one position at least)."""
    rng = np.random.default_rng(seed)
    truth = np.maximum(rng.normal(size=(n_feature, n_window, n_tok)), 0).round(1)
    predicted = np.clip((truth * 4 + rng.normal(size=truth.shape)).round(), 0, 10)
    return masked(truth, predicted, np.arange(n_tok) < rng.integers(1, n_tok + 1, (n_feature, n_window, 1)))


def masked(truth: np.ndarray, predicted: np.ndarray, mask: np.ndarray) -> Grid:
    """A grid with NaN where the mask is false."""
    return Grid(np.where(mask, truth, np.nan), np.where(mask, predicted, np.nan), mask)


def thirds(mask: Bool[np.ndarray, "feature window tok"]) -> Int[np.ndarray, "feature window"]:
    """Three strata in turn, so that neighbours in the array are not neighbours in a stratum."""
    return np.tile(np.arange(mask.shape[1]) % 3, (len(mask), 1))


@st.composite
def tied_grids(draw: st.DrawFn) -> Grid:
    """Three features of few distinct values and any mask, whole windows and whole features masked included."""
    shape = (3, draw(st.integers(1, 12)), draw(st.integers(1, 4)))
    values = arrays.arrays(np.float64, shape, elements=st.integers(0, draw(st.integers(1, 6))).map(float))
    return masked(draw(values), draw(values), draw(arrays.arrays(np.bool_, shape)))
