"""95 % intervals over windows of Spearman's rho and of its lift over a baseline on the same windows.

Activations, predictions, a baseline's predictions and each window's stratum flow in; a low and a high end for every
feature flow out, NaN where the value itself is undefined. Windows are the units, never tokens: positions of one window
err together. Knows no record and no protocol.

Which to take, for one target a window in thirds (tests/bench/bench_coverage.py, nominal .95, 60 and 120 windows): with
the strata weak active (deciles 1-5), strong active, uniform and hard, `jackknife` covers .93 to .97 for rho and for the
lift; `bca` .92 to .965 for rho but .91 to .95 for the lift. With the active windows in one stratum, as if their deciles
had not been fixed, rho is covered up to .98 of the time; resampling inside each decile is too narrow.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.special import ndtr, ndtri

from autointerp.interpret.ranks import chunks
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
LARGEST = 1 - 1e-12
"""Of a rho on Fisher's z scale, which ends before 1."""


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
    """Normal interval from the delete-one-window jackknife, for rho on Fisher's z scale.

    The variance is the sum over strata of (n - 1) / n times the squared deviations of the leave-one-out values from
    their stratum's mean, the rest of the stratum standing in for the window left out (Jones 1974). Leaving out the only
    window that makes a side vary counts as a rho of 0.

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
        for rows in chunks(len(group.features), n_draws + sum(group.sizes)):
            part = group._replace(features=group.features[rows], windows=group.windows[rows])
            own, *other = _resampled(part, truth, sides, mask, n_draws)
            _fill(found.spearman, part, _ends(part, own, bounded=True), 1.0)
            for base in other:
                lift = _Resampled(*(a - b for a, b in zip(own, base, strict=True)))
                _fill(found.lift, part, _ends(part, lift, bounded=False), 2.0)
    return found


def _resampled(group: DesignGroup, truth: Values, sides: list[Values], mask: Mask, n_draws: int) -> list[_Resampled]:
    own = group.take(truth), [group.take(side) for side in sides], group.take(mask)
    once = resampled_spearman(*own, np.concatenate([np.ones((1, sum(group.sizes))), leave_one_out(group.sizes)]))
    drawn = resampled_spearman(*own, bootstrap_draws(group.sizes, n_draws))
    return [
        _Resampled(rho[:, 0], np.nan_to_num(rho[:, 1:]), np.nan_to_num(draws))
        for rho, draws in zip(once, drawn, strict=True)
    ]


def _ends(group: DesignGroup, found: _Resampled, *, bounded: bool) -> Interval:
    cuts = np.cumsum(group.sizes)[:-1]
    strata = np.split(found.without, cuts, axis=1)
    deviations = np.concatenate([part - part.mean(axis=1, keepdims=True) for part in strata], axis=1)
    sizes = np.repeat(group.sizes, group.sizes)
    if found.draws.shape[1]:
        return _bca_ends(found, deviations, sizes)
    error = np.sqrt(((sizes - 1) / sizes * deviations**2).sum(axis=1))
    if not bounded:
        return Interval(found.value - Z95 * error, found.value + Z95 * error)
    inside = np.clip(found.value, -LARGEST, LARGEST)
    centre, half = np.arctanh(inside), Z95 * error / (1 - inside**2)
    return Interval(np.minimum(np.tanh(centre - half), found.value), np.maximum(np.tanh(centre + half), found.value))


def _fill(into: Interval, group: DesignGroup, ends: Interval, bound: float) -> None:
    for end, values in zip(into, ends, strict=True):
        end[group.features] = np.clip(values, -bound, bound)


def _bca_ends(found: _Resampled, deviations: np.ndarray, sizes: Int[np.ndarray, " window"]) -> Interval:
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
    return Interval(np.where(undefined, np.nan, low), np.where(undefined, np.nan, high))


def _level(bias: np.ndarray, acceleration: np.ndarray, z: float) -> np.ndarray:
    """Share of the draws below the end; beyond the acceleration's pole, which few windows may reach, none or all."""
    shifted = bias + z
    return np.asarray(ndtr(bias + shifted / np.maximum(1 - acceleration * shifted, 1e-9)))


def _quantile(ascending: Float[np.ndarray, "feature draw"], level: PerFeature) -> PerFeature:
    """Linear interpolation between the two draws around each feature's own level."""
    place = level * (ascending.shape[1] - 1)
    left = np.floor(place).astype(int)
    right = np.minimum(left + 1, ascending.shape[1] - 1)
    rows = np.arange(len(ascending))
    low, high = ascending[rows, left], ascending[rows, right]
    return np.asarray(low + (high - low) * (place - left))
