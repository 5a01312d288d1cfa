"""What the statistics of a graded run cost: point values, null thresholds and intervals of many features.

    python tests/bench/bench_statistics.py [--features 100000] [--windows 60] [--repeats 3]

Prints wall and processor seconds, best of the repeats, and what scipy would take one feature after the other, measured
on the first 500 (its bootstrap: on the first 5) in the same run. The last tables are one feature a call.
"""

import argparse
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.stats

from autointerp.interpret.detection import auroc, average_precision, recall_by_decile, share_detected
from autointerp.interpret.intervals import bca, jackknife
from autointerp.interpret.nulls import null_threshold
from autointerp.interpret.statistics import kendall, mean_window_spearman, pearson, spearman, spearman_among_active

N_SCIPY = 500
N_SCIPY_BOOTSTRAP = 5
N_ALONE = 20


class Sample(NamedTuple):
    """Features of one size and kind, as `[feature, window, tok]`; `stratum` is 0 where active."""

    truth: np.ndarray
    own: np.ndarray
    lookup: np.ndarray
    levels: np.ndarray
    mask: np.ndarray
    stratum: np.ndarray

    def first(self, n: int) -> "Sample":
        return Sample(*(side[:n] for side in self))

    @property
    def sides(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.truth, self.own, self.mask


class Cost(NamedTuple):
    """Seconds."""

    wall: float
    processor: float


def sample(n_feature: int, n_window: int, n_tok: int) -> Sample:
    """Thirds; of an active window the one target fires, or a third of its positions; a judge that errs."""
    rng = np.random.default_rng(0)
    shape = (n_feature, n_window, n_tok)
    stratum = np.tile(np.arange(n_window) * 3 // n_window, (n_feature, 1))
    fires = (stratum == 0)[:, :, None] & (rng.random(shape) < (1.0 if n_tok == 1 else 0.35))
    truth = np.where(fires, rng.exponential(size=shape) + 0.02, 0.0)
    levels = np.where(fires, np.minimum(10, np.floor(10 * (1 - np.exp(0.02 - truth))) + 1), 0).astype(np.int8)
    own, lookup = (
        np.where(
            rng.random(shape) < np.where(fires, hit, false),
            np.clip(np.rint(np.where(fires, levels, 4) + rng.normal(0, noise, shape)), 1, 10),
            0,
        ).astype(np.int8)
        for hit, false, noise in ((0.85, 0.05, 1.5), (0.97, 0.3, 2.5))
    )
    return Sample(truth, own, lookup, levels, np.ones(shape, dtype=bool), stratum)


def measure(work: Callable[[], object], repeats: int) -> Cost:
    """The fastest of some calls."""
    costs = []
    for _ in range(repeats):
        wall, processor = time.perf_counter(), time.process_time()
        work()
        costs.append(Cost(time.perf_counter() - wall, time.process_time() - processor))
    return min(costs)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--features", type=int, default=100_000)
    parser.add_argument("--windows", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    graded = sample(asked.features, asked.windows, 1)
    tenth = graded.first(max(1, asked.features // 10))
    peers = _peers(graded)
    print(f"{asked.windows} windows of one target\n")
    print("| statistic | features | wall s | processor s | ms a feature | scipy, ms a feature | ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    points, total = _points(graded), Cost(0, 0)
    for name, work in points.items():
        cost = measure(work, asked.repeats)
        total = Cost(total.wall + cost.wall, total.processor + cost.processor)
        _print(name, asked.features, cost, peers.get(name))
    _print("all point values", asked.features, total)
    _print("null threshold, 2,000 draws", asked.features, measure(lambda: null_threshold(*graded.sides), asked.repeats))
    for name, part, work in (
        ("jackknife of Spearman and lift", graded, lambda: jackknife(*graded.sides, graded.stratum, graded.lookup)),
        ("BCa of Spearman", tenth, lambda: bca(*tenth.sides, tenth.stratum)),
        ("BCa of Spearman and lift", tenth, lambda: bca(*tenth.sides, tenth.stratum, tenth.lookup)),
    ):
        _print(name, len(part.truth), measure(work, asked.repeats), peers.get(name))
    for title, alone in (
        (f"graded, {asked.windows} windows", graded.first(1)),
        ("simulate, 48 windows of 16 tokens", sample(1, 48, 16)),
    ):
        _alone(title, alone)
    return 0


def _points(s: Sample) -> dict[str, Callable[[], object]]:
    weight = np.random.default_rng(1).uniform(1, 100, s.stratum.shape)
    return {
        "Spearman": lambda: spearman(*s.sides),
        "Spearman, weighted": lambda: spearman(*s.sides, weight=weight),
        "ceiling": lambda: spearman(s.truth, s.levels, s.mask),
        "Pearson": lambda: pearson(*s.sides),
        "Kendall tau-b": lambda: kendall(*s.sides),
        "Spearman among active": lambda: spearman_among_active(*s.sides),
        "AUROC": lambda: auroc(*s.sides),
        "average precision": lambda: average_precision(*s.sides),
        "recall by decile": lambda: recall_by_decile(s.own, s.levels),
        "share detected, two strata": lambda: [share_detected(s.own, s.mask, s.stratum == h) for h in (1, 2)],
    }


def _peers(s: Sample) -> dict[str, float]:
    """scipy's seconds a feature, in a loop."""
    pairs = list(zip(s.truth[:N_SCIPY, :, 0], s.own[:N_SCIPY, :, 0], strict=True))
    peers: dict[str, Callable[[np.ndarray, np.ndarray], object]] = {
        "Spearman": scipy.stats.spearmanr,
        "Pearson": scipy.stats.pearsonr,
        "Kendall tau-b": scipy.stats.kendalltau,
        "AUROC": lambda x, y: scipy.stats.mannwhitneyu(y[x > 0], y[x <= 0]),
    }
    seconds = {
        name: measure(lambda peer=peer: [peer(*pair) for pair in pairs], 2).wall / len(pairs)  # type: ignore[misc]
        for name, peer in peers.items()
    }
    bootstrap = measure(lambda: [_scipy_bca(*pair) for pair in pairs[:N_SCIPY_BOOTSTRAP]], 1)
    return {**seconds, "BCa of Spearman": bootstrap.wall / min(N_SCIPY_BOOTSTRAP, len(pairs))}


def _scipy_bca(x: np.ndarray, y: np.ndarray) -> object:
    return scipy.stats.bootstrap(
        (x.tolist(), y.tolist()),
        lambda a, b: float(scipy.stats.spearmanr(a, b).statistic),
        paired=True,
        vectorized=False,
        n_resamples=1_000,
        method="BCa",
    )


def _print(name: str, n: int, cost: Cost, peer: float | None = None) -> None:
    each = cost.wall / n * 1e3
    floor = f"{peer * 1e3:.3f} | {peer * 1e3 / each:.0f}" if peer else "- | -"
    print(f"| {name} | {n:,} | {cost.wall:.2f} | {cost.processor:.2f} | {each:.4f} | {floor} |", flush=True)


def _alone(title: str, s: Sample) -> None:
    """One feature a call, best of twenty."""
    print(f"\n{title}, one feature a call\n\n| statistic | wall ms | processor ms |\n| --- | --- | --- |")
    everything = _points(s)
    works: dict[str, Callable[[], object]] = {
        "all point values": lambda: [work() for work in everything.values()],
        "mean Spearman per window": lambda: mean_window_spearman(*s.sides),
        "null threshold": lambda: null_threshold(*s.sides),
        "jackknife of Spearman and lift": lambda: jackknife(*s.sides, s.stratum, s.lookup),
        "BCa of Spearman and lift": lambda: bca(*s.sides, s.stratum, s.lookup),
    }
    for name, work in works.items():
        cost = measure(work, N_ALONE)
        print(f"| {name} | {cost.wall * 1e3:.2f} | {cost.processor * 1e3:.2f} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
