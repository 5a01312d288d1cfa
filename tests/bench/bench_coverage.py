"""How often 95 % intervals over windows cover the planted value, for one graded target a window in thirds.

    python tests/bench/bench_coverage.py [--draws 2000] [--density 0.001]

Planted features after SCORING B 4.0: every hard negative a true confusable, the judge answers the decile's level.
Prints, for Spearman and for its lift over a token look-up, the share of draws whose interval holds the value that the
same planted explanation has over 600,000 windows, and the mean width.
"""

import argparse
import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from autointerp.interpret.intervals import Interval, Intervals, bca, jackknife
from autointerp.interpret.statistics import spearman


class Explanation(NamedTuple):
    """How a judge with this explanation errs (SCORING B 4.0)."""

    weak: float
    """Recall at the weakest activation, rising linearly to `strong` at the 95th percentile."""
    strong: float
    confusable: float
    """Share of confusable tokens it fires on."""
    base: float
    """Share of other silent tokens it fires on."""
    miss: float
    """Share of windows whose recall falls to a fifth."""
    hallucinate: float
    """Share of windows whose base rate is tenfold."""
    noise: float
    """Standard deviation of the answered level around the true one."""


EXPLANATIONS = {
    "good": Explanation(0.80, 0.95, 0.10, 0.002, 0.05, 0.02, 1.5),
    "broad": Explanation(0.90, 0.97, 0.90, 0.002, 0.05, 0.02, 1.5),
    "narrow": Explanation(0.10, 0.95, 0.03, 0.0005, 0.05, 0.01, 1.5),
    "noisy": Explanation(0.40, 0.70, 0.30, 0.01, 0.20, 0.10, 3.0),
}
LOOKUP = Explanation(0.97, 0.97, 0.97, 0.0, 0.0, 0.0, 2.5)


class Sample(NamedTuple):
    """Windows of many draws of one planted feature."""

    truth: Float[np.ndarray, "draw window tok"]
    own: Float[np.ndarray, "draw window tok"]
    lookup: Float[np.ndarray, "draw window tok"]
    thirds: Int[np.ndarray, "draw window"]
    """Active, uniform, hard."""
    quarters: Int[np.ndarray, "draw window"]
    """The same with the upper five deciles apart."""


def sample(explanation: Explanation, density: float, n_draws: int, n_window: int, rng: np.random.Generator) -> Sample:
    """A third active, by decile; a third uniform over silent positions; a third confusable."""
    third = n_window // 3
    shape = (n_draws, n_window)
    stratum = np.tile(np.repeat(np.arange(3), third), (n_draws, 1))
    reference = np.sort(rng.exponential(size=200_000) * rng.gamma(2, 0.5, 200_000) + 0.02)
    levels = np.where(stratum == 0, np.arange(n_window) % 10 + 1, 0)
    place = np.maximum(levels - 1, 0) / 10 + rng.random(shape) / 10
    truth = np.where(levels > 0, reference[(place * (len(reference) - 1)).astype(int)], 0.0)
    confusable = (stratum == 2) | ((stratum == 1) & (rng.random(shape) < 3 * density / (1 - density)))
    strength = np.minimum(truth / reference[190_000], 1)
    own, lookup = (_answer(e, levels, strength, confusable, rng)[..., None] for e in (explanation, LOOKUP))
    return Sample(truth[..., None], own, lookup, stratum, np.where(levels > 5, 3, stratum))


def _answer(
    e: Explanation, levels: np.ndarray, strength: np.ndarray, confusable: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    shape = levels.shape
    recall = (e.weak + (e.strong - e.weak) * strength) * np.where(rng.random(shape) < e.miss, 0.2, 1)
    base = np.minimum(e.base * np.where(rng.random(shape) < e.hallucinate, 10, 1), 1)
    fires = rng.random(shape) < np.where(levels > 0, recall, np.where(confusable, e.confusable, base))
    hit = np.rint(levels + rng.normal(0, e.noise, shape))
    false = np.rint(rng.gamma(2, 2, shape))
    return np.where(fires, np.clip(np.where(levels > 0, hit, false), 1, 10), 0.0)


def main() -> int:
    """Draw, cover, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=2_000)
    parser.add_argument("--density", type=float, default=1e-3)
    asked = parser.parse_args()
    methods: dict[str, Callable[[Sample], Intervals]] = {
        "jackknife, 3 strata": lambda s: jackknife(*_sides(s), s.thirds, s.lookup),
        "jackknife, 4 strata": lambda s: jackknife(*_sides(s), s.quarters, s.lookup),
        "BCa, 3 strata": lambda s: bca(*_sides(s), s.thirds, s.lookup),
        "BCa, 4 strata": lambda s: bca(*_sides(s), s.quarters, s.lookup),
    }
    print("| windows | explanation | rho (lift) | mean bias |" + "".join(f" {name} |" for name in methods))
    print("| --- | --- | --- | --- |" + " --- |" * len(methods))
    for n_window in (60, 120):
        for name, explanation in EXPLANATIONS.items():
            rng = np.random.default_rng(n_window)
            whole = sample(explanation, asked.density, 1, 600_000, rng)
            drawn = sample(explanation, asked.density, asked.draws, n_window, rng)
            found = {method: run(drawn) for method, run in methods.items()}
            for i, statistic in enumerate(("", " (lift)")):
                value, mean = (_value(s, lift=bool(i)) for s in (whole, drawn))
                cells = (_coverage(intervals[i], float(value[0])) for intervals in found.values())
                line = f"| {n_window} | {name}{statistic} | {value[0]:.3f} | {np.nanmean(mean) - value[0]:+.3f} |"
                print(line + "".join(f" {cell} |" for cell in cells), flush=True)
    return 0


def _sides(s: Sample) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return s.truth, s.own, np.ones(s.truth.shape, dtype=bool)


def _value(s: Sample, *, lift: bool) -> Float[np.ndarray, " draw"]:
    own, mask = spearman(*_sides(s)), np.ones(s.truth.shape, dtype=bool)
    return own - spearman(s.truth, s.lookup, mask) if lift else own


def _coverage(interval: Interval, value: float) -> str:
    covered = (interval.low <= value) & (value <= interval.high)
    return f"{covered.mean():.3f} ({np.nanmean(interval.high - interval.low):.2f})"


if __name__ == "__main__":
    sys.exit(main())
