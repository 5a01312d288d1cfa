"""The whole proof of comparisons on planted dictionaries, as a table: python tests/bench/prove_compare.py

docs/compare.md holds its output; tests/unit/compare/test_proof.py runs a part of it. Ends with 1 where a bar is missed.
"""

import sys
import time

import numpy as np

from tests.planted_dictionaries import make_pool, planned_numbers, prove

REPEATS, POWER_REPEATS = 2_000, 1_000
POOL, FRAGMENTS = 2_000, 20_000


def main() -> int:
    """Print the table."""
    started = time.perf_counter()
    pool = make_pool(POOL, FRAGMENTS)
    rows = prove(pool, REPEATS, POWER_REPEATS)
    print("| what | share of repeats | must be | repeats |\n| --- | --- | --- | --- |")
    for row in rows:
        bar = "–" if (row.low, row.high) == (0.0, 1.0) else f"{row.low:g} to {row.high:g}"
        print(f"| {row.what} | {row.share:.3f} | {bar} | {row.n:,} |")
    low, median, high = np.quantile(planned_numbers(pool, 200), [0.1, 0.5, 0.9]).tolist()
    print(
        f"\nPlanned numbers of features for that gap: {median:.0f}, and {low:.0f} to {high:.0f} in eight pilots of ten."
    )
    print(f"{time.perf_counter() - started:.0f} s")
    return int(not all(row.ok for row in rows))


if __name__ == "__main__":
    sys.exit(main())
