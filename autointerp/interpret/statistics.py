"""Correlations between true activations and predicted levels, of many features at once. Numpy only.

Arrays `[feature, window, tok]` flow in, one value a feature flows out: NaN where it is undefined, for whoever calls to
name the reason. A false mask is padding or a window without an answer; what stands there is never read. Values are
pooled over all positions of all windows unless said otherwise. Knows no record and no protocol.
"""

import numpy as np
from jaxtyping import Bool, Float

from autointerp.interpret.ranks import centred_ranks, chunks, varies
from autointerp.provenance import generator

N_BOOTSTRAP = 10_000

Values = Float[np.ndarray, "feature window tok"]
"""Raw activations or predicted levels."""
Mask = Bool[np.ndarray, "feature window tok"]
PerFeature = Float[np.ndarray, " feature"]


def spearman(
    truth: Values, predicted: Values, mask: Mask, weight: Float[np.ndarray, "feature window"] | None = None
) -> PerFeature:
    """Spearman's rho with average ranks (Kendall & Gibbons 1990); NaN where a side is constant.

    The ceiling of a feature is this of its true levels in the place of the predictions.

    Args:
        weight: the inverse of each window's inclusion probability (Horvitz & Thompson 1952), for the value over the
            population that the windows were drawn from; every position counts once without it.
    """
    t, p, seen = flat(truth, predicted, mask)
    w = seen.astype(float)
    if weight is not None:
        w *= np.repeat(weight, truth.shape[2], axis=1)
    return _correlation(centred_ranks(t, w), centred_ranks(p, w), w, varies(t, seen) & varies(p, seen))


def spearman_among_active(truth: Values, predicted: Values, mask: Mask) -> PerFeature:
    """Spearman's rho over the positions with an activation above zero: whether strength is told apart, not presence."""
    return spearman(truth, predicted, mask & (truth > 0))


def mean_window_spearman(truth: Values, predicted: Values, mask: Mask) -> PerFeature:
    """Mean of the windows' own rho over windows in which both sides vary; NaN where there is none."""
    n_feature, n_window, n_tok = truth.shape
    rows = (array.reshape(n_feature * n_window, 1, n_tok) for array in (truth, predicted, mask))
    own = spearman(*rows).reshape(n_feature, n_window)
    defined = np.isfinite(own)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(defined, own, 0).sum(axis=1) / defined.sum(axis=1))


def pearson(truth: Values, predicted: Values, mask: Mask) -> PerFeature:
    """Pearson's r; NaN where a side is constant."""
    t, p, seen = flat(truth, predicted, mask)
    w = seen.astype(float)
    return _correlation(_centred(t, w), _centred(p, w), w, varies(t, seen) & varies(p, seen))


def kendall(truth: Values, predicted: Values, mask: Mask) -> PerFeature:
    """Kendall's tau-b (Kendall 1945), from the signs of all pairs of positions; NaN where a side is constant."""
    t, p, seen = flat(truth, predicted, mask)
    defined = varies(t, seen) & varies(p, seen)
    values = np.empty(len(t))
    for rows in chunks(len(t), t.shape[1] ** 2):
        ordered, answered = _signs(t[rows], seen[rows]), _signs(p[rows], seen[rows])
        values[rows] = _ratio(
            _pairs(ordered, answered), _pairs(ordered, ordered), _pairs(answered, answered), defined[rows]
        )
    return values


def flat(
    truth: Values, predicted: Values, mask: Mask
) -> tuple[Float[np.ndarray, "feature n"], Float[np.ndarray, "feature n"], Bool[np.ndarray, "feature n"]]:
    """Each feature's positions in one row, zero where masked."""
    if not truth.shape == predicted.shape == mask.shape:
        raise ValueError(f"truth {truth.shape}, predictions {predicted.shape} and mask {mask.shape} differ in shape")
    seen = mask.reshape(mask.shape[0], mask.shape[1] * mask.shape[2])
    t, p = (np.where(seen, values.reshape(seen.shape), 0.0) for values in (truth, predicted))
    return t, p, seen


def _centred(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Values less their mean, scaled so that squares of any activation stay finite."""
    scale = np.abs(values).max(axis=1, keepdims=True, initial=0)
    scaled = values / np.where(scale > 0, scale, 1)
    n = np.maximum(weight.sum(axis=1, keepdims=True), 1)
    return np.asarray(scaled - (weight * scaled).sum(axis=1, keepdims=True) / n)


def _correlation(x: np.ndarray, y: np.ndarray, weight: np.ndarray, defined: np.ndarray) -> PerFeature:
    """Correlation of centred values under weights."""
    wx = weight * x
    return _ratio((wx * y).sum(axis=1), (wx * x).sum(axis=1), (weight * y * y).sum(axis=1), defined)


def _ratio(covariance: np.ndarray, x: np.ndarray, y: np.ndarray, defined: np.ndarray) -> PerFeature:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(defined, np.clip(covariance / np.sqrt(x * y), -1, 1), np.nan)


def _signs(values: np.ndarray, seen: np.ndarray) -> Float[np.ndarray, "row n n"]:
    """Sign of every difference within a row, 0 with a masked position: no comparison with NaN is true."""
    v = np.where(seen, values, np.nan)
    larger = v[:, :, None] > v[:, None, :]
    return larger.astype(np.float32) - larger.transpose(0, 2, 1)


def _pairs(x: np.ndarray, y: np.ndarray) -> Float[np.ndarray, " row"]:
    """Sum of products of signs: whole numbers, exact within one row of pairs and between them."""
    return np.asarray(np.einsum("rij,rij->ri", x, y).sum(axis=1, dtype=float))


def bootstrap_mean(values: Float[np.ndarray, " n"], seed: int) -> tuple[float, float]:
    """95 % percentile interval of a mean, over resampled values."""
    rng = generator(seed, "bootstrap", len(values))
    means = np.concatenate(
        [values[rng.integers(0, len(values), (500, len(values)))].mean(axis=1) for _ in range(N_BOOTSTRAP // 500)]
    )
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
