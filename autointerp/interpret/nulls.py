"""The null threshold of a score: what a feature's own predictions reach when dealt to its windows at random.

Activations and predictions flow in; the 95th percentile, one-sided, of Spearman's rho over 2,000 permutations of the
answered windows flows out, strata ignored. Knows no record and no protocol.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int

from autointerp.interpret.ranks import centred_ranks, chunks, varies
from autointerp.interpret.resampling import MOST_SINGLE, design_groups, serial_product
from autointerp.interpret.statistics import Mask, PerFeature, Values
from autointerp.provenance import generator

N_PERMUTATIONS = 2_000
QUANTILE = 0.95


def null_threshold(truth: Values, predicted: Values, mask: Mask) -> PerFeature:
    """95th percentile of Spearman's rho with whole windows of predictions permuted; NaN where a side is constant.

    Ranks do not change under a permutation, so rho is a sum of products of fixed ranks. With one position a window it
    depends on nothing but the two tie patterns: features of one truth pattern share their permuted ranks, and equal
    pairs of patterns get equal thresholds. With more, a position that one of two windows lacks counts as of mean rank.
    """
    found = np.full(len(truth), np.nan)
    for group in design_groups(mask, np.zeros(mask.shape[:2], dtype=np.int64)):
        seen = group.take(mask)
        flat_seen = seen.reshape(len(seen), seen.shape[1] * seen.shape[2])
        sides = [np.where(flat_seen, group.take(v).reshape(flat_seen.shape), 0.0) for v in (truth, predicted)]
        defined = varies(sides[0], flat_seen) & varies(sides[1], flat_seen)
        x, y = ((centred_ranks(side, flat_seen.astype(float)) * flat_seen)[defined] for side in sides)
        of_draws = _by_pattern if mask.shape[2] == 1 else _by_window
        scale = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
        found[group.features[defined]] = of_draws(x, y, group.sizes[0]) / scale
    return found


def _by_pattern(
    x: Float[np.ndarray, "feature window"], y: Float[np.ndarray, "feature window"], n: int
) -> Float[np.ndarray, " feature"]:
    """Quantile of the permuted rank products, from the sorted ranks, which are the tie patterns."""
    exact = np.float32 if n <= MOST_SINGLE else np.float64
    patterns, of_feature = np.unique(np.sort(x, axis=1).astype(exact), axis=0, return_inverse=True)
    answers = np.sort(y, axis=1).astype(exact)
    found = np.empty(len(x))
    for i, pattern in enumerate(patterns):
        features = np.flatnonzero(of_feature.ravel() == i)
        permuted = pattern[_permutations(n)]
        for rows in chunks(len(features), N_PERMUTATIONS):
            found[features[rows]] = _quantile(serial_product(permuted, answers[features[rows]].T[None])[0].T)
    return found


def _by_window(
    x: Float[np.ndarray, "feature n"], y: Float[np.ndarray, "feature n"], n: int
) -> Float[np.ndarray, " feature"]:
    """Quantile of the permuted rank products, from each feature's table of windows by windows."""
    found = np.empty(len(x))
    shape = (len(x), n, x.shape[1] // n)
    for i, (a, b) in enumerate(zip(x.reshape(shape), y.reshape(shape), strict=True)):
        found[i] = _quantile((a @ b.T)[np.arange(n), _permutations(n)].sum(axis=1)[None])[0]
    return found


def _quantile(draws: Float[np.ndarray, "feature draw"]) -> Float[np.ndarray, " feature"]:
    """The draws' quantile with linear interpolation, as numpy's."""
    place = QUANTILE * (draws.shape[1] - 1)
    k = int(place)
    near = np.partition(draws, (k, k + 1), axis=1)[:, k : k + 2].astype(float)
    return np.asarray(near[:, 0] + (place - k) * (near[:, 1] - near[:, 0]))


@lru_cache(maxsize=16)
def _permutations(n: int) -> Int[np.ndarray, "draw n"]:
    return generator("null permutations", n).permuted(np.tile(np.arange(n), (N_PERMUTATIONS, 1)), axis=1)
