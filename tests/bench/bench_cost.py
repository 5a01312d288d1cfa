"""What a score costs in calls and tokens: each protocol at its default size, and at an interval of half-width .1.

    python tests/bench/bench_cost.py [--draws 1500]

Planted features of density 1e-3 (the selftest's generator), the good explanation, at three hit rates: the chance that a
hard negative is a true look-alike. Half-width .1 means 1.96 standard deviations of the score over draws, which shrink
with the root of the number of windows; windows are rounded up to whole requests. Tokens are pieces of the real
requests and answers.
"""

import argparse
import math
from dataclasses import replace

import numpy as np

from autointerp.interpret.questions import format_levels
from autointerp.llm.token_estimate import estimate_tokens
from autointerp.provenance import generator
from autointerp.selftest.generator import plant
from autointerp.selftest.measure import draw_scores
from autointerp.selftest.price import price_of
from autointerp.selftest.samplers import DESIGNS, BenchDesign, graded

HALF_WIDTH = 0.1
HIT_RATES = (1.0, 0.5, 0.2)
DENSITY = 1e-3
SEED = 0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=1500)
    n_draws = parser.parse_args().draws
    planted = plant(DENSITY, generator(SEED, "cost"))
    columns = (
        "protocol",
        "hit rate",
        "windows",
        "calls",
        "input",
        "output",
        "windows for ± .1",
        "calls",
        "input",
        "output",
    )
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    for name, design in DESIGNS.items():
        rated = [(rate, replace(design, draw=graded(design.n_windows, rate))) for rate in HIT_RATES]
        for rate, at_rate in rated if name.startswith("graded") else [(1.0, design)]:
            scores = draw_scores(at_rate, planted, n_draws, (SEED, name, rate)).scores["good"]
            needed = _windows_needed(at_rate, float(np.nanstd(scores, ddof=1)))
            now, then = _cost(at_rate), _cost(replace(at_rate, n_windows=needed))
            said = f"{rate:g}" if name.startswith("graded") else "-"
            print(f"| {name} | {said} | {design.n_windows} | {_row(now)} | {needed} | {_row(then)} |")


def _windows_needed(design: BenchDesign, sd: float) -> int:
    """Windows for the half-width, in whole requests."""
    windows = design.n_windows * (1.96 * sd / HALF_WIDTH) ** 2
    return design.windows_per_request * math.ceil(windows / design.windows_per_request)


def _cost(design: BenchDesign) -> tuple[int, int, int]:
    """Calls, input tokens and output tokens of one score."""
    calls, input_tokens = price_of(design)
    levels = design.n_scored * design.windows_per_request
    answer = format_levels([0] * levels, None)
    return calls, input_tokens, calls * estimate_tokens(answer)


def _row(cost: tuple[int, int, int]) -> str:
    return " | ".join(f"{value:,}" for value in cost)


if __name__ == "__main__":
    main()
