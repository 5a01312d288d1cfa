"""How a dictionary's directions lie: along coordinates, near each other, near those of a known dictionary.

Arrays of directions flow in, a card's figures flow out. Knows no file and no feature's score.
"""

import numpy as np
from jaxtyping import Float

from autointerp.compare.card import Concentration, Recovery, Redundancy, Spread
from autointerp.nearest import Directions, nearest
from autointerp.provenance import generator

N_GAUSSIAN = 2_048
"""Directions drawn for the Gaussian reference."""
_ROWS = 4_096


def spread(values: Float[np.ndarray, " n"]) -> Spread:
    """Mean, median and the outer deciles of at least one value."""
    low, median, high = np.quantile(values, [0.1, 0.5, 0.9]).tolist()
    mean = float(np.mean(values, dtype=float))
    return Spread(mean=round(mean, 6), low=round(low, 6), median=round(median, 6), high=round(high, 6))


def concentration(directions: Directions, hook_point: str) -> Concentration:
    """Shares of the squared norm on the largest coordinates, and kurtosis over coordinates, beside Gaussian ones."""
    drawn = generator("gaussian reference", directions.shape[1]).standard_normal((N_GAUSSIAN, directions.shape[1]))
    own, reference = _peaks(directions), _peaks(drawn)
    return Concentration(
        hook_point=hook_point,
        top_1=own[0],
        top_10=own[1],
        kurtosis=own[2],
        gaussian_top_1=reference[0],
        gaussian_top_10=reference[1],
        gaussian_kurtosis=reference[2],
    )


def _peaks(directions: Directions) -> list[float]:
    """Means over directions of the top coordinate's share, the top ten's, and the kurtosis; those of length 0 apart."""
    sums, n = np.zeros(3), 0
    for low in range(0, len(directions), _ROWS):
        x = np.asarray(directions[low : low + _ROWS], dtype=float)
        x = x[np.abs(x).max(axis=1) > 0]
        square = np.square(x)
        share = square / square.sum(axis=1, keepdims=True)
        largest = np.sort(share, axis=1)[:, ::-1][:, :10]
        centred = x - x.mean(axis=1, keepdims=True)
        variance = np.square(centred).mean(axis=1)
        kurtosis = np.square(np.square(centred)).mean(axis=1) / np.where(variance > 0, variance, 1) ** 2
        sums += [largest[:, 0].sum(), largest.sum(), kurtosis.sum()]
        n += len(x)
    return [round(value, 6) for value in (sums / max(1, n)).tolist()]


def redundancy(max_cosine: Float[np.ndarray, " d_sae"]) -> Redundancy:
    """From each feature's largest decoder cosine with another one."""
    return Redundancy(
        max_cosine=spread(max_cosine),
        share_over_07=round(float((max_cosine > 0.7).mean()), 6),
        share_over_09=round(float((max_cosine > 0.9).mean()), 6),
    )


def recovery(known: str, truth: Directions, own: Directions) -> Recovery:
    """Each known direction's largest cosine with a direction of the dictionary (Sharkey et al. 2022)."""
    cosine = nearest(truth, own).cosine_a
    return Recovery(
        known=known,
        n_known=len(truth),
        mean_max_cosine=round(float(np.mean(cosine, dtype=float)), 6),
        share_over_09=round(float((cosine > 0.9).mean()), 6),
    )


def mean_pair_cosine(directions: Directions) -> float | None:
    """Mean cosine between two different directions; None below two of them."""
    x = np.asarray(directions, dtype=float)
    length = np.linalg.norm(x, axis=1)
    x = x[length > 0] / length[length > 0, None]
    n = len(x)
    if n < 2:
        return None
    return round(float((np.square(x.sum(axis=0)).sum() - n) / (n * (n - 1))), 6)
