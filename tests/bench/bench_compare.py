"""Comparing four dictionaries of 10,000 scored features, and matching two of 65,536 in 512 dimensions.

    python tests/bench/bench_compare.py [--features 10000] [--width 65536]

Contrasts are computed on made-up scores, all six of them with every figure, each with 3,000 matched pairs; reading is
of a store of that many scores, as `compare` does it. Single runs: each takes many seconds. Computing is
processor time of the whole step, its preparation included.
"""

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np

from autointerp.compare.contrast import Pairs, Sides, correct, measure
from autointerp.compare.features import Features, entropy_tertiles
from autointerp.nearest import mutual, nearest
from autointerp.records import Explanation, FeatureId, TokenProfile
from autointerp.scores import FeatureScore, Score
from autointerp.store.runs import RunStore, ScoreKey

N_PAIR = 3_000
KEY = ScoreKey("graded-60", "lookup", "lookup")


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--features", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=65_536)
    asked = parser.parse_args()
    print("| what | seconds | of them computing | peak GB |\n| --- | --- | --- | --- |")
    jobs: tuple[tuple[str, Callable[[], float]], ...] = (
        (f"6 contrasts of 4 x {asked.features:,} features", lambda: contrasts(asked.features)),
        (f"reading 4 x {asked.features:,} scores", lambda: read_scores(asked.features)),
        (f"matching {asked.width:,} x {asked.width:,} x 512", lambda: match(asked.width)),
    )
    for name, work in jobs:
        before = time.process_time()
        seconds = work()
        computing = time.process_time() - before
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"| {name} | {seconds:.1f} | {computing:.1f} | {peak:.2f} |", flush=True)
    return 0


def contrasts(n: int) -> float:
    """All figures of every two of four dictionaries."""
    rng = np.random.default_rng(0)
    arms = [made_up(n, rng) for _ in range(4)]
    edges = entropy_tertiles(arms)
    started = time.perf_counter()
    found = []
    for i, (a, b) in enumerate(combinations(arms, 2)):
        rows, own = np.arange(N_PAIR), np.arange(n) < N_PAIR
        pairs = Pairs(False, rows, rows, np.ones(N_PAIR), False, own, own, N_PAIR, N_PAIR, 0.7, 0.9)
        found.append(measure(Sides(f"A{i}", f"B{i}", a, b, "dictionary", True, pairs, edges, 0)))
    correct(found)
    return time.perf_counter() - started


def made_up(n: int, rng: np.random.Generator) -> Features:
    """Scores of four qualities, densities over three decades."""
    value = np.clip(rng.choice([0.8, 0.5, 0.3, 0.0], n) + 0.1 * rng.standard_normal(n), -1, 1)
    density, lookup = 10 ** rng.uniform(-5, -2, n), value - 0.1 * rng.random(n)
    single = (rng.random(n) < 0.3).astype(float)
    return Features(np.arange(n), density, value, lookup, np.zeros(n), rng.uniform(0, 9, n), single)


def read_scores(n: int) -> float:
    """Every score of four dictionaries out of a store."""
    with tempfile.TemporaryDirectory() as folder:
        store = RunStore(Path(folder) / "store.sqlite")
        for name in "abcd":
            with store.step():
                for i in range(n):
                    feature = FeatureId(dictionary=name, index=i)
                    explanation = Explanation(
                        feature=feature, text="x", author="lookup", method="lookup", examples_digest=""
                    )
                    store.put_explanation(explanation, "graded-120x32", "lookup")
                    store.put_score(make_score(feature), 1, KEY, {})
        started = time.perf_counter()
        for name in "abcd":
            assert len(store.scores(name, KEY)) == n
        seconds = time.perf_counter() - started
        store.close()
    return seconds


def make_score(feature: FeatureId) -> FeatureScore:
    """As large as a real one."""
    one = Score(metric="spearman", value=0.5, low=0.3, high=0.7, interval="jackknife", n_windows=60, null_threshold=0.2)
    return FeatureScore(
        feature=feature,
        protocol="graded-60",
        simulator="lookup",
        n_windows=60,
        spearman=one,
        more=(one,) * 7,
        recall_by_decile=(0.5,) * 10,
        lookup=one,
        lift=one,
        shuffled=one,
        profile=TokenProfile(entropy_bits=3.0, single_token=False, n_distinct=9),
        per_stratum={"decile": 1.0, "uniform": 0.2},
    )


def match(width: int) -> float:
    """Nearest neighbours both ways between a dictionary and its own shuffled copy under noise."""
    rng = np.random.default_rng(1)
    a = rng.standard_normal((width, 512), dtype=np.float32).astype(np.float16)
    b = a[rng.permutation(width)] + (0.5 * rng.standard_normal((width, 512), dtype=np.float32)).astype(np.float16)
    started = time.perf_counter()
    found = mutual(nearest(a, b))
    seconds = time.perf_counter() - started
    assert len(found.a) == width
    return seconds


if __name__ == "__main__":
    sys.exit(main())
