"""Permutation tests, the second route beside the bootstrap, and Holm's correction over planned contrasts.

Values by stratum, or paired differences, flow in; p-values flow out. The statistic is studentised, so that the test
holds for equal means even where spreads and numbers differ (Janssen 1997; Chung & Romano 2013).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

N_PERMUTATION = 2_000
_CELLS = 1 << 19

Values = Float[np.ndarray, " n"]


def permutation_p(
    a: Sequence[Values],
    b: Sequence[Values],
    weights: Float[np.ndarray, " stratum"],
    n_draws: int,
    rng: np.random.Generator,
) -> float:
    """Two-sided p of equal stratum means, the arms' labels permuted within strata.

    The statistic is the weighted difference of stratum means over its standard error; at least two values of each arm
    in each stratum.
    """
    gap, variance = np.zeros(n_draws + 1), np.zeros(n_draws + 1)
    for x, y, weight in zip(a, b, weights.tolist(), strict=True):
        both = np.concatenate([x, y])
        both = both - both.mean()
        n, m = len(x), len(y)
        own = np.empty((n_draws + 1, 2))
        own[0] = x.sum() - n * _mean(x, y), np.square(both[:n]).sum()
        step = max(1, _CELLS // len(both))
        for low in range(1, n_draws + 1, step):
            high = min(low + step, n_draws + 1)
            first = rng.permuted(np.broadcast_to(both, (high - low, len(both))), axis=1)[:, :n]
            own[low:high, 0] = first.sum(axis=1)
            own[low:high, 1] = np.einsum("dn,dn->d", first, first)
        mean, other = own[:, 0] / n, -own[:, 0] / m
        gap += weight * (mean - other)
        spread = (own[:, 1] - n * mean**2) / (n - 1) / n
        spread += (np.square(both).sum() - own[:, 1] - m * other**2) / (m - 1) / m
        variance += weight**2 * np.maximum(spread, 0)
    return _beyond(gap, np.sqrt(variance))


def sign_flip_p(difference: Values, n_draws: int, rng: np.random.Generator) -> float:
    """Two-sided p of paired differences that are as likely up as down, their signs flipped at random."""
    sums = np.empty(n_draws + 1)
    sums[0] = difference.sum()
    step = max(1, _CELLS // max(1, len(difference)))
    for low in range(1, n_draws + 1, step):
        high = min(low + step, n_draws + 1)
        signs = rng.integers(0, 2, (high - low, len(difference)), dtype=np.int8)
        sums[low:high] = (2 * signs - 1) @ difference
    return _beyond(sums, np.ones(n_draws + 1))


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm 1979), in their own order."""
    corrected = [0.0] * len(p)
    largest = 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        largest = max(largest, min(1.0, (len(p) - rank) * p[i]))
        corrected[i] = largest
    return corrected


def _mean(x: Values, y: Values) -> float:
    return float(np.concatenate([x, y]).mean())


def _beyond(gap: Float[np.ndarray, " draw_1"], error: Float[np.ndarray, " draw_1"]) -> float:
    """Share of draws at least as far from 0 as the first, itself counted; rounding is no distance."""
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.where(np.abs(gap) < 1e-12, 0.0, np.abs(gap) / error)
    return float((size >= size[0] * (1 - 1e-9)).mean())
