"""95 % intervals over windows of Spearman's rho and of its lift over a baseline on the same windows.

Activations, predictions, a baseline's predictions and each window's stratum flow in; a low and a high end for every
feature flow out, NaN where the value itself is undefined. Windows are the units, never tokens: positions of one window
err together. Knows no record and no protocol.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.special import ndtr, ndtri

from autointerp.interpret.resampling import (
    DesignGroup,
    bootstrap_draws,
    design_groups,
    leave_one_out,
    resampled_spearman,
)
from autointerp.interpret.statistics import Mask, PerFeature, Values

N_DRAWS = 1_000
Z95 = 1.959963984540054


class Interval(NamedTuple):
    """The ends of a 95 % interval."""

    low: PerFeature
    high: PerFeature


class Intervals(NamedTuple):
    """Of rho, within [-1, 1], and of rho less the baseline's rho, within [-2, 2]; the latter NaN without a baseline."""

    spearman: Interval
    lift: Interval


class _Resampled(NamedTuple):
    """A statistic on all windows, without each, and on bootstrap draws."""

    value: PerFeature
    without: Float[np.ndarray, "feature window"]
    draws: Float[np.ndarray, "feature draw"]


def jackknife(
    truth: Values,
    predicted: Values,
    mask: Mask,
    stratum: Int[np.ndarray, "feature window"],
    baseline: Values | None = None,
) -> Intervals:
    """Normal interval from the delete-one-window jackknife (Efron & Stein 1981), variances added over strata.

    The variance is the sum over strata of (n - 1) / n times the squared deviations of the leave-one-out values from
    their stratum's mean. Leaving out the only window that makes a side vary counts as a rho of 0.

    Args:
        stratum: any number per window; all alike is one stratum.
        baseline: predictions whose rho on the same windows is subtracted, pair by pair.
    """
    return _intervals(truth, predicted, mask, stratum, baseline, 0)


def bca(
    truth: Values,
    predicted: Values,
    mask: Mask,
    stratum: Int[np.ndarray, "feature window"],
    baseline: Values | None = None,
    n_draws: int = N_DRAWS,
) -> Intervals:
    """Bias-corrected and accelerated bootstrap over windows (Efron 1987), resampled inside each stratum.

    The acceleration comes from the stratified jackknife (Davison & Hinkley 1997, 5.3); draws equal to the value count
    half in the bias correction; a draw in which a side is constant counts as a rho of 0. Arguments as of `jackknife`.
    """
    return _intervals(truth, predicted, mask, stratum, baseline, n_draws)


def _intervals(
    truth: Values, predicted: Values, mask: Mask, stratum: np.ndarray, baseline: Values | None, n_draws: int
) -> Intervals:
    found = Intervals(*(Interval(np.full(len(truth), np.nan), np.full(len(truth), np.nan)) for _ in range(2)))
    sides = [predicted] if baseline is None else [predicted, baseline]
    for group in design_groups(mask, stratum):
        if not group.sizes:
            continue
        own, *other = _resampled(group, truth, sides, mask, n_draws)
        _fill(found.spearman, group, own, 1.0)
        for base in other:
            lift = _Resampled(*(a - b for a, b in zip(own, base, strict=True)))
            _fill(found.lift, group, lift, 2.0)
    return found


def _resampled(group: DesignGroup, truth: Values, sides: list[Values], mask: Mask, n_draws: int) -> list[_Resampled]:
    n = sum(group.sizes)
    draws = [np.ones((1, n)), leave_one_out(n)]
    if n_draws:
        draws.append(bootstrap_draws(group.sizes, n_draws))
    rho = resampled_spearman(
        group.take(truth), [group.take(side) for side in sides], group.take(mask), np.concatenate(draws)
    )
    return [_Resampled(r[:, 0], *(np.nan_to_num(part) for part in np.split(r[:, 1:], [n], axis=1))) for r in rho]


def _fill(into: Interval, group: DesignGroup, found: _Resampled, bound: float) -> None:
    deviations = np.concatenate(
        [
            part - part.mean(axis=1, keepdims=True)
            for part in np.split(found.without, np.cumsum(group.sizes)[:-1], axis=1)
        ],
        axis=1,
    )
    sizes = np.repeat(group.sizes, group.sizes)
    if found.draws.shape[1]:
        low, high = _bca_ends(found, deviations, sizes)
    else:
        error = np.sqrt(((sizes - 1) / sizes * deviations**2).sum(axis=1))
        low, high = found.value - Z95 * error, found.value + Z95 * error
    into.low[group.features] = np.clip(low, -bound, bound)
    into.high[group.features] = np.clip(high, -bound, bound)


def _bca_ends(
    found: _Resampled, deviations: np.ndarray, sizes: Int[np.ndarray, " window"]
) -> tuple[PerFeature, PerFeature]:
    n_draws = found.draws.shape[1]
    value = found.value[:, None]
    below = (found.draws < value).mean(axis=1) + (found.draws == value).mean(axis=1) / 2
    # No draw on one side is less than half a draw's worth of evidence, not an infinite bias.
    bias = ndtri(np.clip(below, 0.5 / n_draws, 1 - 0.5 / n_draws))
    influence = -(sizes - 1) / sizes * deviations
    square = (influence**2).sum(axis=1)
    cube = (influence**3).sum(axis=1)
    acceleration = np.divide(cube, 6 * square**1.5, out=np.zeros_like(square), where=square > 0)
    ascending = np.sort(found.draws, axis=1)
    low, high = (_quantile(ascending, _level(bias, acceleration, z)) for z in (-Z95, Z95))
    undefined = np.isnan(found.value)
    return np.where(undefined, np.nan, low), np.where(undefined, np.nan, high)


def _level(bias: np.ndarray, acceleration: np.ndarray, z: float) -> np.ndarray:
    return np.asarray(ndtr(bias + (bias + z) / (1 - acceleration * (bias + z))))


def _quantile(ascending: Float[np.ndarray, "feature draw"], level: PerFeature) -> PerFeature:
    """Linear interpolation between the two draws around each feature's own level."""
    place = level * (ascending.shape[1] - 1)
    left = np.floor(place).astype(int)
    right = np.minimum(left + 1, ascending.shape[1] - 1)
    rows = np.arange(len(ascending))
    low, high = ascending[rows, left], ascending[rows, right]
    return np.asarray(low + (high - low) * (place - left))
