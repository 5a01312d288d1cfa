"""Rank statistics with ties, intervals over windows, null thresholds. Numpy only.

Arrays over windows and positions flow in; values, leave-one-window-out values and thresholds flow out. Windows are
rows; shorter ones are padded and masked. Knows no record, feature or protocol.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from autointerp.provenance import generator

N_PERMUTATIONS = 2_000
N_BOOTSTRAP = 10_000
Z95 = 1.959963984540054


class Statistic(NamedTuple):
    """A correlation pooled over all positions, and again without each window."""

    value: float
    """NaN where either side is constant."""
    without: Float[np.ndarray, " window"]
    """The statistic on all windows but one; 0 where leaving it out makes a side constant."""


class _Codes(NamedTuple):
    """Counts of (truth, prediction) value pairs: pooled, and in each window."""

    truth: Float[np.ndarray, " u"]
    """Distinct true values, ascending."""
    predicted: Float[np.ndarray, " v"]
    joint: Float[np.ndarray, "window u v"]


def spearman(
    truth: Float[np.ndarray, "window tok"],
    predicted: Float[np.ndarray, "window tok"],
    mask: Bool[np.ndarray, "window tok"],
) -> Statistic:
    """Spearman's rho with average ranks over all unmasked positions of all windows."""
    codes = _count_pairs(truth, predicted, mask)
    joint = _with_and_without(codes.joint)
    return _statistic(joint, _mid_ranks(joint.sum(axis=2)), _mid_ranks(joint.sum(axis=1)))


def pearson(
    truth: Float[np.ndarray, "window tok"],
    predicted: Float[np.ndarray, "window tok"],
    mask: Bool[np.ndarray, "window tok"],
) -> Statistic:
    """Pearson's r over all unmasked positions of all windows."""
    codes = _count_pairs(truth, predicted, mask)
    joint = _with_and_without(codes.joint)
    n = len(joint)
    return _statistic(joint, np.tile(codes.truth, (n, 1)), np.tile(codes.predicted, (n, 1)))


def mean_window_spearman(
    truth: Float[np.ndarray, "window tok"],
    predicted: Float[np.ndarray, "window tok"],
    mask: Bool[np.ndarray, "window tok"],
) -> float:
    """Mean of the windows' own rho over windows in which both sides vary; NaN where there is none."""
    codes = _count_pairs(truth, predicted, mask)
    values = _correlations(codes.joint, _mid_ranks(codes.joint.sum(axis=2)), _mid_ranks(codes.joint.sum(axis=1)))
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def _count_pairs(truth: np.ndarray, predicted: np.ndarray, mask: np.ndarray) -> _Codes:
    window = np.broadcast_to(np.arange(len(truth))[:, None], truth.shape)[mask]
    u, u_code = np.unique(truth[mask], return_inverse=True)
    v, v_code = np.unique(predicted[mask], return_inverse=True)
    size = len(truth) * len(u) * len(v)
    joint = np.bincount((window * len(u) + u_code) * len(v) + v_code, minlength=size)
    return _Codes(u, v, joint.reshape(len(truth), len(u), len(v)).astype(float))


def _with_and_without(joint: Float[np.ndarray, "window u v"]) -> Float[np.ndarray, "window_plus_1 u v"]:
    """Counts over all windows first, then without each one."""
    total = joint.sum(axis=0)
    return np.concatenate([total[None], total - joint])


def _mid_ranks(counts: Float[np.ndarray, "n value"]) -> Float[np.ndarray, "n value"]:
    """Average rank of each distinct value, from its counts."""
    return np.asarray(np.cumsum(counts, axis=1) - (counts - 1) / 2)


def _correlations(
    joint: Float[np.ndarray, "n u v"], x: Float[np.ndarray, "n u"], y: Float[np.ndarray, "n v"]
) -> Float[np.ndarray, " n"]:
    """Correlation of values x and y under counts; NaN where either is constant."""
    a, b = joint.sum(axis=2), joint.sum(axis=1)
    n = np.maximum(a.sum(axis=1), 1)
    x = x - ((a * x).sum(axis=1) / n)[:, None]
    y = y - ((b * y).sum(axis=1) / n)[:, None]
    covariance = np.einsum("nu,nuv,nv->n", x, joint, y, optimize=True)
    variance = (a * x**2).sum(axis=1) * (b * y**2).sum(axis=1)
    varies = ((a > 0).sum(axis=1) > 1) & ((b > 0).sum(axis=1) > 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(varies, np.clip(covariance / np.sqrt(variance), -1, 1), np.nan)


def _statistic(joint: np.ndarray, x: np.ndarray, y: np.ndarray) -> Statistic:
    values = _correlations(joint, x, y)
    return Statistic(float(values[0]), np.nan_to_num(values[1:], nan=0.0))


def jackknife(value: float, without: Float[np.ndarray, " window"]) -> tuple[float, float]:
    """95 % normal interval from the delete-one-window jackknife (Efron 1982); may pass a statistic's own bounds."""
    n = len(without)
    error = np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum())
    return float(value - Z95 * error), float(value + Z95 * error)


def null_threshold(
    truth: Float[np.ndarray, "window tok"],
    predicted: Float[np.ndarray, "window tok"],
    mask: Bool[np.ndarray, "window tok"],
) -> float:
    """95th percentile, one-sided, of rho with whole windows of predictions permuted over all windows.

    Ranks do not change under the permutation, so rho is a sum over a window-by-window table of rank products. A
    position that one of the two windows lacks counts as of mean rank.
    """
    x = _centred_ranks(truth, mask)
    y = _centred_ranks(predicted, mask)
    scale = np.sqrt((x**2).sum() * (y**2).sum())
    table = x @ y.T
    draws = table[np.arange(len(table)), _permutations(len(table))].sum(axis=1) / scale
    return float(np.quantile(draws, 0.95))


def _centred_ranks(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    _, code, counts = np.unique(values[mask], return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    centred = np.zeros(values.shape)
    centred[mask] = ranks[code] - (len(code) + 1) / 2
    return centred


@lru_cache(maxsize=64)
def _permutations(n: int) -> Int[np.ndarray, "draw n"]:
    rng = generator("null permutations", n)
    return rng.permuted(np.tile(np.arange(n), (N_PERMUTATIONS, 1)), axis=1)


def bootstrap_mean(values: Float[np.ndarray, " n"], seed: int) -> tuple[float, float]:
    """95 % percentile interval of a mean, over resampled values."""
    rng = generator(seed, "bootstrap", len(values))
    means = np.concatenate(
        [values[rng.integers(0, len(values), (500, len(values)))].mean(axis=1) for _ in range(N_BOOTSTRAP // 500)]
    )
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
