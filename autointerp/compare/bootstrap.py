"""Means over features and their differences, with studentised bootstrap intervals over features.

Values of one arm, by stratum or with weights, flow in; a `Resampled` estimate flows out: the value, its standard error,
and both again for every resample. Estimates of independent arms subtract; an interval and a p-value are read off the
distribution of (estimate* - estimate) / error* (bootstrap-t: Efron 1982; Hall 1988), which holds its level in strata of
five features, where percentiles do not. Knows no density and no record.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

ALPHA = 0.05
N_BOOTSTRAP = 10_000
"""Resamples of a contrast's headline."""
N_BESIDE = 2_000
"""Resamples of every figure beside it."""
_CELLS = 1 << 19
"""Values resampled at a time: few enough to stay in the processor's cache."""
_ROUNDING = 1e-12
"""Scores are at most 1: a difference or an error below this is none."""
_NO_SPREAD = 1e-6
"""Share of the standard error below which a resample's own is rounding."""

Values = Float[np.ndarray, " n"]


class Resampled(NamedTuple):
    """An estimate and what it would have been on resampled features."""

    value: float
    error: float
    """Standard error."""
    values: Float[np.ndarray, " draw"]
    errors: Float[np.ndarray, " draw"]

    def __sub__(self, other: "Resampled") -> "Resampled":
        """The difference of two estimates from independent features."""
        return Resampled(
            self.value - other.value,
            float(np.hypot(self.error, other.error)),
            self.values - other.values,
            np.hypot(self.errors, other.errors),
        )

    @property
    def _distances(self) -> Float[np.ndarray, " draw"]:
        """(estimate* - estimate) / error*; a resample without spread, all of one value, is taken at the error itself.

        Where nearly all values are one and the same, such resamples are common, and no interval would be finite.
        """
        off = self.values - self.value
        spread = np.where(self.errors > _NO_SPREAD * self.error, self.errors, self.error)
        return np.asarray(off / spread)

    def interval(self, alpha: float = ALPHA) -> tuple[float, float]:
        """Equal-tailed interval; a point where there is no spread."""
        if self.error < _ROUNDING:
            return self.value, self.value
        low, high = np.quantile(self._distances, [alpha / 2, 1 - alpha / 2], method="nearest")
        return self.value - float(high) * self.error, self.value - float(low) * self.error

    def p_value(self) -> float:
        """Two-sided p of a true value of 0, below .05 where the interval leaves 0 out; at least 2 / (draws + 1)."""
        if self.error < _ROUNDING:
            return 1.0 if abs(self.value) < _ROUNDING else 2 / (len(self.values) + 1)
        at = self.value / self.error
        beyond = min(int((self._distances >= at).sum()), int((self._distances <= at).sum()))
        return min(1.0, 2 * (1 + beyond) / (len(self.values) + 1))


def stratified_mean(
    strata: Sequence[Values], weights: Float[np.ndarray, " stratum"], n_draws: int, rng: np.random.Generator
) -> Resampled:
    """Weighted mean of stratum means, features resampled inside each stratum; at least two features in each."""
    value = variance = 0.0
    values, variances = np.zeros(n_draws), np.zeros(n_draws)
    for x, weight in zip(strata, weights.tolist(), strict=True):
        value += weight * float(x.mean())
        variance += weight**2 * float(x.var(ddof=1)) / len(x)
        for rows, drawn in _resamples(len(x), n_draws, rng):
            sample = x[drawn]
            mean = sample.mean(axis=1)
            square = np.einsum("dn,dn->d", sample, sample) / len(x) - mean**2
            values[rows] += weight * mean
            variances[rows] += weight**2 * np.maximum(square, 0) / (len(x) - 1)
    return Resampled(value, variance**0.5, values, np.sqrt(variances))


def plain_mean(x: Values, n_draws: int, rng: np.random.Generator) -> Resampled:
    """The mean of at least two values."""
    return stratified_mean([x], np.ones(1), n_draws, rng)


def weighted_mean(x: Values, weight: Values, n_draws: int, rng: np.random.Generator) -> Resampled:
    """sum w x / sum w of at least two features, resampled with their weights; the error is the linearised one."""
    values, errors = np.empty(n_draws), np.empty(n_draws)
    for rows, drawn in _resamples(len(x), n_draws, rng):
        values[rows], errors[rows] = _ratio(x[drawn], weight[drawn])
    value, error = _ratio(x[None], weight[None])
    return Resampled(float(value[0]), float(error[0]), values, errors)


def _ratio(x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The weighted mean of each row and its linearised standard error (Cochran 1977, 6.4)."""
    total = w.sum(axis=1)
    mean = (w * x).sum(axis=1) / total
    off = w * (x - mean[:, None])
    n = x.shape[1]
    return mean, np.sqrt(n / (n - 1) * np.einsum("dn,dn->d", off, off)) / total


def _resamples(n: int, n_draws: int, rng: np.random.Generator) -> Iterator[tuple[slice, np.ndarray]]:
    """Draws of n places with replacement, some at a time."""
    step = max(1, _CELLS // n)
    for low in range(0, n_draws, step):
        rows = slice(low, min(low + step, n_draws))
        yield rows, rng.integers(0, n, (rows.stop - low, n), dtype=np.int32)
