"""How well predicted levels detect that a feature is active: AUROC, average precision, shares and recall. Numpy only.

Arrays `[feature, window, tok]` flow in, one value a feature (or a feature and decile) flows out, NaN where it is
undefined. Active is an activation above zero, detected a level above zero. Knows no record and no protocol.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from autointerp.interpret.ranks import ties
from autointerp.interpret.statistics import Mask, PerFeature, Values, flat

N_DECILES = 10


def auroc(truth: Values, predicted: Values, mask: Mask) -> PerFeature:
    """Chance that an active position is predicted above a silent one, ties half (Hanley & McNeil 1982).

    NaN without an active or without a silent position. Somers' D is 2 AUROC - 1.
    """
    t, p, seen = flat(truth, predicted, mask)
    active, silent = seen & (t > 0), seen & (t <= 0)
    beaten = ties(p, silent)
    wins = (active * (beaten.below + beaten.tied / 2)).sum(axis=1)
    return _ratio(wins, active.sum(axis=1) * silent.sum(axis=1))


def average_precision(truth: Values, predicted: Values, mask: Mask) -> PerFeature:
    """Precision at each distinct level, weighted by the recall it adds; no interpolation; NaN without active positions.

    The sum over thresholds is a mean over active positions of the precision at their own level.
    """
    t, p, seen = flat(truth, predicted, mask)
    active = seen & (t > 0)
    n_active, n = active.sum(axis=1, keepdims=True), seen.sum(axis=1, keepdims=True)
    found = n_active - ties(p, active).below
    claimed = n - ties(p, seen).below
    precision = np.divide(found, claimed, out=np.zeros_like(found), where=active)
    return _ratio(precision.sum(axis=1), n_active[:, 0])


def share_detected(predicted: Values, mask: Mask, windows: Bool[np.ndarray, "feature window"]) -> PerFeature:
    """Share of the positions of these windows with a level above zero; NaN where there is none.

    Over uniform windows, 1,000 times this is false positives per 1,000 tokens of random text; over hard ones it is the
    `hit_rate`, and 1,000 times it false positives per 1,000 tokens of hard text.
    """
    seen = mask & windows[:, :, None]
    return _ratio((seen & (predicted > 0)).sum(axis=(1, 2)), seen.sum(axis=(1, 2)))


def recall_by_decile(
    predicted: Values, decile: Int[np.ndarray, "feature window tok"]
) -> Float[np.ndarray, "feature decile"]:
    """Share of the positions of each decile with a level above zero, decile 1 first; NaN where a decile has none.

    Args:
        decile: of each position's own activation, 1..10; 0 keeps a position out (silent, masked, or not the target).
            With one target a window it is the decile the window was chosen for; with every position scored, the true
            levels of the rule `decile` are it, so that a weak activation beside a strong one counts as weak.
    """
    bins = (np.arange(len(predicted))[:, None, None] * (N_DECILES + 1) + decile).ravel()
    size = len(predicted) * (N_DECILES + 1)
    n = np.bincount(bins, minlength=size).reshape(len(predicted), -1)
    found = np.bincount(bins, weights=(predicted > 0).ravel(), minlength=size).reshape(len(predicted), -1)
    return _ratio(found[:, 1:], n[:, 1:])


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.asarray(np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0))
